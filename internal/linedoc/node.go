package linedoc

import (
	"bytes"
	"errors"
	"io"

	"go.yaml.in/yaml/v4"
)

// maxNames is how many names a table of a YAMLNode may have: the library compares
// them each with each.
const maxNames = 2048

// YAMLNode reads the one document of data, which may have so many marks (see
// MaxMarks), as the library's own tree: for those who fill their types from it. It
// is nil if data has no document. Names are unique in each table, and nothing is
// nested deeper than MaxDepth, and aliases add no more values than the text has
// bytes. The error is an *Error.
func YAMLNode(data []byte, marks int) (*yaml.Node, error) {
	if err := checkMarks(data, marks); err != nil {
		return nil, err
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil //nolint:nilnil // nothing is a document, too
	} else if err != nil {
		return nil, yamlError(err)
	}
	c := nodeChecker{min(len(data)+extraExpanded, maxExpanded)}
	for _, root := range doc.Content {
		if err := c.node(root, 0, false); err != nil {
			return nil, err
		}
	}
	if err := dec.Decode(&next); err == nil {
		return nil, errorf(next.Line, "more than one document")
	} else if !errors.Is(err, io.EOF) {
		return nil, yamlError(err)
	}
	if len(doc.Content) == 0 {
		return nil, nil //nolint:nilnil // as above
	}
	return doc.Content[0], nil
}

// nodeChecker has the number of values that aliases may still add.
type nodeChecker struct{ budget int }

func (c *nodeChecker) node(n *yaml.Node, depth int, inAlias bool) error {
	if depth > MaxDepth {
		return errorf(n.Line, "nested deeper than %d", MaxDepth)
	}
	if inAlias {
		if c.budget--; c.budget < 0 {
			return errorf(n.Line, "aliases add more values than the text has bytes")
		}
	}
	switch n.Kind { //nolint:exhaustive // the rest has nothing below it
	case yaml.AliasNode:
		return c.node(n.Alias, depth+1, true)
	case yaml.MappingNode:
		if err := checkNames(n); err != nil {
			return err
		}
	}
	for _, below := range n.Content {
		if err := c.node(below, depth+1, inAlias); err != nil {
			return err
		}
	}
	return nil
}

func checkNames(n *yaml.Node) error {
	if len(n.Content) > 2*maxNames {
		return errorf(n.Line, "more than %d names in one table", maxNames)
	}
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind == yaml.ScalarNode && seen[k.Value] {
			return errorf(k.Line, "%q is there twice", k.Value)
		}
		seen[k.Value] = true
	}
	return nil
}
