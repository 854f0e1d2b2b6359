package gateway

import "bytes"

// Workers differ in how they read a path: some decode escapes before they look for what
// is asked, merge slashes, drop segments "." and parameters, or take a backslash for a
// slash. Guards must hold whatever the worker does of that. The canonical path is what is
// left when all of it is done: if a worker that does only some of it finds a prefix, the
// canonical path begins with that prefix, too.

// isCanonical says that there is only one way to read a path.
func isCanonical(path []byte) bool {
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

// appendCanonical appends what a path is to a worker that reads as much into it as any. It
// has no segment ".." and no escape that is none: those are refused before.
func appendCanonical(b, path []byte) []byte {
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

// named is the function that a path calls by its name, if it does.
func named(path []byte) (fn []byte, ok bool) {
	rest, ok := bytes.CutPrefix(path, []byte("/run/"))
	if !ok {
		rest, ok = bytes.CutPrefix(path, []byte("/runLambda/"))
	}
	fn, _, _ = bytes.Cut(rest, []byte{'/'})
	return fn, ok && len(fn) > 0
}

// covers says whether a path is below a prefix.
func covers(prefix string, path []byte) bool {
	n := len(prefix)
	return len(path) >= n && string(path[:n]) == prefix && (len(path) == n || prefix[n-1] == '/' || path[n] == '/')
}
