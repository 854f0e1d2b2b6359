package gateway

import (
	"context"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/rota-project/rota/gateway/internal/local"
	"github.com/rota-project/rota/gateway/internal/wire"
	"github.com/rota-project/rota/internal/origin"
)

// AdminHandler answers the gateway's own paths, the admin ones too, without asking
// who calls: for a listener that only those reach who may, such as a unix socket of
// mode 0600. It must never be served on a port.
func (g *Gateway) AdminHandler() http.Handler {
	guard, err := origin.New(origin.Config{})
	if err != nil {
		panic(err) // nothing was configured
	}
	return guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.admin.ServeHTTP(w, r) }), nil)
}

// guardAdmin lets callers through who have the token. Where there is LocalAdmin, and
// direct says that the path is one of those, programs of this user on this machine
// need none.
//
// That a call comes over loopback says nothing: a proxy on this machine, a web page
// in a browser and every other user do.
func (g *Gateway) guardAdmin(h http.HandlerFunc, direct bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if g.hasToken(r) {
			h(w, r)
			return
		}
		want := "this needs the admin token, as a bearer token; or ask on the gateway's admin socket (rota route and rota workers find it)"
		if direct && g.state.Load().cfg.LocalAdmin {
			err := g.direct(r)
			if err == nil {
				h(w, r)
				return
			}
			want += "; it was not taken for a program of the gateway's user: " + err.Error()
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, want, http.StatusForbidden)
	}
}

func (g *Gateway) hasToken(r *http.Request) bool {
	token := g.state.Load().cfg.AdminToken
	given, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return token != "" && bearer && subtle.ConstantTimeCompare([]byte(given), []byte(token)) == 1
}

// fromOthers are further headers that browsers and proxies add.
var fromOthers = []string{"Origin", "Referer", "Cookie", "Via"}

// direct returns nil if a program of this user has made the call for itself.
func (g *Gateway) direct(r *http.Request) error {
	for name := range r.Header {
		if f := wire.NewField([]byte(name), nil); strings.HasPrefix(name, "Sec-") || f.SpeaksForOthers() {
			return local.ErrServes
		}
	}
	for _, name := range fromOthers {
		if r.Header[name] != nil {
			return local.ErrServes
		}
	}
	ours, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr) // own and net/http have set it
	theirs, err := netip.ParseAddrPort(r.RemoteAddr)
	if ours == nil || err != nil {
		return local.ErrUnknown
	}
	at, err := netip.ParseAddrPort(ours.String())
	if err != nil {
		return local.ErrUnknown
	}
	g.looking.Lock() // it reads what the kernel knows of all processes: one at a time
	defer g.looking.Unlock()
	return local.Caller(at, theirs)
}

// withLocalAddr says in a request's context where its connection came in, if it is the
// client's own: the system knows nothing of one that a proxy has only told of.
func (x *exchange) withLocalAddr(ctx context.Context) context.Context {
	if x.peer.At == nil || x.peer.Proxied {
		return ctx
	}
	return context.WithValue(ctx, http.LocalAddrContextKey, x.peer.At)
}
