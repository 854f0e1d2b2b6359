package linedoc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// JSON reads the values of data one after another, as in JSON lines. Together they
// may have MaxValues.
func JSON(data []byte) ([]Value, error) {
	var values []Value
	p := newJSON(data)
	err := p.each(func(tok json.Token) error {
		v, err := p.value(tok, 0)
		values = append(values, v)
		return err
	})
	if err != nil {
		return nil, err
	}
	return values, nil
}

// JSONItems reads values one after another and keeps none: item is called for each
// item of a list, at the top or under the name list of a table there, and doc for
// each value at the top, without those items. The first error ends it. Each item
// may have MaxValues values.
func JSONItems(data []byte, list string, item, doc func(Value) error) error {
	p := newJSON(data)
	return p.each(func(tok json.Token) error {
		p.values = 0
		v := Value{Line: p.at()}
		switch tok {
		case json.Delim('['):
			v.Kind = List
			if err := p.items(0, item); err != nil {
				return err
			}
		case json.Delim('{'):
			err := p.fields(&v, 0, func(f *Field, tok json.Token) (bool, error) {
				if f.Name != list || tok != json.Delim('[') {
					return false, nil
				}
				f.Value = Value{Kind: List, Line: p.at()}
				return true, p.items(1, item)
			})
			if err != nil {
				return err
			}
		default:
			var err error
			if v, err = p.value(tok, 0); err != nil {
				return err
			}
		}
		return doc(v)
	})
}

func newJSON(data []byte) *jsonParser {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	p := &jsonParser{data: data, line: 1}
	p.dec = json.NewDecoder(bytes.NewReader(data))
	p.dec.UseNumber()
	return p
}

// each calls f for the first token of each value at the top.
func (p *jsonParser) each(f func(json.Token) error) error {
	for {
		tok, err := p.dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return p.fail(err)
		}
		if err := f(tok); err != nil {
			return err
		}
	}
}

type jsonParser struct {
	data []byte
	dec  *json.Decoder
	seen int // up to which offset lines are counted
	line int
	// values are those that the item has so far.
	values int
}

// at returns the line of the token that was read last.
func (p *jsonParser) at() int { return p.lineOf(int(p.dec.InputOffset())) }

func (p *jsonParser) lineOf(offset int) int {
	if offset = min(offset, len(p.data)); offset > p.seen {
		p.line += bytes.Count(p.data[p.seen:offset], []byte("\n"))
		p.seen = offset
	}
	return p.line
}

func (p *jsonParser) fail(err error) *Error {
	line := p.at()
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		line = p.lineOf(int(syntax.Offset))
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return errorf(p.lineOf(len(p.data)), "the text ends in the middle of a value")
	}
	return errorf(line, "no JSON: %s", strings.TrimPrefix(err.Error(), "json: "))
}

func (p *jsonParser) value(tok json.Token, depth int) (Value, error) {
	v := Value{Line: p.at()}
	if depth > MaxDepth {
		return v, errorf(v.Line, "nested deeper than %d", MaxDepth)
	}
	if p.values++; p.values > MaxValues {
		return v, errorf(v.Line, "more than %d values", MaxValues)
	}
	switch tok := tok.(type) {
	case nil:
	case bool:
		v.Kind, v.Bool = Bool, tok
	case string:
		v.Kind, v.Text = String, tok
	case json.Number:
		v.Kind, v.Text = Number, tok.String()
		f, err := tok.Float64()
		if err != nil {
			return v, errorf(v.Line, "%s: no number that can be represented", tok)
		}
		v.Num = f
	case json.Delim:
		if tok == '[' {
			return p.list(v, depth)
		}
		return p.table(v, depth)
	}
	return v, nil
}

func (p *jsonParser) list(v Value, depth int) (Value, error) {
	v.Kind = List
	for p.dec.More() {
		tok, err := p.dec.Token()
		if err != nil {
			return v, p.fail(err)
		}
		item, err := p.value(tok, depth+1)
		if err != nil {
			return v, err
		}
		v.Items = append(v.Items, item)
	}
	return v, p.end()
}

func (p *jsonParser) table(v Value, depth int) (Value, error) {
	err := p.fields(&v, depth, nil)
	return v, err
}

// items reads a list to its end and hands its items over.
func (p *jsonParser) items(depth int, item func(Value) error) error {
	for p.dec.More() {
		tok, err := p.dec.Token()
		if err != nil {
			return p.fail(err)
		}
		p.values = 0
		v, err := p.value(tok, depth+1)
		if err != nil {
			return err
		}
		if err := item(v); err != nil {
			return err
		}
	}
	return p.end()
}

// fields reads a table to its end. taken may read a value itself, whose first
// token it is given.
func (p *jsonParser) fields(v *Value, depth int, taken func(*Field, json.Token) (bool, error)) error {
	v.Kind = Table
	for p.dec.More() {
		tok, err := p.dec.Token()
		if err != nil {
			return p.fail(err)
		}
		f := Field{Line: p.at()}
		f.Name, _ = tok.(string) // the decoder lets nothing else be a name
		if tok, err = p.dec.Token(); err != nil {
			return p.fail(err)
		}
		done := false
		if taken != nil {
			done, err = taken(&f, tok)
		}
		if !done && err == nil {
			f.Value, err = p.value(tok, depth+1)
		}
		if err != nil {
			return err
		}
		if err := v.add(f); err != nil {
			return err
		}
	}
	return p.end()
}

func (p *jsonParser) end() error {
	if _, err := p.dec.Token(); err != nil {
		return p.fail(err)
	}
	return nil
}
