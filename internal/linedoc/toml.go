package linedoc

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// TOML reads data as one table, its fields sorted by name.
//
// What the values are comes from the library's decoder. Only their lines come
// from its parser, whose interface may change.
func TOML(data []byte) (Value, error) {
	if err := checkTOML(data); err != nil {
		return Value{}, err
	}
	var m map[string]any
	if err := toml.Unmarshal(data, &m); err != nil {
		return Value{}, tomlError(err)
	}
	return tomlValue(m, "", tomlLines(data), 0)
}

func tomlError(err error) *Error {
	text := strings.TrimPrefix(err.Error(), "toml: ")
	var de *toml.DecodeError
	if errors.As(err, &de) {
		line, _ := de.Position()
		return errorf(line, "no TOML: %s", text)
	}
	return errorf(0, "no TOML: %s", text)
}

func tomlValue(x any, path string, lines map[string]int, depth int) (Value, error) {
	v := Value{Line: max(1, lines[path])}
	if depth > MaxDepth {
		return v, errorf(v.Line, "nested deeper than %d", MaxDepth)
	}
	switch x := x.(type) {
	case bool:
		v.Kind, v.Bool = Bool, x
	case string:
		v.Kind, v.Text = String, x
	case int64:
		v.Kind, v.Num, v.Text = Number, float64(x), strconv.FormatInt(x, 10)
	case float64:
		v.Kind, v.Num, v.Text = Number, x, strconv.FormatFloat(x, 'g', -1, 64)
	case time.Time:
		v.Kind, v.Text = String, x.Format(time.RFC3339Nano)
	case toml.LocalDate:
		v.Kind, v.Text = String, x.String()
	case toml.LocalTime:
		v.Kind, v.Text = String, x.String()
	case toml.LocalDateTime:
		v.Kind, v.Text = String, x.String()
	case []any:
		v.Kind, v.Items = List, make([]Value, 0, len(x))
		for _, item := range x {
			iv, err := tomlValue(item, path, lines, depth+1)
			if err != nil {
				return v, err
			}
			v.Items = append(v.Items, iv)
		}
	case map[string]any:
		v.Kind = Table
		for _, name := range slices.Sorted(maps.Keys(x)) {
			at := path + "\x00" + name
			fv, err := tomlValue(x[name], at, lines, depth+1)
			if err != nil {
				return v, err
			}
			v.Fields = append(v.Fields, Field{name, fv.Line, fv})
		}
	default:
		return v, errorf(v.Line, "a value of a kind that is not known (%T)", x)
	}
	return v, nil
}

// tomlLines returns the line of each key by its path, every part after a NUL.
// Keys within arrays of tables share the line of the first.
func tomlLines(data []byte) map[string]int {
	lines := map[string]int{}
	var p unstable.Parser
	p.Reset(data)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind { //nolint:exhaustive // nothing else stands by itself
		case unstable.Table, unstable.ArrayTable:
			table = ""
			table = addKey(lines, &p, e.Key(), table)
		case unstable.KeyValue:
			addPair(lines, &p, e, table)
		}
	}
	return lines
}

func addPair(lines map[string]int, p *unstable.Parser, e *unstable.Node, table string) {
	path := addKey(lines, p, e.Key(), table)
	if v := e.Value(); v.Kind == unstable.InlineTable {
		for it := v.Children(); it.Next(); {
			if n := it.Node(); n.Kind == unstable.KeyValue {
				addPair(lines, p, n, path)
			}
		}
	}
}

func addKey(lines map[string]int, p *unstable.Parser, key unstable.Iterator, path string) string {
	for key.Next() {
		n := key.Node()
		path += "\x00" + string(n.Data)
		if _, there := lines[path]; !there {
			lines[path] = p.Shape(n.Raw).Start.Line
		}
	}
	return path
}
