package cli

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
		tab := newTable("ID", "NEXT")
		tab.add(text, "x")
		tab.add(strings.Repeat("w", 12), "x")
		var b strings.Builder
		if err := tab.write(&b, nil); err != nil {
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
