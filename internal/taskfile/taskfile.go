// Package taskfile reads lists of tasks from YAML, JSON, JSON lines and CSV.
//
// The fields of a task have the names of the API: id, kind, group, key, weight,
// priority, payload or payload_base64, replicas, mode, resources, require,
// prefer, affinity, spread, gang, pinned, preempt. A document is one task, a
// list of tasks, or a table with such a list under "tasks"; YAML may have
// several documents, JSON several values one after another. A list without tasks
// says so: [], or in CSV the line of columns alone. Everything else without tasks
// is an error: nothing, white space or comments, null, and a null under "tasks", as
// it is when all of its items are commented out.
//
// A CSV file starts with a line that names its columns; cells of fields that
// are no plain value (resources, require, ...) hold JSON. A file whose columns
// have other names is read with Options.Columns.
//
// The command line, the scheduler's watched files and polled URLs, its API, and rota dev
// call it. It reads what it is given and nothing else, and it takes a list
// whole or not at all: the first thing that is wrong is an *Error which says
// where.
package taskfile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/rota-project/rota"
)

// Limits of a list.
const (
	// MaxBytes is the most bytes that a list may have.
	MaxBytes = 512 << 20
	// MaxYAMLBytes is the most bytes that a list in YAML may have, within what
	// linedoc.MaxMarks allows: its tree takes many times the text. Longer lists are
	// better written by programs, as JSON lines or CSV, which are read task by task.
	MaxYAMLBytes = 32 << 20
	// MaxTasks is the most tasks that a list may have.
	MaxTasks = 5_000_000
)

// Format is how a list is written.
type Format string

// The formats. JSON and JSONLines are read alike.
const (
	YAML      Format = "yaml"
	JSON      Format = "json"
	JSONLines Format = "jsonl"
	CSV       Format = "csv"
)

// Options say how to read a list. The zero value is right for the formats above.
type Options struct {
	// Format is the format. Empty: by the extension of the file's name (yaml,
	// yml, json, jsonl, ndjson, csv), else by the first bytes.
	Format Format
	// Columns, if not nil, says how the fields of a task are made of the columns
	// of a CSV file: a field's name and a text in which {column} stands for the
	// column's cell. {"id": "{origin}-{destination}", "weight": "{count}"} reads
	// a list of routes. Fields that are not named are not set, and columns that
	// are not named are not read. Only for CSV.
	Columns map[string]string
	// MaxTasks is the most tasks that the list may have. Zero means the package's MaxTasks.
	MaxTasks int
}

// Error says what is wrong with a list, and where. It wraps a *rota.FieldError
// if the fault is a field's.
type Error struct {
	File   string // the name of the file, "standard input", or an URL
	Line   int    // from 1; 0 if unknown
	Record int    // the number of the task in the list, from 1; 0 if it is none's
	Err    error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Record > 0 {
		fmt.Fprintf(&b, ": task %d", e.Record)
	}
	return b.String() + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// ReadFile reads the list in the named file.
func ReadFile(name string, o Options) ([]rota.Task, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return Read(f, name, o)
}

// Read reads a list from r. name is for errors, and for the format if Options
// does not say it.
func Read(r io.Reader, name string, o Options) ([]rota.Task, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return Parse(data, name, o)
}

// Parse reads a list from data.
func Parse(data []byte, name string, o Options) ([]rota.Task, error) {
	if len(data) > MaxBytes {
		return nil, &Error{File: name, Err: fmt.Errorf("more than %d bytes", MaxBytes)}
	}
	format := o.Format
	if format == "" {
		format = formatOf(name)
	}
	if format == "" {
		format = sniff(data)
	}
	if o.Columns != nil && format != CSV {
		return nil, &Error{File: name, Err: fmt.Errorf("columns can only be mapped in a CSV file; this is %s", format)}
	}
	l := newList(name, cmp.Or(o.MaxTasks, MaxTasks))
	var err error
	switch format {
	case YAML:
		err = l.readYAML(data)
	case JSON, JSONLines:
		err = l.readJSON(data)
	case CSV:
		err = l.readCSV(data, o.Columns)
	default:
		err = &Error{File: name, Err: &rota.FieldError{Field: "format", Value: string(format), Want: "yaml, json, jsonl or csv"}}
	}
	if err != nil {
		return nil, err
	}
	if !l.said {
		return nil, &Error{File: name, Err: errNothing}
	}
	return l.tasks, nil
}

// errNothing is the answer to a file in which nothing is: one that is about to be
// written, or was cut off. Taken for a list, it would end every task of a source.
var errNothing = errors.New("nothing in it; a list without tasks is [], or in CSV the line of columns alone")

// formatOf goes by the extension; name may also be an URL.
func formatOf(name string) Format {
	name, _, _ = strings.Cut(name, "?")
	switch strings.ToLower(path.Ext(name)) {
	case ".yaml", ".yml":
		return YAML
	case ".json":
		return JSON
	case ".jsonl", ".ndjson":
		return JSONLines
	case ".csv":
		return CSV
	}
	return ""
}

// sniff goes by the first line that says something: JSON starts with a
// bracket, a CSV's header is words with commas between, anything else is YAML.
func sniff(data []byte) Format {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		switch {
		case len(line) == 0 || line[0] == '#':
			continue
		case line[0] == '{' || line[0] == '[':
			return JSON
		case bytes.ContainsAny(line, ":") || bytes.HasPrefix(line, []byte("- ")) || bytes.HasPrefix(line, []byte("---")) || line[0] == '%':
			return YAML
		}
		return CSV
	}
	return YAML
}
