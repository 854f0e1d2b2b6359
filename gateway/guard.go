package gateway

import (
	"bytes"
	"strconv"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/gateway/internal/headers"
	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/wire"
	"github.com/rota-project/rota/internal/apikey"
)

// Guard says who may call. All that is in it must let a call pass; with nothing anybody
// may.
//
// A function that has none of its own, and a route with one, is called by its routes
// only: under /run/ anybody would get past the guard. A function that gets calls by a
// Split has the guard of the one that is split, if it has none; it is called by splits
// and routes only if several functions are split to it that have other guards, or if only
// routes guard one of them. It must not have another guard than they have.
type Guard struct {
	Keys    *Keys
	Forward *ForwardAuth
}

// Keys are API keys, one of which a caller has to show. It is never passed on.
type Keys struct {
	// Names are the names of the keys, for the log, by the SHA-256 of each in hex.
	Names map[string]string
	// Header is where the key is; empty means X-Api-Key. In Authorization it is a bearer
	// token.
	Header string
}

func (g *Guard) normalize(field string) error {
	if k := g.Keys; k != nil {
		if len(k.Names) == 0 || len(k.Names) > apikey.MaxKeys {
			return &rota.FieldError{Field: field + ".keys", Value: len(k.Names), Want: "1 to " + strconv.Itoa(apikey.MaxKeys) + " keys"}
		}
		for h, name := range k.Names {
			if _, err := apikey.ParseHash(h); err != nil || apikey.CheckName(name) != nil {
				return &rota.FieldError{Field: field + ".keys", Value: name, Want: "a short name, and the SHA-256 of its key"}
			}
		}
		if _, _, err := headers.New(nil, []string{k.header()}, false); err != nil {
			return &rota.FieldError{Field: field + ".keys.header", Value: k.Header, Want: err.Error()}
		}
	}
	if g.Forward != nil {
		return g.Forward.normalize(field + ".forward_auth")
	}
	return nil
}

func (k *Keys) header() string {
	if k.Header == "" {
		return "X-Api-Key"
	}
	return k.Header
}

// guard is a Guard with what is made from it.
type guard struct {
	from    Guard
	keys    apikey.Set
	header  string // of the key
	bearer  bool
	forward *ForwardAuth
}

// compile makes a guard. normalize has checked it.
func (g *Guard) compile() *guard {
	c := &guard{from: *g, forward: g.Forward}
	if g.Keys != nil {
		c.keys = apikey.Set{}
		for s, name := range g.Keys.Names {
			if h, err := apikey.ParseHash(s); err == nil {
				c.keys[h] = name
			}
		}
		c.header = g.Keys.header()
		c.bearer = wire.NewField([]byte(c.header), nil).Kind == wire.Authorization
	}
	return c
}

// describe says in a line how the guard decides.
func (g *guard) describe() string {
	if g == nil {
		return ""
	}
	var b []byte
	if g.keys != nil {
		b = strconv.AppendInt(append(b, "keys in "+g.header+" ("...), int64(len(g.keys)), 10)
		b = append(b, ")"...)
	}
	if g.forward != nil {
		if b != nil {
			b = append(b, ", "...)
		}
		b = append(b, "asks "+g.forward.URL...)
	}
	return string(b)
}

// admitBy asks the guards of the function and of the route whether the call may go on.
// If not it answers it, and ok is false.
func (x *exchange) admitBy(t *target) (keep, ok bool) {
	if !x.call.st.guards.any {
		return false, true
	}
	guards := [2]*guard{x.call.st.guards.of(t.fn), t.guard}
	for _, g := range guards {
		if g == nil {
			continue
		}
		if g.keys != nil {
			if why := x.admitKey(g); why != "" {
				return x.reply(&refusal{end: outcome.ClientRefused, status: 401, text: why, fields: []wire.Field{g.challenge()}}), false
			}
		}
		if g.forward != nil {
			if keep, ok := x.admitForward(g.forward, guards); !ok {
				return keep, false
			}
		}
	}
	return false, true
}

// admitKey looks for the caller's key, and removes it from the request. It returns
// why the call is refused, or "".
func (x *exchange) admitKey(g *guard) (why string) {
	var key []byte
	n := 0
	for i := range x.req.Fields {
		f := &x.req.Fields[i]
		if !headers.Same(f.Name, g.header) {
			continue
		}
		f.Drop = true
		if bytes.IndexByte(f.Name, '_') >= 0 && !bytes.EqualFold(f.Name, []byte(g.header)) {
			continue // it would be taken for the key elsewhere
		}
		n++
		key = f.Value
		if scheme, token, _ := bytes.Cut(key, []byte(" ")); g.bearer {
			key = bytes.TrimLeft(token, " ")
			if !bytes.EqualFold(scheme, []byte("Bearer")) {
				n = 0
			}
		}
	}
	if n == 0 {
		return "an API key is needed, in " + g.header
	}
	name, ok := g.keys.Name(key)
	if !ok || n > 1 {
		return "this API key may not call"
	}
	x.rec.Key = name
	return ""
}

// challenge is the WWW-Authenticate field of a refusal.
func (g *guard) challenge() wire.Field {
	how := "ApiKey header=\"" + g.header + "\""
	if g.bearer {
		how = "Bearer"
	}
	return wire.Field{Name: []byte("WWW-Authenticate"), Value: []byte(how)}
}

// authTimeout is the default timeout of an authorization service.
const authTimeout = 5 * time.Second
