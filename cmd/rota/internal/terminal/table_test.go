package terminal

import (
	"strings"
	"testing"
)

// TestColumnsStandStraight: whatever signs a cell holds, the next column begins
// at the same column of the terminal. The widths are those of Unicode (UAX #11
// and #29), which terminals follow.
func TestColumnsStandStraight(t *testing.T) {
	t.Parallel()
	for text, width := range map[string]int{
		"plain":           5,
		"日本語":             6,
		"한국":              4,
		"e\u0301a":        2, // an accent of its own
		"👩\u200d👩\u200d👧": 2, // one sign of three
		"नमस्ते":          4,
		"ｆｕｌｌ":            8,
		"\x1b[31mred":     8, // what would colour the terminal is replaced
		"a\u202eb":        3, // and what would turn the direction round
	} {
		tab := NewTable("ID", "NEXT")
		tab.Add(text, "x")
		tab.Add(strings.Repeat("w", 12), "x")
		var b strings.Builder
		if err := tab.Write(&b, nil); err != nil {
			t.Fatal(err)
		}
		row := strings.Split(b.String(), "\n")[1]
		pad := len(row) - len(strings.TrimRight(strings.TrimSuffix(row, "x"), " ")) - 1
		if want := 12 - width + 2; pad != want {
			t.Errorf("%q is padded by %d, want %d", text, pad, want)
		}
		if strings.ContainsAny(row, "\x1b\u202e") {
			t.Errorf("%q is written as %q", text, row)
		}
	}
}

// TestFit: a text takes the columns that it is to take, whatever signs are in it.
func TestFit(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "plain", "日本語日本語", "e\u0301e\u0301e\u0301", "👩\u200d👩\u200d👧 family"} {
		for width := range 12 {
			if got := Width(Fit(text, width)); got != width {
				t.Errorf("%q in %d columns takes %d", text, width, got)
			}
		}
	}
}

// TestWrap: no line is wider than it may be, none has what a terminal would obey, and
// no sign gets lost.
func TestWrap(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "a\n\nb\n", "日本語日本語日本語", "tab\there", "\x1b[31mred\r\nnext\x07", strings.Repeat("x", 100)} {
		for width := 2; width < 12; width++ {
			var signs string
			for _, line := range Wrap(text, width) {
				if Width(line) > width || strings.ContainsAny(line, "\x1b\x07\r\n\t") {
					t.Errorf("%q in %d columns: %q", text, width, line)
				}
				signs += line
			}
			if want := strings.Join(Wrap(text, 0), ""); signs != want {
				t.Errorf("%q in %d columns: %q", text, width, signs)
			}
		}
	}
}
