package table

import (
	"fmt"
	"strings"
)

const hexDigits = "0123456789abcdef"

// appendBound writes bound so that it is readable and that the order of written
// bounds is the order of bounds. Each byte becomes one of three codes, none of
// which begins another, in the order of the bytes that they stand for: '!' and
// two digits for 0x00 to 0x21, itself for 0x22 to 0x7d, '~' and two digits above.
func appendBound(dst []byte, bound string) []byte {
	for i := range len(bound) {
		switch b := bound[i]; {
		case b <= '!':
			dst = append(dst, '!', hexDigits[b>>4], hexDigits[b&15])
		case b >= '~':
			dst = append(dst, '~', hexDigits[b>>4], hexDigits[b&15])
		default:
			dst = append(dst, b)
		}
	}
	return dst
}

// parseBound reads what appendBound wrote, and only that.
func parseBound(s string) (string, error) {
	if !strings.ContainsAny(s, "!~") && plain(s) {
		return s, nil
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '!' && c != '~' {
			if c < '!' || c > '~' {
				return "", fmt.Errorf("byte %#02x is not escaped", c)
			}
			out = append(out, c)
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("escape %q is cut off", s[i:])
		}
		hi, lo := strings.IndexByte(hexDigits, s[i+1]), strings.IndexByte(hexDigits, s[i+2])
		if hi < 0 || lo < 0 {
			return "", fmt.Errorf("%q is no escape", s[i:i+3])
		}
		b := byte(hi<<4 | lo)
		if (c == '!') != (b <= '!') || (c == '~') != (b >= '~') {
			return "", fmt.Errorf("%q escapes a byte that it should not", s[i:i+3])
		}
		out = append(out, b)
		i += 2
	}
	return string(out), nil
}

func plain(s string) bool {
	for i := range len(s) {
		if s[i] <= '!' || s[i] >= '~' {
			return false
		}
	}
	return true
}

// separator returns the shortest prefix of key that is greater than before.
func separator(before, key string) string {
	n := 0
	for n < len(before) && n < len(key) && before[n] == key[n] {
		n++
	}
	return key[:min(n+1, len(key))]
}
