package outcome

import (
	"strings"
	"unicode"

	"github.com/rota-project/rota/internal/text"
)

// keptText is how much is kept of a target or an id, in bytes.
const keptText = 120

// Clip is what is kept of a text.
func Clip(s string) string { return text.Clip(s, keptText) }

// Shown is what others have called something, bounded and fit for a terminal.
func Shown(s string) string {
	return Clip(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s))
}

// FirstLine is the first line of a text, bounded and without what a terminal would obey.
func FirstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s[:min(len(s), 200)])
}

// Line is an error in a line, empty if there is none.
func Line(err error) string {
	if err == nil {
		return ""
	}
	return FirstLine(err.Error())
}
