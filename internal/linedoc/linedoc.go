// Package linedoc reads YAML, JSON and TOML into one plain tree that remembers
// the line of everything, so that whoever reads a file into something typed can
// say where it is wrong.
//
// The readers of task files and of configuration call it. It knows nothing of
// what the documents mean, and never follows anything outside of them.
package linedoc

import "fmt"

// Kind is what a value is.
type Kind uint8

// The kinds of value.
const (
	Null Kind = iota
	Bool
	Number
	String
	List
	Table
)

func (k Kind) String() string {
	return [...]string{"nothing", "true or false", "a number", "text", "a list", "a table"}[k]
}

// Limits of a document.
const (
	// MaxDepth is how deep lists and tables may be nested.
	MaxDepth = 32
	// MaxFields is how many names one table may have.
	MaxFields = 1024
	// maxExpanded is how many values the aliases of a YAML document may add.
	maxExpanded = 1 << 20
)

// Value is a node of the tree.
type Value struct {
	Kind Kind
	// Plain is true for a scalar without quotes in a language (YAML, CSV) where
	// such a word is whatever its reader wants: Text is then also its text.
	Plain bool
	Bool  bool
	Num   float64
	// Text is a string's text, or a number's or word's as it stands in the source.
	Text   string
	Items  []Value
	Fields []Field
	// Line counts from 1.
	Line int
}

// Field is an entry of a table. No two of one table have the same name.
type Field struct {
	Name  string
	Line  int
	Value Value
}

// Error is a document that cannot be read.
type Error struct {
	Line int // from 1; 0 if unknown
	Text string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Text
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Text)
}

func errorf(line int, format string, args ...any) *Error {
	return &Error{line, fmt.Sprintf(format, args...)}
}

// add appends a field to a table and refuses a name that is there already.
func (v *Value) add(f Field) error {
	if v.has(f.Name) {
		return errorf(f.Line, "%q is there twice", f.Name)
	}
	if len(v.Fields) == MaxFields {
		return errorf(f.Line, "more than %d names in one table", MaxFields)
	}
	v.Fields = append(v.Fields, f)
	return nil
}

func (v *Value) has(name string) bool {
	for i := range v.Fields {
		if v.Fields[i].Name == name {
			return true
		}
	}
	return false
}
