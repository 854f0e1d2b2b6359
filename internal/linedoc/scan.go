package linedoc

import (
	"bytes"

	"go.yaml.in/yaml/v4"
)

// CheckYAML refuses a text that would cost more to read than its marks allow (see
// MaxMarks). It is for those who give YAML to a library themselves; the error is
// an *Error.
func CheckYAML(data []byte, marks int) error {
	if err := checkMarks(data, marks); err != nil {
		return err
	}
	// The library compares the names of a table each with each.
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var node yaml.Node
		if dec.Decode(&node) != nil {
			return nil //nolint:nilerr // the end, or a fault, of which whoever reads it will tell
		}
		if err := checkNames(&node); err != nil {
			return err
		}
	}
}

// maxNames is how many names a table may have that a library reads itself.
const maxNames = 2048

func checkNames(n *yaml.Node) error {
	if n.Kind == yaml.MappingNode && len(n.Content) > 2*maxNames {
		return errorf(n.Line, "more than %d names in one table", maxNames)
	}
	if n.Kind == yaml.MappingNode {
		seen := make(map[string]bool, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if k.Kind == yaml.ScalarNode && seen[k.Value] {
				return errorf(k.Line, "%q is there twice", k.Value)
			}
			seen[k.Value] = true
		}
	}
	for _, c := range n.Content {
		if err := checkNames(c); err != nil {
			return err
		}
	}
	return nil
}

func checkMarks(data []byte, marks int) error {
	// Values between brackets cost the library several times what others do.
	n := count(data, "\n\r:?") + 4*count(data, ",[{") + bytes.Count(data, []byte("- ")) + bytes.Count(data, []byte("-\t"))
	if n > marks {
		return errorf(0, "more than %d line ends, colons and dashes, or commas and brackets that count fourfold", marks)
	}
	return nil
}

// checkTOML refuses what would take time by the square, or too many values.
func checkTOML(data []byte) error {
	keys, dots, line := 0, 0, 1
	begun := false // something is on this line
	for _, c := range data {
		switch c {
		case '=':
			keys++
			dots = 0
		case '.':
			if dots++; dots > maxTOMLDots {
				return errorf(line, "a key of more than %d parts", maxTOMLDots)
			}
		case '[':
			if !begun {
				keys++
			}
			dots = 0
		case ',', '{':
			dots = 0
		case '\n':
			line++
			dots, begun = 0, false
			continue
		case ' ', '\t', '\r':
			continue
		}
		begun = true
		if keys > maxTOMLKeys {
			return errorf(line, "more than %d keys and tables", maxTOMLKeys)
		}
	}
	if n := count(data, ",[{="); n > maxTOMLMarks {
		return errorf(0, "more than %d values", maxTOMLMarks)
	}
	return nil
}

func count(data []byte, marks string) (n int) {
	for i := range len(marks) {
		n += bytes.Count(data, []byte{marks[i]})
	}
	return n
}
