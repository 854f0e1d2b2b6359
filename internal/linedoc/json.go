package linedoc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// JSON reads the values of data one after another, as in JSON lines.
func JSON(data []byte) ([]Value, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	p := &jsonParser{data: data, line: 1}
	p.dec = json.NewDecoder(bytes.NewReader(data))
	p.dec.UseNumber()
	var values []Value
	for {
		tok, err := p.dec.Token()
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			return nil, p.fail(err)
		}
		v, err := p.value(tok, 0)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
}

type jsonParser struct {
	data []byte
	dec  *json.Decoder
	seen int // up to which offset lines are counted
	line int
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
	v.Kind = Table
	for p.dec.More() {
		tok, err := p.dec.Token()
		if err != nil {
			return v, p.fail(err)
		}
		f := Field{Line: p.at()}
		f.Name, _ = tok.(string) // the decoder lets nothing else be a name
		if tok, err = p.dec.Token(); err != nil {
			return v, p.fail(err)
		}
		if f.Value, err = p.value(tok, depth+1); err != nil {
			return v, err
		}
		if err := v.add(f); err != nil {
			return v, err
		}
	}
	return v, p.end()
}

func (p *jsonParser) end() error {
	if _, err := p.dec.Token(); err != nil {
		return p.fail(err)
	}
	return nil
}
