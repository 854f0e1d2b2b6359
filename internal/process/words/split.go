package words

import (
	"errors"
	"strings"
)

// Split divides a command line into words as a shell would, with single and
// double quotes and backslashes, and expands nothing.
func Split(s string) ([]string, error) {
	var words []string
	var b strings.Builder
	quote := rune(0)
	escaped, begun := false, false
	for _, r := range s {
		switch {
		case escaped:
			b.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, begun = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			b.WriteRune(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case r == ' ' || r == '\t' || r == '\n':
			if begun {
				words = append(words, b.String())
				b.Reset()
				begun = false
			}
		default:
			b.WriteRune(r)
			begun = true
		}
	}
	if quote != 0 || escaped {
		return nil, errors.New("a quote is not closed")
	}
	if begun {
		words = append(words, b.String())
	}
	return words, nil
}
