package linedoc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// YAML reads the documents of data, which may have so many marks (see MaxMarks;
// zero means that). Aliases are followed; merge keys ("<<") are
// names like any other, so whoever reads the tree refuses them.
//
// The library is the one that the YAML project itself keeps; its tree has the
// line of each node.
func YAML(data []byte, marks int) ([]Value, error) {
	if marks == 0 {
		marks = MaxMarks
	}
	// JSON is YAML, mostly on one line, and costs a tenth where it is read as what it is.
	if text := bytes.TrimLeft(data, " \t\r\n"); len(text) > 0 && (text[0] == '{' || text[0] == '[') && json.Valid(text) && count(data, "\n\r:?")+4*count(data, ",[{") <= marks {
		docs, err := JSON(data)
		for i := range docs {
			plain(&docs[i])
		}
		return docs, err
	}
	if err := checkMarks(data, marks); err != nil {
		return nil, err
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	budget := min(len(data)+extraExpanded, maxExpanded)
	var docs []Value
	for {
		var node yaml.Node
		err := dec.Decode(&node)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, yamlError(err)
		}
		v, err := yamlValue(&node, 0, nil, &budget)
		if err != nil {
			return nil, err
		}
		docs = append(docs, v)
	}
}

// plain makes the numbers and words of JSON what they are in YAML: a text, too, where
// one is wanted.
func plain(v *Value) {
	switch v.Kind { //nolint:exhaustive // texts have quotes
	case Number:
		v.Plain = true
	case Bool:
		v.Plain, v.Text = true, strconv.FormatBool(v.Bool)
	}
	for i := range v.Items {
		plain(&v.Items[i])
	}
	for i := range v.Fields {
		plain(&v.Fields[i].Value)
	}
}

func yamlValue(n *yaml.Node, depth int, inAlias *yaml.Node, budget *int) (Value, error) {
	v := Value{Line: n.Line}
	if depth > MaxDepth {
		return v, errorf(n.Line, "nested deeper than %d", MaxDepth)
	}
	if inAlias != nil {
		if *budget--; *budget < 0 {
			return v, errorf(n.Line, "aliases add more values than the text has bytes")
		}
	}
	switch n.Kind { //nolint:exhaustive // the rest is scalars
	case yaml.DocumentNode:
		if len(n.Content) == 0 {
			return v, nil
		}
		return yamlValue(n.Content[0], depth, inAlias, budget)
	case yaml.AliasNode:
		return yamlValue(n.Alias, depth+1, n, budget)
	case yaml.SequenceNode:
		v.Kind, v.Items = List, make([]Value, 0, len(n.Content))
		for _, c := range n.Content {
			item, err := yamlValue(c, depth+1, inAlias, budget)
			if err != nil {
				return v, err
			}
			v.Items = append(v.Items, item)
		}
		return v, nil
	case yaml.MappingNode:
		v.Kind = Table
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if k.Kind != yaml.ScalarNode {
				return v, errorf(k.Line, "a name has to be a word")
			}
			value, err := yamlValue(n.Content[i+1], depth+1, inAlias, budget)
			if err != nil {
				return v, err
			}
			if err := v.add(Field{k.Value, k.Line, value}); err != nil {
				return v, err
			}
		}
		return v, nil
	}
	return yamlScalar(n, v)
}

func yamlScalar(n *yaml.Node, v Value) (Value, error) {
	v.Text = n.Value
	v.Plain = n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	switch n.ShortTag() {
	case "!!null":
		return Value{Line: n.Line}, nil
	case "!!bool":
		v.Kind = Bool
		if err := n.Decode(&v.Bool); err != nil {
			return v, errorf(n.Line, "%q: neither true nor false", n.Value)
		}
	case "!!int", "!!float":
		v.Kind = Number
		if err := n.Decode(&v.Num); err != nil {
			return v, errorf(n.Line, "%q: no number that can be represented", n.Value)
		}
	case "!!str", "!!timestamp", "!!merge":
		v.Kind = String
	default:
		return v, errorf(n.Line, "the tag %s is not known", n.Tag)
	}
	return v, nil
}

var yamlLine = regexp.MustCompile(`\bline (\d+)(?:, column \d+)?:? ?`)

// yamlError makes one line of what the library says.
func yamlError(err error) *Error {
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "go-yaml ")
	out := &Error{}
	if found := yamlLine.FindStringSubmatch(text); found != nil {
		out.Line, _ = strconv.Atoi(found[1]) // digits
		text = yamlLine.ReplaceAllString(text, "")
	}
	out.Text = shorten("no YAML: " + strings.Join(strings.Fields(text), " "))
	return out
}
