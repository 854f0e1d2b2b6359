package schedulerworker

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

func itoa(n int) string { return strconv.Itoa(n) }

// textStream makes text of bytes that come in pieces: the old wire has a string
// field, which must be UTF-8. A character that is torn between two pieces is
// put together; what is no text becomes U+FFFD.
type textStream struct{ held []byte }

func (t *textStream) next(p []byte) string {
	b := slices.Concat(t.held, p)
	end := len(b)
	// A torn character is at most three bytes long.
	for i := 1; i <= min(3, len(b)); i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-i:]) {
				end = len(b) - i
			}
			break
		}
	}
	out := strings.ToValidUTF8(string(b[:end]), "\uFFFD")
	t.held = append(t.held[:0:0], b[end:]...)
	return out
}

func (t *textStream) rest() string {
	out := strings.ToValidUTF8(string(t.held), "\uFFFD")
	t.held = nil
	return out
}
