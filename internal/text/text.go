// Package text cuts text short and counts nouns. Everything that bounds text which
// people read, or which goes into a message of the API, calls it. It must never know what the
// text is about.
package text

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Short is how much of a name or a value errors show, in bytes.
const Short = 64

// Clip returns the first most bytes of s, and "..." if that is not all of it. It
// never cuts a character, and what is not UTF-8 becomes U+FFFD: no message of the
// API can carry anything else.
func Clip(s string, most int) string {
	if len(s) <= most {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	end := max(most, 0)
	for n := 1; n < utf8.UTFMax && n <= end; n++ {
		if c := s[end-n:]; utf8.RuneStart(c[0]) {
			if r, size := utf8.DecodeRuneInString(c); size > n && r != utf8.RuneError {
				end -= n // it goes on beyond the cut
			}
			break
		}
	}
	return strings.ToValidUTF8(s[:end], "\uFFFD") + "..."
}

// Count returns n and its noun: "1 worker", "2 workers".
func Count[N int | int32 | int64 | uint32 | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
