package engine

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/linedoc"
	"github.com/rota-project/rota/internal/text"
)

// MaxFile is the maximum size of a file of pools in bytes.
const MaxFile = 1 << 20

// FileError is an error in a file of pools, with its position. It wraps a *rota.FieldError
// if a field is invalid.
type FileError struct {
	File string // its name, or "standard input"
	Line int    // from 1; 0 if unknown
	Err  error
}

func (e *FileError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
	}
	return e.File + ": " + e.Err.Error()
}

func (e *FileError) Unwrap() error { return e.Err }

// Read parses pools from YAML or JSON: one pool, a list of pools, or an object with such a
// list under "pools"; YAML may have several documents. Fields have the names of the API,
// except that times are written as durations ("idle_after: 10m") and that a size may be a
// single number. The pools are valid; their defaults are not filled in. The error is a
// *FileError for the first fault.
func Read(name string, data []byte) ([]Pool, error) {
	if len(data) > MaxFile {
		return nil, &FileError{File: name, Err: fmt.Errorf("more than %d bytes", MaxFile)}
	}
	docs, err := linedoc.YAML(data, linedoc.MaxMarks)
	if err != nil {
		var de *linedoc.Error
		if errors.As(err, &de) {
			return nil, &FileError{name, de.Line, errors.New(de.Text)}
		}
		return nil, &FileError{File: name, Err: err}
	}
	var pools []Pool
	lines := map[string]int{}
	for _, doc := range docs {
		list := []linedoc.Value{doc}
		if doc.Kind == linedoc.Table && len(doc.Fields) == 1 && doc.Fields[0].Name == "pools" {
			doc = doc.Fields[0].Value
		}
		if doc.Kind == linedoc.List {
			list = doc.Items
		}
		for _, v := range list {
			d := decoder{}
			p := d.pool(v)
			if d.err == nil {
				if err := p.Validate(); err != nil {
					d.line, d.err = lineOf(v, err), err
				} else if !d.sized {
					d.line, d.err = v.Line, NoSize()
				}
			}
			if first, twice := lines[p.Name]; d.err == nil && twice {
				d.line, d.err = v.Line, &rota.FieldError{Field: "name", Value: p.Name, Want: fmt.Sprintf("a unique name; the pool of line %d has the same", first)}
			}
			if d.err != nil {
				return nil, &FileError{name, d.line, d.err}
			}
			lines[p.Name] = v.Line
			pools = append(pools, p)
		}
	}
	if len(pools) == 0 {
		return nil, &FileError{File: name, Err: errors.New("no pool in it")}
	}
	return pools, nil
}

// lineOf is the line of the field that an error names, or of the pool.
func lineOf(v linedoc.Value, err error) int {
	var fe *rota.FieldError
	if !errors.As(err, &fe) {
		return v.Line
	}
	line := v.Line
	for word := range strings.SplitSeq(fe.Field, ".") {
		found := false
		for _, f := range v.Fields {
			if f.Name == word {
				line, v, found = f.Line, f.Value, true
				break
			}
		}
		if !found {
			break
		}
	}
	return line
}

// decoder keeps the first error and goes on.
type decoder struct {
	line  int
	err   error
	sized bool // the pool has a size
}

func (d *decoder) wrong(field string, v linedoc.Value, want string) {
	if d.err != nil {
		return
	}
	d.line, d.err = v.Line, &rota.FieldError{Field: field, Value: v.Found(), Want: want}
}

// table calls take for each field that has a value; take answers false for one that is
// none of names.
func (d *decoder) table(at string, v linedoc.Value, names string, take func(name, field string, v linedoc.Value) bool) {
	if v.Kind != linedoc.Table {
		d.wrong(at, v, "a table of "+names)
		return
	}
	for _, f := range v.Fields {
		field := strings.TrimPrefix(at+"."+f.Name, ".")
		if f.Value.Kind == linedoc.Null && strings.Contains(" "+names+",", " "+f.Name+",") {
			continue
		}
		if !take(f.Name, field, f.Value) && d.err == nil {
			d.line, d.err = f.Line, &rota.FieldError{Field: text.Clip(field, text.Short), Value: linedoc.Unknown, Want: "one of " + names}
		}
	}
}

func (d *decoder) pool(v linedoc.Value) (p Pool) {
	if v.Kind != linedoc.Table {
		d.wrong("pool", v, "a table of name, engine, size, template and others")
		return p
	}
	d.table("", v, "name, engine, size, preference, idle_after, start_timeout, options, template", func(name, field string, v linedoc.Value) bool {
		switch name {
		case "name":
			p.Name = d.text(field, v)
		case "engine":
			p.Engine = d.text(field, v)
		case "size":
			p.Size, d.sized = d.size(field, v), true
		case "preference":
			p.Preference = d.whole(field, v)
		case "idle_after":
			p.IdleAfter = d.duration(field, v)
		case "start_timeout":
			p.StartTimeout = d.duration(field, v)
		case "options":
			p.Options = d.texts(field, v)
		case "template":
			p.Template = d.template(field, v)
		default:
			return false
		}
		return true
	})
	return p
}

func (d *decoder) size(at string, v linedoc.Value) (s Size) {
	if v.Kind != linedoc.Table {
		n := d.whole(at, v)
		return Size{n, n}
	}
	d.table(at, v, "from, to", func(name, field string, v linedoc.Value) bool {
		switch name {
		case "from":
			s.From = d.whole(field, v)
		case "to":
			s.To = d.whole(field, v)
		default:
			return false
		}
		return true
	})
	return s
}

func (d *decoder) template(at string, v linedoc.Value) (t Template) {
	d.table(at, v, "role, zone, labels, kinds, capacity, max_tasks, strength, command", func(name, field string, v linedoc.Value) bool {
		switch name {
		case "role":
			t.Role = d.text(field, v)
		case "zone":
			t.Zone = d.text(field, v)
		case "labels":
			t.Labels = d.texts(field, v)
		case "kinds":
			t.Kinds = d.words(field, v)
		case "capacity":
			t.Capacity = d.amounts(field, v)
		case "max_tasks":
			t.MaxTasks = d.whole(field, v)
		case "strength":
			t.Strength = d.number(field, v)
		case "command":
			t.Command = d.words(field, v)
		default:
			return false
		}
		return true
	})
	return t
}

func (d *decoder) text(field string, v linedoc.Value) string {
	if v.Kind != linedoc.String && (!v.Plain || v.Text == "") {
		d.wrong(field, v, "text")
	}
	return v.Text
}

func (d *decoder) number(field string, v linedoc.Value) float64 {
	if v.Kind != linedoc.Number {
		d.wrong(field, v, "a number")
	}
	return v.Num
}

func (d *decoder) whole(field string, v linedoc.Value) int {
	if v.Kind != linedoc.Number || v.Num != math.Trunc(v.Num) || math.Abs(v.Num) > math.MaxInt32 {
		d.wrong(field, v, "a whole number")
		return 0
	}
	return int(v.Num)
}

func (d *decoder) duration(field string, v linedoc.Value) time.Duration {
	t, err := time.ParseDuration(v.Text)
	if v.Kind != linedoc.String || err != nil || t <= 0 {
		d.wrong(field, v, "a duration above zero, such as 10m")
	}
	return t
}

func (d *decoder) words(field string, v linedoc.Value) []string {
	if v.Kind != linedoc.List {
		d.wrong(field, v, "a list of words")
		return nil
	}
	out := make([]string, len(v.Items))
	for n, item := range v.Items {
		out[n] = d.text(fmt.Sprintf("%s[%d]", field, n), item)
	}
	return out
}

func (d *decoder) texts(field string, v linedoc.Value) map[string]string {
	if v.Kind != linedoc.Table {
		d.wrong(field, v, "a table of texts")
		return nil
	}
	out := map[string]string{}
	for _, f := range v.Fields {
		out[f.Name] = d.text(field+"."+f.Name, f.Value)
	}
	return out
}

func (d *decoder) amounts(field string, v linedoc.Value) map[string]float64 {
	if v.Kind != linedoc.Table {
		d.wrong(field, v, "a table of numbers")
		return nil
	}
	out := map[string]float64{}
	for _, f := range v.Fields {
		out[f.Name] = d.number(field+"."+f.Name, f.Value)
	}
	return out
}
