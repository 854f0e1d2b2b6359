package gateway

import (
	"bytes"
	"strconv"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/wire"
	"github.com/rota-project/rota/internal/origin"
)

// CORS says which pages of other origins may call functions, and how browsers are
// told.
type CORS struct {
	// Origins are those that may, such as https://app.example.org. "*" is every
	// one. Without any nobody may.
	Origins []string
	// Functions leaves the answers to preflights, and the headers of others, to the
	// functions. Otherwise the gateway gives them, and what functions say of it is
	// dropped.
	Functions bool
	// Headers are those that a page may send beside the ordinary ones. Empty means
	// whatever it asks for.
	Headers []string
	// Expose are the headers of answers that a page may read.
	Expose []string
	// Credentials lets pages send cookies. It goes with named origins only.
	Credentials bool
	// MaxAge is how long a browser may remember it; 0 means 10 min.
	MaxAge time.Duration
}

func (c CORS) normalize() (CORS, error) {
	for _, o := range c.Origins {
		if o == "*" && c.Credentials {
			return c, &rota.FieldError{Field: "cors.credentials", Value: true, Want: "false, or origins that are named: with * any page could use a caller's cookies"}
		}
	}
	for _, l := range []struct {
		field string
		names []string
	}{{"cors.headers", c.Headers}, {"cors.expose", c.Expose}} {
		for i, n := range l.names {
			if !wire.IsName([]byte(n)) {
				return c, &rota.FieldError{Field: l.field + "[" + strconv.Itoa(i) + "]", Value: n, Want: "the name of a header"}
			}
		}
	}
	if c.MaxAge < 0 {
		return c, &rota.FieldError{Field: "cors.max_age", Value: c.MaxAge, Want: "zero or more"}
	}
	orElse(&c.MaxAge, 10*time.Minute)
	return c, nil
}

// newGuard makes the guard of what calls may come from web pages.
func (c *Config) newGuard(hosts []string) (*origin.Guard, error) {
	names := origin.Config{Addrs: c.Listen, Hosts: hosts, Origins: c.CORS.Origins}
	for _, r := range c.Routes {
		if r.Host != "" {
			names.Hosts = append(names.Hosts[:len(names.Hosts):len(names.Hosts)], r.Host)
		}
	}
	return origin.New(names)
}

// admitPage refuses a request under a name that is not the gateway's, and one that
// a page of another origin has made. acts says that it runs a function.
func (x *exchange) admitPage(st *state, host []byte, acts bool) *origin.RefusedError {
	guard := st.cfg.guard
	if x.peer.Mounted {
		guard = st.cfg.mounted
	}
	req := origin.Request{}
	for i := range x.req.Fields {
		switch f := &x.req.Fields[i]; f.Kind {
		case wire.Origin:
			req.Origin = append(req.Origin, string(f.Value))
			x.pageOrigin = f.Value
		case wire.FetchSite:
			req.Site = append(req.Site, string(f.Value))
		}
	}
	if req.Origin == nil && req.Site == nil && guard.Knows(host) {
		return nil
	}
	req.Method, req.Host, req.Acts = string(x.req.Method), string(host), acts
	refusal := guard.Check(req)
	if refusal != nil || len(st.cfg.CORS.Origins) == 0 || !acts || !guard.Trusts(req.Origin) {
		x.pageOrigin = nil
	}
	return refusal
}

func (x *exchange) refusePage(r *origin.RefusedError) bool {
	x.req.Close = x.req.Close || len(x.req.Host) == 0
	return x.refuse(r.Status, r.Reason)
}

var requestMethod, requestHeaders = []byte("Access-Control-Request-Method"), []byte("Access-Control-Request-Headers")

// field is the value of a header of the request, nil if it is not there.
func (x *exchange) field(name []byte) []byte {
	for i := range x.req.Fields {
		if f := &x.req.Fields[i]; len(f.Name) == len(name) && bytes.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return nil
}

// preflight says whether a browser asks what a page may do, and the gateway is to
// answer that.
func (x *exchange) preflight(st *state) bool {
	return x.pageOrigin != nil && !st.cfg.CORS.Functions && string(x.req.Method) == "OPTIONS" && x.field(requestMethod) != nil
}

func (x *exchange) answerPreflight(st *state) bool {
	c := &st.cfg.CORS
	r := &refusal{end: outcome.EndedWell, status: 204, fields: []wire.Field{
		{Name: []byte("Access-Control-Allow-Methods"), Value: x.field(requestMethod)},
		{Name: []byte("Access-Control-Max-Age"), Value: strconv.AppendInt(nil, int64(c.MaxAge/time.Second), 10)},
	}}
	headers := x.field(requestHeaders)
	if len(c.Headers) > 0 {
		headers = list(c.Headers)
	}
	if headers != nil {
		r.fields = append(r.fields, wire.Field{Name: []byte("Access-Control-Allow-Headers"), Value: headers})
	}
	return x.reply(r)
}

func list(names []string) (b []byte) {
	for i, n := range names {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, n...)
	}
	return b
}

var corsPrefix = []byte("Access-Control-")

// allowPage lets the page that has made the call read the answer in resp.
func (x *exchange) allowPage() {
	if x.pageOrigin == nil {
		return
	}
	c := &x.g.state.Load().cfg.CORS
	if c.Functions {
		return
	}
	for i := range x.resp.Fields {
		if f := &x.resp.Fields[i]; len(f.Name) > len(corsPrefix) && bytes.EqualFold(f.Name[:len(corsPrefix)], corsPrefix) {
			f.Drop = true
		}
	}
	x.resp.Fields = append(x.resp.Fields, wire.Field{Name: []byte("Access-Control-Allow-Origin"), Value: x.pageOrigin}, wire.Field{Name: []byte("Vary"), Value: []byte("Origin")})
	if c.Credentials {
		x.add("Access-Control-Allow-Credentials", "true")
	}
	if len(c.Expose) > 0 {
		x.resp.Fields = append(x.resp.Fields, wire.Field{Name: []byte("Access-Control-Expose-Headers"), Value: list(c.Expose)})
	}
}
