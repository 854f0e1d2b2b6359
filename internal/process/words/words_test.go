package words_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/rota-project/rota/internal/process/words"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		"":                       nil,
		"  \t\n":                 nil,
		"a b  c":                 {"a", "b", "c"},
		`a 'b c' "d e"`:          {"a", "b c", "d e"},
		`a'b'"c"d`:               {"abcd"},
		`'' ""`:                  {"", ""},
		`a\ b \\ \'`:             {"a b", `\`, "'"},
		`'a\b' "a\"b"`:           {`a\b`, `a"b`},
		`echo $HOME * | tee > f`: {"echo", "$HOME", "*", "|", "tee", ">", "f"},
		"é '日本 語'":               {"é", "日本 語"},
	} {
		if got, err := words.Split(in); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{`'a`, `"a`, `a\`, `"a\"`} {
		if got, err := words.Split(in); err == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// FuzzSplit: any words, quoted, are split into themselves; and nothing panics.
func FuzzSplit(f *testing.F) {
	f.Add("a 'b", `c"d`)
	f.Add("", "\\ \n")
	f.Fuzz(func(t *testing.T, a, b string) {
		if list, err := words.Split(a); err == nil && len(list) > len(a) {
			t.Errorf("%q: %q", a, list)
		}
		a, b = strings.ToValidUTF8(a, "?"), strings.ToValidUTF8(b, "?")
		quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
		if list, err := words.Split(quote(a) + " " + quote(b)); err != nil || !slices.Equal(list, []string{a, b}) {
			t.Errorf("%q and %q: %q, %v", a, b, list, err)
		}
	})
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"{", "{}", "{a}", "{a:}", "{:int}", "{a:nope}", "{a:int()}", "{a:int(2..1)}", "{a:int(1..2}", "{a:one()}", "{a:text(x)}", "{a:word", "{a...}",
		"x{a:word...}", "{a:word...}x", "-{a:word}", "--{a:text}", "-x{a:any}", "--{a:path}", "x{a:nope}",
	} {
		if w, err := words.Parse(s); !errors.Is(err, words.ErrWord) {
			t.Errorf("%q: %v, %v", s, w, err)
		}
	}
	for _, c := range []struct{ word, arg, want string }{ // no want: refused
		{"", "", ""},
		{"x", "x", "x"},
		{"x", "y", ""},
		{"a{b}c", "a{b}c", "a{b}c"},
		{`["{a"]`, `["{a"]`, `["{a"]`},
		{"${x:-1}", "${x:-1}", "${x:-1}"},
		{"{a:word}", "x.y", "x.y"},
		{"{a:word}", "-x", ""},
		{"{a:word}", "..", ""},
		{"{a:word}", ".", ""},
		{"{a:word}", "a/b", ""},
		{"{a:word}", "", ""},
		{"--a={a:word}", "--a=x", "--a=x"},
		{"--a={a:word}", "--b=x", ""},
		{"--a={a:word}", "--a=-x", ""},
		{"/d/{a:word}.csv", "/d/...csv", ""},
		{"/d/{a:word}.csv", "/d/x.csv", "/d/x.csv"},
		{"aa{x:any}aa", "aaa", ""},
		{"-n{n:int(1..3)}", "-n2", "-n2"},
		{"-n{n:int(1..3)}", "-n4", ""},
		{"-{x:one(a|b)}", "-a", "-a"},
		{"-{x:one(a|b)}", "-c", ""},
		{"{n:int}", "-3", "-3"},
		{"{n:int}", "+3", ""},
		{"{n:int}", "3.0", ""},
		{"{x:text}", "a b/$", "a b/$"},
		{"{x:text}", "-a", ""},
		{"{x:any}", "-a", "-a"},
		{"{x:path}", "/", ""},
		{"{x:path}", "x", ""},
	} {
		w, err := words.Parse(c.word)
		if err != nil {
			t.Errorf("%q: %v", c.word, err)
			continue
		}
		got, err := w.Accept(c.arg, "", nil)
		var refusal *words.RefusalError
		if got != c.want || (err != nil) != (c.want == "" && c.word != "") || err != nil && !errors.As(err, &refusal) {
			t.Errorf("%q of %q: %q, %v", c.arg, c.word, got, err)
		}
	}
}

// FuzzParse: a word that is taken takes what it makes, and nothing panics.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"x", "{a:int(1..2)}", "{a:one(x|y)...}", "{", "{a:", "{a:int(", "{...}", "--a={a:word}.csv"} {
		f.Add(s, "-rf")
	}
	f.Fuzz(func(t *testing.T, s, arg string) {
		w, err := words.Parse(s)
		if err != nil {
			return
		}
		if literal := words.IsLiteral(s); literal != (w.Name == "") || !literal && !strings.Contains(s, "{") {
			t.Fatalf("%q became %+v", s, w)
		}
		filled, err := w.Fill(arg, "", nil)
		if err != nil || w.Name == "" {
			return
		}
		if got, err := w.Accept(filled, "", nil); err != nil || got != filled {
			t.Errorf("%q of %q: %q, then %q, %v", arg, s, filled, got, err)
		}
	})
}
