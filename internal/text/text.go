// Package text cuts text short, finds the end of an output, and counts nouns. Everything that bounds text which
// people read, or which goes into a message of the API, calls it. It must never know what the
// text is about.
package text

import (
	"bytes"
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

// Last returns the end of an output, no longer than most: whole lines if there are any, and
// no part of a character. more says that there was output before b.
func Last(b []byte, most int, more bool) string {
	cut := more || len(b) > most
	b = b[max(0, len(b)-most):]
	if _, rest, found := bytes.Cut(b, []byte{'\n'}); cut && found && len(bytes.TrimSpace(rest)) > 0 {
		b = rest
	}
	for cut && len(b) > 0 && b[0]&0xc0 == 0x80 { // what is left of a character
		b = b[1:]
	}
	return strings.TrimSpace(string(b))
}

// LastIs comes between the text of an error and the last output.
const LastIs = "; last output: "

// WithLast puts the last output behind the text of an error, if there is any, all within most
// bytes and "...".
func WithLast(said, last string, most int) string {
	switch {
	case last == "":
		return said
	case said == "":
		return Clip(strings.TrimPrefix(LastIs, "; ")+last, most)
	}
	return Clip(Clip(said, most-len(last)-len(LastIs)-len("..."))+LastIs+last, most)
}

// Count returns n and its noun: "1 worker", "2 workers".
func Count[N int | int32 | int64 | uint32 | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
