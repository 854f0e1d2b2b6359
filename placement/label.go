package placement

import (
	"slices"
	"strconv"
	"strings"

	"github.com/rota-project/rota"
)

// zoneLabel is the label that also means a worker's zone.
const zoneLabel = "zone"

// Condition is a parsed label condition.
type Condition struct {
	label  string
	op     operator
	values []string
	number float64
}

type operator uint8

const (
	opExists operator = iota
	opMissing
	opIn
	opNotIn
	opGreater
	opLess
	opAtLeast
	opAtMost
)

// ParseCondition parses a label condition: "zone=a" (or ==), "zone!=a",
// "disk in (ssd,nvme)", "disk not in (tape)", "gpu" (the label exists),
// "!spot" (it does not), "cores>8", "cores<64", and >= and <=. White space
// around the parts is ignored. A worker without the label meets "!=" and "not
// in", as in Kubernetes; numbers are compared only where both sides are numbers.
func ParseCondition(s string) (Condition, error) {
	bad := func(want string) (Condition, error) { //nolint:unparam // for return bad(...)
		return Condition{}, &rota.FieldError{Field: "require", Value: s, Want: want}
	}
	const forms = "a condition such as zone=a, zone!=a, disk in (ssd,nvme), disk not in (tape), gpu, !spot, cores>8, cores<64"
	text := strings.TrimSpace(s)
	if rest, ok := strings.CutPrefix(text, "!"); ok {
		rest = strings.TrimSpace(rest)
		if !isWord(rest) {
			return bad("a label after !")
		}
		return Condition{label: rest, op: opMissing}, nil
	}
	end := strings.IndexFunc(text, func(r rune) bool { return !isWordRune(r) })
	if end < 0 {
		if text == "" {
			return bad(forms)
		}
		return Condition{label: text, op: opExists}, nil
	}
	label, rest := text[:end], strings.TrimSpace(text[end:])
	if label == "" {
		return bad(forms)
	}
	for _, o := range []struct {
		sign string
		op   operator
	}{{"!=", opNotIn}, {"==", opIn}, {"=", opIn}, {">=", opAtLeast}, {"<=", opAtMost}, {">", opGreater}, {"<", opLess}} {
		value, ok := strings.CutPrefix(rest, o.sign)
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		if !isWord(value) {
			return bad("one value after " + o.sign)
		}
		if o.op == opIn || o.op == opNotIn {
			return Condition{label: label, op: o.op, values: []string{value}}, nil
		}
		n, ok := number(value)
		if !ok {
			return bad("a number after " + o.sign)
		}
		return Condition{label: label, op: o.op, number: n}, nil
	}
	op := opIn
	if after, ok := strings.CutPrefix(rest, "not"); ok {
		op, rest = opNotIn, strings.TrimLeft(after, " \t")
		if rest == after {
			return bad(forms)
		}
	}
	list, ok := strings.CutPrefix(rest, "in")
	if !ok {
		return bad(forms)
	}
	list = strings.TrimSpace(list)
	if len(list) < 2 || list[0] != '(' || list[len(list)-1] != ')' {
		return bad("values in parentheses, as in: disk in (ssd,nvme)")
	}
	var values []string
	for v := range strings.SplitSeq(list[1:len(list)-1], ",") {
		if v = strings.TrimSpace(v); !isWord(v) {
			return bad("one or more values between the parentheses, with commas")
		}
		values = append(values, v)
	}
	slices.Sort(values)
	return Condition{label: label, op: op, values: slices.Compact(values)}, nil
}

// Label is the label that the condition is about.
func (c Condition) Label() string { return c.label }

// String returns the condition in its plainest form; parsing that gives the
// same condition again.
func (c Condition) String() string {
	n := strconv.FormatFloat(c.number, 'g', -1, 64)
	switch c.op {
	case opExists:
		return c.label
	case opMissing:
		return "!" + c.label
	case opIn:
		if len(c.values) == 1 {
			return c.label + "=" + c.values[0]
		}
		return c.label + " in (" + strings.Join(c.values, ",") + ")"
	case opNotIn:
		if len(c.values) == 1 {
			return c.label + "!=" + c.values[0]
		}
		return c.label + " not in (" + strings.Join(c.values, ",") + ")"
	case opGreater:
		return c.label + ">" + n
	case opLess:
		return c.label + "<" + n
	case opAtLeast:
		return c.label + ">=" + n
	default:
		return c.label + "<=" + n
	}
}

// Met reports whether a worker meets the condition.
func (c Condition) Met(w *rota.Worker) bool {
	value, ok := labelOf(w, c.label)
	switch c.op {
	case opExists:
		return ok
	case opMissing:
		return !ok
	case opIn:
		return ok && slices.Contains(c.values, value)
	case opNotIn:
		return !ok || !slices.Contains(c.values, value)
	}
	n, isNumber := number(value)
	if !ok || !isNumber {
		return false
	}
	switch c.op {
	case opGreater:
		return n > c.number
	case opLess:
		return n < c.number
	case opAtLeast:
		return n >= c.number
	default:
		return n <= c.number
	}
}

func labelOf(w *rota.Worker, label string) (string, bool) {
	if v, ok := w.Labels[label]; ok {
		return v, true
	}
	if label == zoneLabel && w.Zone != "" {
		return w.Zone, true
	}
	return "", false
}

// number parses a finite decimal number.
func number(s string) (float64, bool) {
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil && n-n == 0
}

func isWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !isWordRune(r) })
}

// isWordRune keeps out what the grammar itself uses.
func isWordRune(r rune) bool {
	return r > ' ' && r != 0x7f && !strings.ContainsRune("=!<>(),", r)
}
