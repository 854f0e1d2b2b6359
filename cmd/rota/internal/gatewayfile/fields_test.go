package gatewayfile

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

// leaf is a field of gateway.yaml that holds a plain value or a list of them.
type leaf struct {
	path []string // with "0" for an item of a list
	kind reflect.Type
}

// leaves are all fields below a type.
func leaves(t reflect.Type, path []string) (all []leaf) {
	below := func(name string, t reflect.Type) []leaf { return leaves(t, append(slices.Clone(path), name)) }
	switch {
	case t.Kind() == reflect.Pointer:
		return leaves(t.Elem(), path)
	case t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Struct:
		return below("f.v2", t.Elem()) // names of functions may have dots
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return below("0", t.Elem())
	case t.Kind() != reflect.Struct:
		return []leaf{{path, t}}
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if options == "inline" {
			all = append(all, leaves(f.Type, path)...)
		} else {
			all = append(all, below(name, f.Type)...)
		}
	}
	return all
}

func (l leaf) String() string {
	var b strings.Builder
	for i, p := range l.path {
		switch _, err := strconv.Atoi(p); {
		case err == nil:
			b.WriteString("[" + p + "]")
		case i > 0:
			b.WriteString("." + p)
		default:
			b.WriteString(p)
		}
	}
	return b.String()
}

// document is a gateway.yaml that is right but for the value of the leaf.
func (l leaf) document(value string) string {
	needed := map[string]map[string]string{
		"workers": {"url": "http://127.0.0.1:1"},
		"routes":  {"prefix": "/x", "function": "g"},
		"split":   {"to": "g"},

		"forward_auth": {"url": "http://127.0.0.1:1"},
	}
	var b strings.Builder
	indent := ""
	for i, p := range l.path {
		switch {
		case p == "0":
		case i == len(l.path)-1:
			b.WriteString(indent + p + ": " + value + "\n")
		default:
			b.WriteString(indent + p + ":\n")
			indent += "  "
			list := l.path[i+1] == "0"
			if list {
				b.WriteString(indent + "-\n")
				indent += "  "
			}
			for _, k := range slices.Sorted(maps.Keys(needed[p])) {
				if !slices.Contains(l.path[i:], k) {
					b.WriteString(indent + k + ": " + needed[p][k] + "\n")
				}
			}
			if p == "functions" {
				b.WriteString(indent + "g: {}\n")
			}
		}
	}
	return b.String()
}

// bad are values that a field of a kind must refuse; those of the right type that are
// out of its range are quoted as they are written.
func (l leaf) bad() (ofType, inRange []string) {
	switch {
	case l.kind == reflect.TypeFor[time.Duration]():
		return []string{"soon", "[1s]", "{a: 1s}"}, []string{"-1s", "-1000ms", "-0.5h"}
	case l.kind.Kind() == reflect.Bool:
		return []string{"perhaps", "[true]"}, nil
	case l.kind.Kind() == reflect.Float64:
		return []string{"many", "[1]"}, []string{"-0.25", "-1e3"}
	case l.kind.Kind() == reflect.Uint:
		return []string{"many", "1.5", "-1"}, nil
	case l.kind.Kind() == reflect.Int, l.kind.Kind() == reflect.Int64:
		return []string{"many", "1.5", "[1]"}, []string{"-1", "-77"}
	case l.kind.Kind() == reflect.Slice:
		return []string{"{a: b}", "[[a]]"}, nil
	case l.kind.Kind() == reflect.Interface:
		return []string{"{a: b}", "5"}, nil
	case l.kind.Kind() == reflect.Map:
		return []string{"[a]", "{a: [b]}"}, nil
	}
	return []string{"[a]", "{a: b}"}, nil
}

// TestEveryFieldIsNamed puts values that do not fit into every field of gateway.yaml:
// the error names the field by its path there, and quotes what is out of its range as
// it is written.
func TestEveryFieldIsNamed(t *testing.T) {
	t.Parallel()
	all := leaves(reflect.TypeFor[file](), nil)
	if len(all) < 90 {
		t.Fatalf("%d fields: that cannot be all", len(all))
	}
	for _, l := range all {
		ofType, inRange := l.bad()
		for _, value := range ofType {
			if _, err := Parse([]byte(l.document(value)), "."); err == nil || !strings.Contains(err.Error(), l.String()) {
				t.Errorf("%s: %s: %v\n%s", l, value, err, l.document(value))
			}
		}
		for _, value := range inRange {
			_, err := Parse([]byte(l.document(value)), ".")
			if err == nil || !strings.Contains(err.Error(), l.String()+": "+value+": want ") || !strings.HasPrefix(err.Error(), "line ") {
				t.Errorf("%s: %s: %v\n%s", l, value, err, l.document(value))
			}
		}
		if len(inRange) > 0 { // and it is the value that was wrong
			if _, err := Parse([]byte(l.document("1s")), "."); l.kind == reflect.TypeFor[time.Duration]() && err != nil {
				t.Errorf("%s: 1s: %v", l, err)
			}
		}
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(l.document("x")), &doc); err != nil {
			t.Fatalf("%s: the test's own document: %v", l, err)
		}
		if n, whole := nodeAt(doc.Content[0], l.String()); !whole || n.Value != "x" {
			t.Errorf("%s: not found in its document", l)
		}
	}
}
