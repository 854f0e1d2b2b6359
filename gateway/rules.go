package gateway

import (
	"bytes"
	"strconv"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/gateway/internal/headers"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// Rules are what holds for the calls of a function whoever runs them; those of a route
// come beside its function's.
type Rules struct {
	// MaxBody is the most bytes of a request's body, without its framing. 0 is no limit,
	// or in a route the function's; NoLimit is none. More is answered 413.
	MaxBody int64
	// Request changes the headers of requests on their way to workers, Response those of
	// answers. A route's changes come after its function's.
	Request, Response HeaderChanges
	// Guard says who may call.
	Guard Guard
}

// NoLimit is a MaxBody that is none.
const NoLimit = -1

// HeaderChanges says which headers are set, replacing those of that name, and which
// are removed. Neither may be one that frames a message, belongs to one hop, or is
// written by the gateway.
type HeaderChanges struct {
	Set    map[string]string
	Remove []string
}

// normalize returns a *rota.FieldError for the first field that is wrong.
func (r *Rules) normalize(field string) error {
	if r.MaxBody < NoLimit {
		return &rota.FieldError{Field: field + ".max_body_bytes", Value: r.MaxBody, Want: "zero or more"}
	}
	for _, d := range []struct {
		name   string
		c      HeaderChanges
		answer bool
	}{{"request", r.Request, false}, {"response", r.Response, true}} {
		if _, name, err := headers.New(d.c.Set, d.c.Remove, d.answer); err != nil {
			return &rota.FieldError{Field: field + ".headers." + d.name, Value: name, Want: err.Error()}
		}
	}
	return r.Guard.normalize(field)
}

// rules are Rules, but for their Guard, with what is made from them. Nil are none.
type rules struct {
	maxBody           int64
	request, response *headers.Rules
}

// compile makes rules, nil if there are none. normalize has checked them.
func (r *Rules) compile() *rules {
	c := &rules{maxBody: r.MaxBody}
	c.request, _, _ = headers.New(r.Request.Set, r.Request.Remove, false)
	c.response, _, _ = headers.New(r.Response.Set, r.Response.Remove, true)
	if *c == (rules{}) {
		return nil
	}
	return c
}

// abide has the call abide by the rules of its function and its route.
func (x *exchange) abide(t *target) {
	x.rules[0], x.rules[1] = x.call.p.rules, t.rules
	for _, r := range x.rules {
		if r != nil {
			x.req.Fields = r.request.Apply(x.req.Fields)
		}
	}
}

// maxBody is the most bytes that the request's body may have, 0 for no limit.
func (x *exchange) maxBody() int64 {
	for i := len(x.rules) - 1; i >= 0; i-- {
		if r := x.rules[i]; r != nil && r.maxBody != 0 {
			return max(r.maxBody, 0)
		}
	}
	return 0
}

// changeResponse changes the answer's headers by the rules.
func (x *exchange) changeResponse() {
	for _, r := range x.rules {
		if r != nil {
			x.resp.Fields = r.response.Apply(x.resp.Fields)
		}
	}
}

// errBodyTooLarge is that of a body that is larger than the rules allow.
var errBodyTooLarge = &wire.Error{Status: 413, Reason: "the request's body is too large"}

// serves says whether the route is for calls of that method.
func (r *Route) serves(method []byte) bool {
	if len(r.Methods) == 0 {
		return true
	}
	for _, m := range r.Methods {
		if m == string(method) || m == "GET" && string(method) == "HEAD" {
			return true
		}
	}
	return false
}

// wanted is the method that the call is about: of a browser that asks what a page may
// do, the one that the page wants to use.
func (x *exchange) wanted() []byte {
	if string(x.req.Method) == "OPTIONS" && x.field(originName) != nil {
		if m := x.field(requestMethod); m != nil {
			return m
		}
	}
	return x.req.Method
}

var originName = []byte("Origin")

// checkMethods returns a *rota.FieldError for the first method that is none.
func (r *Route) checkMethods(field string) error {
	for i, m := range r.Methods {
		if !wire.IsName([]byte(m)) || m != string(bytes.ToUpper([]byte(m))) || m == "CONNECT" || m == "TRACE" || m == "TRACK" {
			return &rota.FieldError{Field: field + ".methods[" + strconv.Itoa(i) + "]", Value: m, Want: "a method in capitals, such as GET; GET is HEAD too"}
		}
	}
	return nil
}
