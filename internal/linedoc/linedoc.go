// Package linedoc reads YAML, JSON and TOML into one plain tree that remembers
// the line of everything, so that whoever reads a file into something typed can
// say where it is wrong.
//
// Memory and time are proportional to the text, with a stated factor: texts are
// scanned for what would cost more, before a library is given them.
//
// The readers of task files and of configuration call it. It knows nothing of
// what the documents mean, and never follows anything outside of them.
package linedoc

import (
	"fmt"
	"strings"

	"github.com/rota-project/rota/internal/text"
)

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
	// MaxMarks is how many line ends, colons, dashes before blanks, and, counted
	// fourfold, commas and brackets a text in YAML may have: each may be a value, and
	// a value takes up to 1 KB to read, between brackets 2.5 KB.
	MaxMarks = 1 << 18
	// MaxValues is how many values one item of a JSON text may have: a task, or a
	// text that is no list.
	MaxValues = 1 << 16
	// The aliases of a YAML text may add a value for each of its bytes, and so many.
	extraExpanded, maxExpanded = 2048, 1 << 18
	// A text in TOML may have so many keys and headers, marks as above, and dots in
	// one key: its library takes time by the square of keys.
	maxTOMLKeys, maxTOMLMarks, maxTOMLDots = 1024, 1 << 14, 256
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

// Word is shown in an error as it stands, without the quotes that a text of the file has.
type Word string

// Unknown is what an error shows of a field that nobody knows.
const Unknown = Word("unknown field")

// Found is what an error shows of a value: a text in quotes, a number, true or false as it
// stands, anything else by its kind.
func (v Value) Found() any {
	switch v.Kind { //nolint:exhaustive // the rest is named by its kind
	case String:
		return text.Clip(v.Text, text.Short)
	case Number:
		return Word(text.Clip(v.Text, text.Short))
	case Bool:
		return v.Bool
	}
	return v.Kind
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
	return &Error{line, shorten(fmt.Sprintf(format, args...))}
}

// shorten keeps what a text quotes from making an error as long as the text.
func shorten(s string) string {
	const most = 300
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
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
