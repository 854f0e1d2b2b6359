package gateway

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/paths"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// target is what a path asks for.
type target struct {
	kind targetKind
	fn   []byte // the function's name
	task []byte
	path []byte // what to ask the worker for, with query
	// named is the offset of the function's name in path, 0 if path does not have it.
	named  int
	prefix []byte // that was taken off the path
	rules  *rules // of the route
	guard  *guard // of the route
	allow  string // toOther: methods that a route of this path is for
}

// route is a Route with what is made from it.
type route struct {
	Route
	rules *rules
	guard *guard
	// canonical is the prefix as it begins canonical paths.
	canonical string
	behind    []*route // with Strip: those that a worker might take its calls for, and guards them otherwise
}

type targetKind uint8

const (
	toFunction targetKind = iota
	toOwn                 // the gateway's own paths
	toNowhere             // 404
	toBad                 // 400
	toOther               // 405
	toUnclear             // 400: a worker could read the path as a guarded one
)

// resolve finds out what a request is for. uri is in origin form.
func (st *state) resolve(host, uri, method []byte) (t target) {
	path := uri
	if i := bytes.IndexByte(uri, '?'); i >= 0 {
		path = uri[:i]
	}
	t.path = uri
	if paths.Unclear(path) || bytes.IndexByte(path, '#') >= 0 {
		t.kind = toBad
		return t
	}
	switch {
	case bytes.HasPrefix(path, []byte("/run/")):
		t.fn, t.named = path[len("/run/"):], len("/run/")
		if i := bytes.IndexByte(t.fn, '/'); i >= 0 {
			t.fn = t.fn[:i]
		}
		t.check()
		return t
	case bytes.HasPrefix(path, []byte("/runLambda/")):
		t.fn, t.named = path[len("/runLambda/"):], len("/runLambda/")
		t.check()
		return t
	case bytes.HasPrefix(path, []byte("/t/")):
		rest := uri[len("/t/"):]
		end := bytes.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		t.task, t.path, t.prefix = rest[:end], rest[end:], uri[:len("/t/")+end]
		t.kind = toFunction
		if len(t.path) == 0 || t.path[0] != '/' {
			t.path = append([]byte{'/'}, t.path...)
		}
		if len(t.task) == 0 {
			t.kind = toBad
		} else if st.evades(&t, -1, host, path, method) {
			t.kind = toUnclear
		}
		return t
	}
	own := isOwn(path)
	if len(st.routes) > 0 {
		if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 {
			host = host[:i]
		}
		host = bytes.TrimSuffix(host, []byte{'.'}) // the root's, which names the same host
		for i := range st.routes {
			r := &st.routes[i]
			if own && r.Host == "" && len(st.cfg.AdminListen) == 0 {
				continue // the gateway's own paths come before routes of every host
			}
			if !paths.Covers(r.Prefix, path) || !r.isFor(host) {
				continue
			}
			if !r.serves(method) {
				if t.allow != "" {
					t.allow += ", "
				}
				t.allow += strings.Join(r.Methods, ", ")
				continue
			}
			t.fn, t.rules, t.guard = []byte(r.Function), r.rules, r.guard
			if r.Strip {
				t.path, t.prefix = uri[len(r.Prefix):], bytes.TrimRight(uri[:len(r.Prefix)], "/")
				if len(t.path) == 0 || t.path[0] != '/' {
					t.path = append([]byte{'/'}, t.path...)
				}
			}
			if st.evades(&t, i, host, path, method) {
				t.kind = toUnclear
			}
			return t
		}
	}
	if own && len(st.cfg.AdminListen) == 0 {
		t.kind = toOwn
		return t
	}
	if t.kind = toNowhere; t.allow != "" {
		t.kind = toOther
	}
	return t
}

// isOwn says whether the gateway has an answer of its own for a path.
func isOwn(path []byte) bool {
	switch string(path) {
	case "/status", "/metrics", "/admin/workers/add", "/admin/workers/remove", "/api/v1/routes", "/api/v1/failures", "/api/v1/gateway", "/run", "/runLambda":
		return true
	}
	return bytes.HasPrefix(path, []byte("/api/v1/routes/"))
}

// isFor says whether the route is for calls of that host.
func (r *Route) isFor(host []byte) bool {
	if name, wild := strings.CutPrefix(r.Host, "*"); wild { // any name below it
		return len(host) > len(name) && bytes.EqualFold(host[len(host)-len(name):], []byte(name))
	}
	return r.Host == "" || bytes.EqualFold([]byte(r.Host), host)
}

func (t *target) check() {
	if len(t.fn) == 0 {
		t.kind = toBad
		return
	}
	for _, b := range t.fn {
		if (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && (b < '0' || b > '9') && b != '.' && b != '-' && b != '_' {
			t.kind = toBad
			return
		}
	}
	if string(t.fn) == "." || string(t.fn) == ".." {
		t.kind = toBad
	}
}

// sticky hashes the value that the sticky rule uses; 0 if the request does not have it.
func (p *policy) sticky(fields []wire.Field, uri []byte) uint64 {
	if p.StickyHeader != "" {
		for _, f := range fields {
			if bytes.EqualFold(f.Name, []byte(p.StickyHeader)) {
				return balance.HashBytes(f.Value)
			}
		}
	}
	if p.StickyCookie != "" {
		for _, f := range fields {
			if f.Kind == wire.Cookie {
				if v := pair(f.Value, p.StickyCookie, ';'); v != nil {
					return balance.HashBytes(v)
				}
			}
		}
	}
	if p.StickyQuery != "" {
		if i := bytes.IndexByte(uri, '?'); i >= 0 {
			if v := pair(uri[i+1:], p.StickyQuery, '&'); v != nil {
				return balance.HashBytes(v)
			}
		}
	}
	return 0
}

// pair finds the value of key in a list of key=value.
func pair(list []byte, key string, sep byte) []byte {
	for len(list) > 0 {
		var item []byte
		if i := bytes.IndexByte(list, sep); i >= 0 {
			item, list = list[:i], list[i+1:]
		} else {
			item, list = list, nil
		}
		item = bytes.TrimLeft(item, " ")
		if i := bytes.IndexByte(item, '='); i >= 0 && string(item[:i]) == key {
			return item[i+1:]
		}
	}
	return nil
}

// parseGeneration reads the Rota-Generation header of a request.
func parseGeneration(v []byte) uint64 {
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
