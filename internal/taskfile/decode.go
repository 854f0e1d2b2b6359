package taskfile

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/linedoc"
	"github.com/rota-project/rota/internal/text"
)

// fields are the fields of a task in the order of the documentation.
var fields = []string{
	"id", "kind", "group", "key", "weight", "priority", "payload", "payload_base64", "replicas", "mode",
	"resources", "require", "prefer", "affinity", "spread", "gang", "pinned", "preempt",
}

// decodeTask returns the task that v says. On an error, line is where it is.
func decodeTask(v linedoc.Value) (t rota.Task, line int, err error) {
	d := decoder{}
	var payloads int
	for _, f := range v.Fields {
		if f.Value.Kind == linedoc.Null {
			if !isField(f.Name) {
				d.field(f.Name, f.Line, unknownField(f.Name))
			}
			continue // as if it were not there
		}
		if (f.Name == "payload" || f.Name == "payload_base64") && f.Value.Text != "" {
			if payloads++; payloads > 1 {
				d.field(f.Name, f.Line, &rota.FieldError{Field: f.Name, Value: linedoc.Word("both"), Want: "only one of payload and payload_base64"})
			}
		}
		d.task(&t, f)
		if d.err != nil {
			return t, d.line, d.err
		}
	}
	if d.err != nil {
		return t, d.line, d.err
	}
	if err := t.Validate(); err != nil {
		return t, lineOf(v, err), err
	}
	return t, 0, nil
}

func isField(name string) bool {
	for _, f := range fields {
		if f == name {
			return true
		}
	}
	return false
}

func unknownField(name string) error {
	return &rota.FieldError{Field: text.Clip(name, text.Short), Value: linedoc.Unknown, Want: "one of " + strings.Join(fields, ", ")}
}

// lineOf is the line of the field that the error names, or of the task.
func lineOf(v linedoc.Value, err error) int {
	var fe *rota.FieldError
	if errors.As(err, &fe) {
		name, _, _ := strings.Cut(fe.Field, ".")
		for _, f := range v.Fields {
			if f.Name == name {
				return f.Line
			}
		}
	}
	return v.Line
}

// decoder keeps the first error and goes on, so that each use is one line.
type decoder struct {
	line int
	err  error
}

func (d *decoder) field(_ string, line int, err error) {
	if d.err == nil {
		d.line, d.err = line, err
	}
}

func (d *decoder) wrong(field string, v linedoc.Value, want string) {
	d.field(field, v.Line, &rota.FieldError{Field: field, Value: v.Found(), Want: want})
}

func (d *decoder) task(t *rota.Task, f linedoc.Field) {
	v := f.Value
	switch f.Name {
	case "id":
		t.ID = d.text(f.Name, v)
	case "kind":
		t.Kind = d.text(f.Name, v)
	case "group":
		t.Group = d.text(f.Name, v)
	case "key":
		t.Key = d.text(f.Name, v)
	case "weight":
		t.Weight = d.number(f.Name, v)
	case "priority":
		t.Priority = d.number(f.Name, v)
	case "payload":
		if s := d.text(f.Name, v); s != "" {
			t.Payload = []byte(s)
		}
	case "payload_base64":
		d.payload(t, f)
	case "replicas":
		t.Replicas = d.whole(f.Name, v)
	case "mode":
		t.Mode = rota.Mode(d.text(f.Name, v))
	case "resources":
		t.Resources = d.amounts(f.Name, v)
	default:
		d.rules(&t.Rules, f)
	}
}

func (d *decoder) payload(t *rota.Task, f linedoc.Field) {
	s := d.text(f.Name, f.Value)
	if s == "" {
		return
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		d.wrong(f.Name, f.Value, "base64")
		return
	}
	t.Payload = raw
}

func (d *decoder) rules(r *rota.Rules, f linedoc.Field) {
	v := f.Value
	switch f.Name {
	case "require":
		for i, item := range d.list(f.Name, v) {
			r.Require = append(r.Require, d.text(fmt.Sprintf("%s[%d]", f.Name, i), item))
		}
	case "prefer":
		for i, item := range d.list(f.Name, v) {
			r.Prefer = append(r.Prefer, d.preference(fmt.Sprintf("%s[%d]", f.Name, i), item))
		}
	case "affinity":
		for i, item := range d.list(f.Name, v) {
			r.Affinity = append(r.Affinity, d.affinity(fmt.Sprintf("%s[%d]", f.Name, i), item))
		}
	case "spread":
		r.Spread = d.spread(f.Name, v)
	case "gang":
		r.Gang = d.text(f.Name, v)
	case "pinned":
		r.Pinned = d.text(f.Name, v)
	case "preempt":
		r.Preempt = d.yes(f.Name, v)
	default:
		d.field(f.Name, f.Line, unknownField(f.Name))
	}
}

func (d *decoder) preference(path string, v linedoc.Value) (p rota.Preference) {
	for _, f := range d.table(path, v) {
		switch f.Name {
		case "label":
			p.Label = d.text(path+".label", f.Value)
		case "weight":
			p.Weight = d.number(path+".weight", f.Value)
		default:
			d.unknownIn(path, f, "label, weight")
		}
	}
	return p
}

func (d *decoder) affinity(path string, v linedoc.Value) (a rota.Affinity) {
	for _, f := range d.table(path, v) {
		at := path + "." + f.Name
		switch f.Name {
		case "task":
			a.Task = d.text(at, f.Value)
		case "group":
			a.Group = d.text(at, f.Value)
		case "anti":
			a.Anti = d.yes(at, f.Value)
		case "required":
			a.Required = d.yes(at, f.Value)
		case "weight":
			a.Weight = d.number(at, f.Value)
		default:
			d.unknownIn(path, f, "task, group, anti, required, weight")
		}
	}
	return a
}

func (d *decoder) spread(path string, v linedoc.Value) *rota.Spread {
	s := &rota.Spread{}
	for _, f := range d.table(path, v) {
		at := path + "." + f.Name
		switch f.Name {
		case "label":
			s.Label = d.text(at, f.Value)
		case "shares":
			s.Shares = d.amounts(at, f.Value)
		case "by_group":
			s.ByGroup = d.yes(at, f.Value)
		default:
			d.unknownIn(path, f, "label, shares, by_group")
		}
	}
	return s
}

func (d *decoder) unknownIn(path string, f linedoc.Field, known string) {
	d.field(path, f.Line, &rota.FieldError{Field: path + "." + text.Clip(f.Name, text.Short), Value: linedoc.Unknown, Want: "one of " + known})
}

func (d *decoder) text(field string, v linedoc.Value) string {
	if v.Kind == linedoc.Null {
		return ""
	}
	if v.Kind != linedoc.String && !v.Plain {
		d.wrong(field, v, "text")
		return ""
	}
	return v.Text
}

func (d *decoder) number(field string, v linedoc.Value) float64 {
	switch {
	case v.Kind == linedoc.Null:
		return 0
	case v.Kind == linedoc.Number:
		return v.Num
	case v.Kind == linedoc.String && v.Plain:
		if v.Text == "" {
			return 0
		}
		if f, err := strconv.ParseFloat(strings.TrimSpace(v.Text), 64); err == nil {
			return f
		}
	}
	d.wrong(field, v, "a number")
	return 0
}

func (d *decoder) whole(field string, v linedoc.Value) int {
	f := d.number(field, v)
	if d.err == nil && (f != math.Trunc(f) || math.Abs(f) > math.MaxInt32) {
		d.wrong(field, v, fmt.Sprintf("a whole number from 1 to %d", rota.MaxReplicas))
		return 0
	}
	return int(f)
}

func (d *decoder) yes(field string, v linedoc.Value) bool {
	switch {
	case v.Kind == linedoc.Null:
		return false
	case v.Kind == linedoc.Bool:
		return v.Bool
	case v.Kind == linedoc.String && v.Plain && (v.Text == "true" || v.Text == "false" || v.Text == ""):
		return v.Text == "true"
	}
	d.wrong(field, v, "true or false")
	return false
}

func (d *decoder) list(field string, v linedoc.Value) []linedoc.Value {
	if v.Kind != linedoc.List && v.Kind != linedoc.Null {
		d.wrong(field, v, "a list")
	}
	return v.Items
}

func (d *decoder) table(field string, v linedoc.Value) []linedoc.Field {
	if v.Kind != linedoc.Table && v.Kind != linedoc.Null {
		d.wrong(field, v, "a table")
	}
	return v.Fields
}

func (d *decoder) amounts(field string, v linedoc.Value) map[string]float64 {
	entries := d.table(field, v)
	if len(entries) == 0 {
		return nil
	}
	m := make(map[string]float64, len(entries))
	for _, f := range entries {
		m[f.Name] = d.number(field+"."+f.Name, f.Value)
	}
	return m
}
