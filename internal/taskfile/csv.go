package taskfile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/linedoc"
	"github.com/rota-project/rota/internal/text"
)

// maxColumns is how many columns a file may have.
const maxColumns = 1024

// nested are the fields whose cell is JSON.
var nested = map[string]bool{"resources": true, "require": true, "prefer": true, "affinity": true, "spread": true}

// readCSV reads a file whose first line names the columns.
func (l *list) readCSV(data []byte, mapping map[string]string) error {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	r.ReuseRecord = true
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil
	}
	l.said = true
	if err != nil {
		return l.csvError(err)
	}
	line, _ := r.FieldPos(0)
	cells, err := newCells(slices.Clone(header), mapping)
	if err != nil {
		return &Error{File: l.file, Line: line, Err: err}
	}
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return l.csvError(err)
		}
		line, _ := r.FieldPos(0)
		v, err := cells.task(record, line)
		if err != nil {
			return &Error{File: l.file, Line: line, Record: len(l.tasks) + 1, Err: err}
		}
		if err := l.add(v); err != nil {
			return err
		}
	}
}

func (l *list) csvError(err error) error {
	var pe *csv.ParseError
	if errors.As(err, &pe) {
		return &Error{File: l.file, Line: pe.Line, Err: fmt.Errorf("no CSV: %w", pe.Err)}
	}
	return &Error{File: l.file, Err: err}
}

// cell makes the value of one field out of the cells of a record.
type cell struct {
	field string
	parts []part
}

// part is text, or the column with the index col if text is empty.
type part struct {
	text string
	col  int
}

type cells []cell

func newCells(header []string, mapping map[string]string) (cells, error) {
	if len(header) > maxColumns {
		return nil, &rota.FieldError{Field: "columns", Value: len(header), Want: fmt.Sprintf("at most %d", maxColumns)}
	}
	columns := make(map[string]int, len(header))
	for i, name := range header {
		if _, twice := columns[name]; twice {
			return nil, &rota.FieldError{Field: name, Value: linedoc.Word("column"), Want: "each column once"}
		}
		columns[name] = i
	}
	if mapping != nil {
		return mapped(columns, mapping)
	}
	if _, ok := columns["id"]; !ok {
		return nil, &rota.FieldError{Field: "id", Value: linedoc.Word("no such column"), Want: "a first line that names the columns, id among them"}
	}
	var cs cells
	for i, name := range header {
		if !isField(name) {
			return nil, unknownField(name)
		}
		cs = append(cs, cell{name, []part{{col: i}}})
	}
	return cs, nil
}

// mapped parses the texts of Options.Columns.
func mapped(columns map[string]int, mapping map[string]string) (cells, error) {
	var cs cells
	for _, field := range slices.Sorted(maps.Keys(mapping)) {
		if !isField(field) {
			return nil, unknownField(field)
		}
		c := cell{field: field}
		for rest := mapping[field]; rest != ""; {
			text, after, found := strings.Cut(rest, "{")
			if text != "" {
				c.parts = append(c.parts, part{text: text})
			}
			if !found {
				break
			}
			name, after, closed := strings.Cut(after, "}")
			if !closed {
				return nil, &rota.FieldError{Field: field, Value: mapping[field], Want: "a } for each {"}
			}
			col, there := columns[name]
			if !there {
				return nil, &rota.FieldError{Field: field, Value: name, Want: "one of the columns " + strings.Join(slices.Sorted(maps.Keys(columns)), ", ")}
			}
			c.parts = append(c.parts, part{col: col})
			rest = after
		}
		cs = append(cs, c)
	}
	if _, ok := mapping["id"]; !ok {
		return nil, &rota.FieldError{Field: "id", Value: linedoc.Word("no such column"), Want: "a text that makes the id"}
	}
	return cs, nil
}

// task returns a record as a table of plain words. Empty cells are not there.
func (cs cells) task(record []string, line int) (linedoc.Value, error) {
	v := linedoc.Value{Kind: linedoc.Table, Line: line, Fields: make([]linedoc.Field, 0, len(cs))}
	for _, c := range cs {
		text := c.text(record)
		if text == "" {
			continue
		}
		value := linedoc.Value{Kind: linedoc.String, Plain: true, Text: text, Line: line}
		if nested[c.field] {
			var err error
			if value, err = jsonCell(c.field, text, line); err != nil {
				return v, err
			}
		}
		v.Fields = append(v.Fields, linedoc.Field{Name: c.field, Line: line, Value: value})
	}
	return v, nil
}

func (c cell) text(record []string) string {
	if len(c.parts) == 1 && c.parts[0].text == "" {
		return record[c.parts[0].col]
	}
	var b strings.Builder
	for _, p := range c.parts {
		if p.text != "" {
			b.WriteString(p.text)
		} else {
			b.WriteString(record[p.col])
		}
	}
	return b.String()
}

func jsonCell(field, cell string, line int) (linedoc.Value, error) {
	values, err := linedoc.JSON([]byte(cell))
	if err != nil || len(values) != 1 {
		return linedoc.Value{}, &rota.FieldError{Field: field, Value: text.Clip(cell, text.Short), Want: "one value of JSON"}
	}
	setLine(&values[0], line)
	return values[0], nil
}

// setLine gives all of a cell the line of its record.
func setLine(v *linedoc.Value, line int) {
	v.Line = line
	for i := range v.Items {
		setLine(&v.Items[i], line)
	}
	for i := range v.Fields {
		v.Fields[i].Line = line
		setLine(&v.Fields[i].Value, line)
	}
}
