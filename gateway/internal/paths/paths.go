// Package paths reads paths in all the ways in which workers may.
//
// Workers differ in how they read a path: some decode escapes before they look for what
// is asked, merge slashes, drop segments "." and parameters, or take a backslash for a
// slash. Guards must hold whatever the worker does of that. The canonical path is what is
// left when all of it is done: if a worker that does only some of it finds a prefix, the
// canonical path begins with that prefix, too.
//
// The gateway's routes and guards ask it. It must never know what either of them is for.
package paths

import "bytes"

// IsCanonical says that there is only one way to read a path.
func IsCanonical(path []byte) bool {
	last := byte(0)
	for i, c := range path {
		switch c {
		case '%', '\\', ';':
			return false
		case '/':
			if last == '/' {
				return false
			}
		case '.':
			if last == '/' && (i+1 == len(path) || path[i+1] == '/') {
				return false
			}
		}
		last = c
	}
	return true
}

// AppendCanonical appends what a path is to a worker that reads as much into it as any. It
// has no segment ".." and no escape that is none: those are refused before.
func AppendCanonical(b, path []byte) []byte {
	parameter := false
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '%' {
			c = unhex(path[i+1])<<4 | unhex(path[i+2])
			i += 2
		}
		switch {
		case c == '/', c == '\\':
			parameter = false
			if b = dropDot(b); len(b) == 0 || b[len(b)-1] != '/' {
				b = append(b, '/')
			}
		case c == ';', c == '?', c == '#', c == 0: // an escaped end of the path is one to some
			parameter = true
		case !parameter:
			b = append(b, c)
		}
	}
	return dropDot(b)
}

// dropDot takes a last segment "." off a path.
func dropDot(b []byte) []byte {
	if bytes.HasSuffix(b, []byte("/.")) {
		return b[:len(b)-1]
	}
	return b
}

// Named is the function that a path calls by its name, if it does.
func Named(path []byte) (fn []byte, ok bool) {
	rest, ok := bytes.CutPrefix(path, []byte("/run/"))
	if !ok {
		rest, ok = bytes.CutPrefix(path, []byte("/runLambda/"))
	}
	fn, _, _ = bytes.Cut(rest, []byte{'/'})
	return fn, ok && len(fn) > 0
}

// Covers says whether a path is below a prefix.
func Covers(prefix string, path []byte) bool {
	n := len(prefix)
	return len(path) >= n && string(path[:n]) == prefix && (len(path) == n || prefix[n-1] == '/' || path[n] == '/')
}

// Unclear says that a path has a segment "..", which the worker might take for a
// call of another function, or an escape that is none. Servers differ in what they
// take for the end of a segment, and some decode before they look: slashes and
// backslashes count escaped too, and so do parameters after the dots.
func Unclear(path []byte) bool {
	if bytes.IndexByte(path, '.') < 0 && bytes.IndexByte(path, '%') < 0 {
		return false
	}
	dots, plain := 0, false // of the present segment
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '%' {
			if len(path)-i < 3 || !hex(path[i+1]) || !hex(path[i+2]) {
				return true
			}
			c = unhex(path[i+1])<<4 | unhex(path[i+2])
			i += 2
		}
		switch c {
		case '/', '\\', ';':
			if dots == 2 && !plain {
				return true
			}
			if dots, plain = 0, c == ';'; c == ';' {
				continue // what follows is no segment of its own
			}
		case '.':
			dots++
		default:
			plain = true
		}
	}
	return dots == 2 && !plain
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

func hex(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }
