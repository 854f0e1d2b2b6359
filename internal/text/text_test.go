package text_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rota-project/rota/internal/text"
)

func TestClip(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		most int
		want string
	}{
		{"", 0, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "abc..."},
		{"ab€", 5, "ab€"},
		{"ab€d", 5, "ab€..."},
		{"ab€", 4, "ab..."},
		{"ab€", 3, "ab..."},
		{"ab𝄞", 5, "ab..."},
		{"𝄞", 3, "..."},
		{"x", 0, "..."},
		{"x", -1, "..."},
		{"a\xff", 9, "a\uFFFD"},
		{"a\xe2\x82zz", 3, "a\uFFFD..."},
	} {
		if got := text.Clip(c.in, c.most); got != c.want {
			t.Errorf("%q to %d: %q, want %q", c.in, c.most, got, c.want)
		}
	}
}

func FuzzClip(f *testing.F) {
	f.Add("aé€𝄞\xff", 4)
	f.Fuzz(func(t *testing.T, s string, most int) {
		got := text.Clip(s, most)
		if !utf8.ValidString(got) {
			t.Errorf("%q to %d: %q is not UTF-8", s, most, got)
		}
		if !utf8.ValidString(s) {
			return
		}
		body, cut := strings.CutSuffix(got, "...")
		if len(s) <= most {
			body, cut = got, false
		}
		if !strings.HasPrefix(s, body) || cut && (len(body) > max(most, 0) || max(most, 0)-len(body) >= utf8.UTFMax) || !cut && body != s {
			t.Errorf("%q to %d: %q", s, most, got)
		}
	})
}

// TestLast: the end of an output is whole lines where it has any, and no part of a character.
func TestLast(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		most int
		more bool
		want string
	}{
		{"", 9, false, ""},
		{"one\ntwo\n", 9, false, "one\ntwo"},
		{"one\ntwo\n", 6, false, "two"},
		{"one\ntwo\n", 9, true, "two"},
		{"no line", 4, false, "line"},
		{"a€b", 3, false, "b"},
		{" \n", 9, false, ""},
	} {
		if got := text.Last([]byte(c.in), c.most, c.more); got != c.want {
			t.Errorf("%q to %d: %q, want %q", c.in, c.most, got, c.want)
		}
	}
}

func TestWithLast(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ said, last, want string }{
		{"exit status 3", "", "exit status 3"},
		{"exit status 3", "boom", "exit status 3; last output: boom"},
		{"", "boom", "last output: boom"},
		{"a long error", strings.Repeat("x", 30), "a lo...; last output: " + strings.Repeat("x", 30)},
	} {
		if got := text.WithLast(c.said, c.last, 52); got != c.want {
			t.Errorf("%q with %q: %q, want %q", c.said, c.last, got, c.want)
		}
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 workers", 1: "1 worker", 2: "2 workers", 1000: "1000 workers"} {
		if got := text.Count(n, "worker", "workers"); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
}
