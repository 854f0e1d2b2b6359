package configfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// explain says where in the file an error of the decoder is, and what is wanted
// there, in the file's words: of Go's types nobody who writes it has heard.
func explain(raw []byte, err error) error {
	err = explained(raw, err)
	if text := err.Error(); len(text) > maxText { // it quotes what is wrong
		return errors.New(strings.ToValidUTF8(text[:maxText], "") + "...")
	}
	return err
}

// maxText is the longest error, in bytes.
const maxText = 500

func explained(raw []byte, err error) error {
	var all *yaml.LoadErrors
	if !errors.As(err, &all) || len(all.Errors) == 0 {
		return errors.New(strings.TrimPrefix(oneLine(err), "yaml: "))
	}
	e := all.Errors[0]
	what, kind, unknown := strings.Cut(e.Message, " not found in type ")
	if !unknown {
		what, kind, _ = strings.Cut(e.Message, " into ")
	}
	var doc yaml.Node
	if yaml.NewDecoder(bytes.NewReader(raw)).Decode(&doc) != nil || len(doc.Content) == 0 {
		return errors.New(oneLine(err)) // cannot be: it was read before
	}
	path, _ := keyAt(doc.Content[0], "", e.Mark.Line, e.Mark.Column, unknown)
	if path != "" {
		path += ": "
	}
	if unknown {
		return fmt.Errorf("line %d: %sunknown key", e.Mark.Line, path)
	}
	if _, value, ok := strings.Cut(what, "`"); ok {
		path += "`" + value + ": "
	}
	return fmt.Errorf("line %d: %swant %s", e.Mark.Line, path, wanted(kind))
}

// keyAt answers the path of the value at a position, or of the key there.
func keyAt(n *yaml.Node, path string, line, column int, key bool) (string, bool) {
	here := func(n *yaml.Node) bool { return n.Line == line && n.Column == column }
	if !key && here(n) {
		return path, true
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for i, c := range n.Content {
			if p, ok := keyAt(c, fmt.Sprintf("%s[%d]", path, i), line, column, key); ok {
				return p, true
			}
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			p := n.Content[i].Value
			if path != "" {
				p = path + "." + p
			}
			if key && here(n.Content[i]) {
				return p, true
			}
			if p, ok := keyAt(n.Content[i+1], p, line, column, key); ok {
				return p, true
			}
		}
	}
	return path, false
}

// wanted puts a Go type into words.
func wanted(kind string) string {
	switch {
	case kind == "time.Duration":
		return `a duration such as "5s"`
	case kind == "bool":
		return "true or false"
	case kind == "string":
		return "text"
	case kind == "float64":
		return "a number"
	case kind == "uint":
		return "a whole number, zero or more"
	case kind == "int":
		return "a whole number"
	case strings.HasPrefix(kind, "[]"):
		return "a list"
	}
	return "keys and values"
}
