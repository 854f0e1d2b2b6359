package room

import (
	"slices"
	"strings"
)

// Path wants an absolute path: a check of a pool's option says what it wants, or nothing.
func Path(v string) string {
	if !strings.HasPrefix(v, "/") || strings.ContainsFunc(v, control) {
		return "an absolute path on the nodes"
	}
	return ""
}

// Word is a check that wants a word, and says so by want.
func Word(want string) func(string) string {
	return func(v string) string {
		if v == "" || strings.ContainsFunc(v, func(r rune) bool { return r == ' ' || control(r) }) {
			return want
		}
		return ""
	}
}

// OneOf is a check that wants one of words.
func OneOf(words ...string) func(string) string {
	return func(v string) string {
		if !slices.Contains(words, v) {
			return "one of " + strings.Join(words, ", ")
		}
		return ""
	}
}

func control(r rune) bool { return r < ' ' || r == 0x7f }
