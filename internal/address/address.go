// Package address shows addresses without their secrets: the user and password
// before the host, the values of a query, and what follows #. Whatever is printed,
// logged or answered and may have an address in it goes through Text, errors of
// other packages included. It is pure, and imports nothing of this module.
package address

import (
	"strings"
)

// hidden stands for what is not shown.
const hidden = "***"

// Text returns s with every address in it shown without its secrets. Addresses
// are scheme://... up to white space or a quote, and user:password@host.
func Text(s string) string {
	if !strings.Contains(s, "://") && !strings.Contains(s, "@") {
		return s
	}
	var b strings.Builder
	for s != "" {
		end := strings.IndexFunc(s, ends)
		if end == 0 {
			end = len(s) - len(strings.TrimLeftFunc(s, ends))
			b.WriteString(s[:end])
			s = s[end:]
			continue
		}
		if end < 0 {
			end = len(s)
		}
		b.WriteString(word(s[:end]))
		s = s[end:]
	}
	return b.String()
}

// Show returns one address without its secrets, whatever characters are in it.
func Show(s string) string {
	if strings.Contains(s, "://") || strings.Contains(s, "@") {
		return word(s)
	}
	return s
}

// Error is err with a text that is shown by Text. It is nil if err is.
func Error(err error) error {
	if err == nil {
		return nil
	}
	if text := err.Error(); Text(text) != text {
		return &shownError{err}
	}
	return err
}

type shownError struct{ err error }

func (e *shownError) Error() string { return Text(e.err.Error()) }
func (e *shownError) Unwrap() error { return e.err }

func ends(r rune) bool { return r <= ' ' || strings.ContainsRune("\"'`<>\u00a0", r) }

// word shows one word: addresses may stand in it one after another, divided by
// commas, as in a list, and one within another.
func word(s string) string {
	if !strings.Contains(s, "://") {
		return bare(s)
	}
	var b strings.Builder
	from, at := 0, 0 // where the address begins, and the piece that is looked at
	for piece := range strings.SplitAfterSeq(s, ",") {
		if strings.Contains(piece, "://") && at > from {
			one(&b, s[from:at])
			from = at
		}
		at += len(piece)
	}
	one(&b, s[from:])
	return b.String()
}

// one shows an address, and what stands before its scheme.
func one(b *strings.Builder, s string) {
	comma := strings.HasSuffix(s, ",")
	s = strings.TrimSuffix(s, ",")
	before, rest, ok := strings.Cut(s, "://")
	if !ok {
		b.WriteString(bare(s))
	} else {
		scheme := before[strings.LastIndexFunc(before, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("+-.", r)
		})+1:]
		b.WriteString(bare(before[:len(before)-len(scheme)]) + scheme)
		for piece := range strings.SplitSeq(rest, "://") {
			b.WriteString("://" + located(piece))
			if strings.ContainsAny(piece, "?#") { // the rest is its query's
				break
			}
		}
	}
	if comma {
		b.WriteByte(',')
	}
}

// located shows what follows the scheme.
func located(s string) string {
	s, fragment, hasFragment := cut(s, '#')
	s, query, hasQuery := cut(s, '?')
	host, path := s, ""
	if i := strings.IndexByte(s, '/'); i >= 0 {
		host, path = s[:i], s[i:]
	}
	switch {
	case strings.Contains(host, "@"):
		host = hidden + host[strings.LastIndexByte(host, '@'):]
	case !port(host):
		// A password with characters that may not be in one: all up to the last @
		// may belong to it.
		all := s
		if hasQuery {
			all += "?" + query
		}
		if hasFragment {
			all += "#" + fragment
		}
		if i := strings.LastIndexByte(all, '@'); i >= 0 {
			return hidden + "@" + located(all[i+1:])
		}
		host = hidden
	}
	out := host + path
	if hasQuery {
		out += "?" + values(query)
	}
	if hasFragment {
		out += "#" + hidden
	}
	return out
}

// port reports whether what follows the host's colon can be a port, and so is no
// password. Braces are for texts about addresses, http://host:port.
func port(host string) bool {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || strings.HasSuffix(host, "]") {
		return true
	}
	p := strings.TrimRight(host[i+1:], ".,;:)]}\\")
	return p == "" || strings.EqualFold(p, "port") || !strings.ContainsFunc(p, func(r rune) bool { return r < '0' || r > '9' })
}

// values shows the names of a query.
func values(query string) string {
	var b strings.Builder
	for i, part := range strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' }) {
		if i > 0 {
			b.WriteByte('&')
		}
		if name, _, ok := strings.Cut(part, "="); ok {
			b.WriteString(name + "=")
		}
		b.WriteString(hidden)
	}
	return b.String()
}

// bare shows a word without a scheme: user:password@host.
func bare(s string) string {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return s
	}
	colon := strings.IndexByte(s[:at], ':')
	if colon <= 0 || strings.HasPrefix(s, "/") {
		return s
	}
	from := strings.LastIndexAny(s[:colon], ",=([{") + 1
	return s[:from] + hidden + s[at:]
}

func cut(s string, at byte) (before, after string, found bool) {
	return strings.Cut(s, string(at))
}
