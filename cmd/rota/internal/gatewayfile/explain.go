package gatewayfile

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/rota-project/rota"
)

// explain says where in the file an error of the decoder is, and what is wanted
// there, in the file's words: of Go's types nobody who writes it has heard.
func explain(doc *yaml.Node, err error) error {
	err = explained(doc, err)
	if text := err.Error(); len(text) > maxText { // it quotes what is wrong
		return errors.New(strings.ToValidUTF8(text[:maxText], "") + "...")
	}
	return err
}

// maxText is the longest error, in bytes.
const maxText = 500

func explained(doc *yaml.Node, err error) error {
	var all *yaml.LoadErrors
	if !errors.As(err, &all) || len(all.Errors) == 0 {
		return errors.New(strings.TrimPrefix(oneLine(err), "yaml: "))
	}
	e := all.Errors[0]
	what, kind, unknown := strings.Cut(e.Message, " not found in type ")
	if !unknown {
		what, kind, _ = strings.Cut(e.Message, " into ")
	}
	path, _ := keyAt(doc, "", e.Mark.Line, e.Mark.Column, unknown)
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

// located says where in the file a field that is refused is, and what it says there
// as it is written.
func located(doc *yaml.Node, err error) error {
	var fe *rota.FieldError
	if !errors.As(err, &fe) || doc == nil {
		return err
	}
	n, whole := nodeAt(doc, fe.Field)
	out := *fe
	if whole && n.Kind == yaml.ScalarNode {
		if out.Value = any(written(n.Value)); n.Tag == "!!str" && !isDuration(n.Value) {
			out.Value = n.Value
		}
	}
	return fmt.Errorf("line %d: %w", n.Line, &out)
}

// written is a value as the file has it, shown without quotes.
type written string

func isDuration(s string) bool {
	_, err := time.ParseDuration(s)
	return err == nil
}

// nodeAt finds the value of a path, or what of it there is. Names of functions may
// have dots in them.
func nodeAt(n *yaml.Node, path string) (_ *yaml.Node, whole bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if path == "" {
		return n, true
	}
	best := n
	switch n.Kind { //nolint:exhaustive // the rest has nothing below it
	case yaml.SequenceNode:
		index, rest, ok := strings.Cut(strings.TrimPrefix(path, "["), "]")
		if i, err := strconv.Atoi(index); ok && err == nil && i >= 0 && i < len(n.Content) {
			return nodeAt(n.Content[i], strings.TrimPrefix(rest, "."))
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			rest, ok := strings.CutPrefix(path, n.Content[i].Value)
			if !ok || rest != "" && rest[0] != '.' && rest[0] != '[' {
				continue
			}
			found, whole := nodeAt(n.Content[i+1], strings.TrimPrefix(rest, "."))
			if whole {
				return found, true
			}
			best = found
		}
	}
	return best, false
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
