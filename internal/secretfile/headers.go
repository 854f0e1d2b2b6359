package secretfile

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
)

// maxHeaders is how many headers a file may have.
const maxHeaders = 64

// Headers takes the text of the file at path apart, which has HTTP headers, "Name: value",
// one a line; empty lines and those that begin with # are left out. The error names the
// file and the line, and nothing that is in it.
func Headers(path string, b []byte) (http.Header, error) {
	h := http.Header{}
	n := 0
	for line := range bytes.Lines(b) {
		n++
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(text, ":")
		value = strings.TrimSpace(value)
		if !ok || name == "" || strings.ContainsFunc(name, notToken) || strings.ContainsFunc(value, notValue) || len(h) == maxHeaders {
			return nil, fmt.Errorf("%s:%d: want one header a line, Name: value, at most %d", path, n, maxHeaders)
		}
		h.Add(name, value)
	}
	return h, nil
}

func notToken(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

func notValue(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
