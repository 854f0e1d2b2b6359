package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rota-project/rota/internal/address"
	"github.com/rota-project/rota/internal/linedoc"
	"github.com/rota-project/rota/placement"
)

// value reads and shows the field of a configuration that an option is for.
// Its currency is words: one for a plain value, any number for a list, "k=v"
// for each entry of a map.
type value struct {
	words func(linedoc.Value) ([]string, error) // of a file's value
	set   func([]string) error
	show  func() any // for JSON: a string, number, bool, list or map
	// sep divides the words of an environment variable; empty for a plain value.
	sep string
	// arg stands for the value in a flag's help; empty if the flag alone is enough.
	arg string
	// table says that a table of the file is the value.
	table bool
}

// wantError is what was found and what should be there.
type wantError struct {
	found string
	want  string
}

func (e *wantError) Error() string { return fmt.Sprintf("%q: want %s", e.found, e.want) }

func want(found, format string, args ...any) error {
	return &wantError{address.Show(found), fmt.Sprintf(format, args...)}
}

// plain makes the words of a scalar of one of the kinds.
func plain(expected string, kinds ...linedoc.Kind) func(linedoc.Value) ([]string, error) {
	return func(v linedoc.Value) ([]string, error) {
		if !slices.Contains(kinds, v.Kind) {
			return nil, want(describe(v), "%s", expected)
		}
		if v.Kind == linedoc.Bool {
			return []string{strconv.FormatBool(v.Bool)}, nil
		}
		return []string{v.Text}, nil
	}
}

func describe(v linedoc.Value) string {
	switch v.Kind { //nolint:exhaustive // the rest has no text
	case linedoc.String, linedoc.Number:
		return v.Text
	case linedoc.Bool:
		return strconv.FormatBool(v.Bool)
	}
	return v.Kind.String()
}

func textValue(p *string, arg string) value {
	return value{
		words: plain("text", linedoc.String),
		set:   func(w []string) error { *p = w[0]; return nil },
		show:  func() any { return *p },
		arg:   arg,
	}
}

// oneOf is a text of which only some are possible.
func oneOf(p *string, words ...string) value {
	v := textValue(p, strings.Join(words, "|"))
	v.set = func(w []string) error {
		if !slices.Contains(words, w[0]) {
			return want(w[0], "%s", strings.Join(words, " or "))
		}
		*p = w[0]
		return nil
	}
	return v
}

// countValue is a number of things, or of bytes: those are int64 on every system.
func countValue[N int | int64](p *N) value {
	return value{
		words: plain("a whole number", linedoc.Number),
		set: func(w []string) error {
			n, err := strconv.ParseInt(w[0], 10, 64)
			if err != nil || n < 0 || int64(N(n)) != n {
				return want(w[0], "a whole number, zero or more")
			}
			*p = N(n)
			return nil
		},
		show: func() any { return *p },
		arg:  "N",
	}
}

// budgetValue is a number, a part ("10%"), or both ("2,10%"): whichever is greater counts.
func budgetValue(p *placement.Budget) value {
	return value{
		words: plain("a number or a percentage", linedoc.Number, linedoc.String),
		set: func(w []string) error {
			var b placement.Budget
			for part := range strings.SplitSeq(w[0], ",") {
				text, percent := strings.CutSuffix(strings.TrimSpace(part), "%")
				f, err := strconv.ParseFloat(text, 64)
				if err != nil || !(f >= 0) || percent && f > 100 || !percent && f != float64(int(f)) {
					return want(w[0], "%s", "a whole number, a percentage, or both: 2,10%")
				}
				if percent {
					b.Fraction = f / 100
				} else {
					b.Count = int(f)
				}
			}
			*p = b
			return nil
		},
		show: func() any {
			switch {
			case p.Fraction == 0:
				return strconv.Itoa(p.Count)
			case p.Count == 0:
				return fmt.Sprintf("%g%%", p.Fraction*100)
			}
			return fmt.Sprintf("%d,%g%%", p.Count, p.Fraction*100)
		},
		arg: "N|N%",
	}
}

func amountValue(p *float64) value {
	return value{
		words: plain("a number", linedoc.Number),
		set: func(w []string) error {
			f, err := parseAmount(w[0])
			if err != nil {
				return err
			}
			*p = f
			return nil
		},
		show: func() any { return *p },
		arg:  "X",
	}
}

func parseAmount(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f < 0 || f != f || f > 1e300 {
		return 0, want(s, "a number, zero or more")
	}
	return f, nil
}

func yesValue(p *bool) value {
	return value{
		words: plain("true or false", linedoc.Bool),
		set: func(w []string) error {
			switch w[0] {
			case "true", "1":
				*p = true
			case "false", "0":
				*p = false
			default:
				return want(w[0], "true or false")
			}
			return nil
		},
		show: func() any { return *p },
	}
}

func durationValue(p *time.Duration) value {
	return value{
		words: plain(`a duration such as "5s"`, linedoc.String),
		set: func(w []string) (err error) {
			*p, err = parseDuration(w[0])
			return err
		},
		show: func() any { return p.String() },
		arg:  "DURATION",
	}
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, want(s, `a duration such as "5s", zero or more`)
	}
	return d, nil
}

func listValue(p *[]string, arg string) value {
	return value{
		words: func(v linedoc.Value) ([]string, error) { return wordList(v, "a list of texts") },
		set: func(w []string) error {
			var list []string
			for _, s := range w {
				if s = strings.TrimSpace(s); s != "" {
					list = append(list, s)
				}
			}
			*p = list
			return nil
		},
		show: func() any { return append([]string{}, *p...) },
		sep:  ",",
		arg:  arg,
	}
}

// linesValue is a list whose items may hold commas: in the environment they are
// lines, and each flag is one.
func linesValue(p *[]string, arg string) value {
	v := listValue(p, arg)
	v.sep = "\n"
	return v
}

func wordList(v linedoc.Value, expected string) ([]string, error) {
	if v.Kind == linedoc.String {
		return []string{v.Text}, nil
	}
	if v.Kind != linedoc.List {
		return nil, want(describe(v), "%s", expected)
	}
	var words []string
	for _, item := range v.Items {
		if item.Kind != linedoc.String && !item.Plain {
			return nil, want(describe(item), "%s", expected)
		}
		words = append(words, item.Text)
	}
	return words, nil
}

// pairsValue is a map. Its file value is a table or a list of "k=v".
func pairsValue(p *map[string]string, arg, sep string) value {
	return value{
		words: wordTable,
		table: true,
		set: func(w []string) error {
			m, err := parsePairs(w)
			if err != nil {
				return err
			}
			*p = m
			return nil
		},
		show: func() any {
			if *p == nil {
				return map[string]string{}
			}
			return *p
		},
		sep: sep,
		arg: arg,
	}
}

func amountsValue(p *map[string]float64, arg string) value {
	return mapValue(p, arg, parseAmount, func(f float64) any { return f })
}

func durationsValue(p *map[string]time.Duration, arg string) value {
	return mapValue(p, arg, parseDuration, func(d time.Duration) any { return d.String() })
}

// mapValue is a table of values that parse reads and show prints.
func mapValue[T any](p *map[string]T, arg string, parse func(string) (T, error), show func(T) any) value {
	return value{
		words: wordTable,
		table: true,
		set: func(w []string) error {
			pairs, err := parsePairs(w)
			if err != nil {
				return err
			}
			var m map[string]T
			for _, k := range slices.Sorted(maps.Keys(pairs)) {
				v, err := parse(pairs[k])
				if err != nil {
					return fmt.Errorf("%s: %w", k, err)
				}
				if m == nil {
					m = make(map[string]T, len(pairs))
				}
				m[k] = v
			}
			*p = m
			return nil
		},
		show: func() any {
			out := make(map[string]any, len(*p))
			for k, v := range *p {
				out[k] = show(v)
			}
			return out
		},
		sep: ",",
		arg: arg,
	}
}

func wordTable(v linedoc.Value) ([]string, error) {
	if v.Kind != linedoc.Table {
		return wordList(v, "a table, or a list of texts name=value")
	}
	var words []string
	for _, f := range v.Fields {
		switch f.Value.Kind { //nolint:exhaustive // the rest is no plain value
		case linedoc.String, linedoc.Number:
			words = append(words, f.Name+"="+f.Value.Text)
		case linedoc.Bool:
			words = append(words, f.Name+"="+strconv.FormatBool(f.Value.Bool))
		default:
			return nil, fmt.Errorf("%s: %w", f.Name, want(describe(f.Value), "a plain value"))
		}
	}
	return words, nil
}

func parsePairs(words []string) (map[string]string, error) {
	var m map[string]string
	for _, w := range words {
		if strings.TrimSpace(w) == "" {
			continue
		}
		k, v, ok := strings.Cut(w, "=")
		if k = strings.TrimSpace(k); !ok || k == "" {
			return nil, want(w, "name=value")
		}
		if _, twice := m[k]; twice {
			return nil, want(w, "each name once")
		}
		if m == nil {
			m = map[string]string{}
		}
		m[k] = v
	}
	return m, nil
}
