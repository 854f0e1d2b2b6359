// Package origin keeps the web pages of others away from what listens on HTTP: it
// refuses requests that a page of another origin has made, and requests under a
// name that is not this server's, which is how a page gets around its own origin
// (DNS rebinding).
//
// Everything of the binary that serves HTTP asks a Guard first: the scheduler's
// API and console, the gateway, its admin side, and a worker's --http. It must
// never be a caller's only proof of who they are: programs that are no browsers
// write what headers they like.
package origin

import (
	"bytes"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/rota-project/rota"
)

// Config says what a server is called and who may call it from a browser.
type Config struct {
	// Addrs are the addresses, host:port, that it listens on. If all are of
	// loopback it is called localhost or by an address of loopback; otherwise by
	// any address, and by the names among Addrs.
	Addrs []string
	// Hosts are further names, without port. "*.example.org" is every name below
	// example.org, "*" every name. Pages may link to functions under them, unless a
	// browser takes a name for its own machine.
	Hosts []string
	// Origins are those whose pages may call it, such as https://app.example.org.
	// "*" is every one.
	Origins []string
}

// Guard decides about requests. It does not change; all methods are safe for
// concurrent use.
type Guard struct {
	local     bool              // loopback only
	hosts     map[string]source // by name, in lower case
	below     []string          // ".example.org"
	any       bool
	origins   map[string]bool
	anyOrigin bool
}

// source says why a name is known.
type source bool

const (
	own        source = false // an address of the server
	configured source = true
)

// RefusedError is why a request is not served, and the HTTP status that says so.
type RefusedError struct {
	Status int
	Reason string
}

func (r *RefusedError) Error() string { return r.Reason }

var (
	errNoHost  = &RefusedError{http.StatusBadRequest, "the request names no host"}
	errHost    = &RefusedError{http.StatusMisdirectedRequest, "this server does not go by that host name"}
	errForeign = &RefusedError{http.StatusForbidden, "a page of another origin may not do this"}
)

// New returns a guard. Its error is a *rota.FieldError for Hosts or Origins.
func New(c Config) (*Guard, error) {
	g := &Guard{local: true, hosts: map[string]source{"localhost": own, "127.0.0.1": own, "::1": own}, origins: map[string]bool{}}
	for _, a := range c.Addrs {
		name := Name(a)
		ip, err := netip.ParseAddr(name)
		switch {
		case err != nil && name == "localhost", err == nil && ip.Unmap().IsLoopback():
			continue
		case err != nil && name != "":
			g.hosts[name] = own
		}
		g.local = false
	}
	for i, h := range c.Hosts {
		name := strings.ToLower(h)
		if !strings.HasSuffix(name, "*.") {
			name = strings.TrimSuffix(name, ".")
		}
		below, wild := strings.CutPrefix(name, "*")
		switch {
		case name == "*":
			g.any = true
		case wild && len(below) > 1 && below[0] == '.' && !strings.ContainsAny(below, "*:/@ []"):
			g.below = append(g.below, below)
		case name != "" && name == Name(name) && !strings.ContainsAny(name, "*/@ []"):
			g.hosts[name] = configured
		default:
			return nil, &rota.FieldError{
				Field: "hosts[" + strconv.Itoa(i) + "]", Value: h, Want: "a host name without port, such as api.example.org, *.example.org for all below it, or *",
			}
		}
	}
	for i, o := range c.Origins {
		if o == "*" {
			g.anyOrigin = true
			continue
		}
		key, ok := canonical(o)
		if !ok || strings.Contains(key, "*") {
			return nil, &rota.FieldError{Field: "origins[" + strconv.Itoa(i) + "]", Value: o, Want: "an origin, such as https://app.example.org, or *"}
		}
		g.origins[key] = true
	}
	return g, nil
}

// Name is the name or address of a host with or without a port, in lower case,
// without brackets and the dot at its end.
func Name(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && (strings.IndexByte(host, ':') == i || host[i-1] == ']') {
		host = host[:i]
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// Request is what a guard looks at. The lists have all values of a header.
type Request struct {
	Method, Host string
	Origin, Site []string // Origin and Sec-Fetch-Site
	// Acts says that the request changes something whatever its method: it runs a
	// function, or takes over the connection.
	Acts bool
}

// Of takes a request of net/http apart.
func Of(r *http.Request) Request {
	return Request{
		Method: r.Method, Host: r.Host, Origin: r.Header["Origin"], Site: r.Header["Sec-Fetch-Site"], Acts: r.Header.Get("Upgrade") != "",
	}
}

// Check returns why a request is refused, or nil.
func (g *Guard) Check(r Request) *RefusedError {
	known, refusal := g.host(r.Host)
	if refusal != nil || len(r.Origin)+len(r.Site) == 0 {
		return refusal
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		// Under a name that was configured a page may link to what is only read.
		if !r.Acts || known == configured && len(r.Origin) == 0 {
			return nil
		}
	}
	if g.Trusts(r.Origin) {
		return nil
	}
	if foreign(r) {
		return errForeign
	}
	return nil
}

// Knows says, at little cost, that a Host header is one of the server's. If it
// does not, Check is to be asked.
func (g *Guard) Knows(host []byte) bool {
	if i := bytes.IndexByte(host, ':'); i > 0 && host[0] != '[' {
		host = host[:i]
	}
	_, ok := g.hosts[string(host)]
	return ok || g.any && len(host) > 0 && host[0] != ':'
}

func (g *Guard) host(host string) (known source, refusal *RefusedError) {
	if host == "" {
		return own, errNoHost
	}
	name := Name(host)
	known, refusal = g.named(name)
	if loops(name) {
		known = own // every page on this machine can ask for it: to be among Hosts is no leave to link here
	}
	return known, refusal
}

// loops says whether a browser takes a name or address for its own machine.
func loops(name string) bool {
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Unmap().IsLoopback() || name == "localhost" || strings.HasSuffix(name, ".localhost")
}

func (g *Guard) named(name string) (known source, refusal *RefusedError) {
	if known, ok := g.hosts[name]; ok {
		return known, nil
	}
	if g.any {
		return configured, nil
	}
	for _, b := range g.below {
		if strings.HasSuffix(name, b) && len(name) > len(b) {
			return configured, nil
		}
	}
	// No page can be under an address that its server does not have.
	if ip, err := netip.ParseAddr(name); err == nil && !ip.IsUnspecified() && (ip.Unmap().IsLoopback() || !g.local) {
		return own, nil
	}
	return own, errHost
}

// Own says that a page of the server's own origin has sent the request, by what the
// browser says of it: one that says nothing of it has not. What only reads may also
// come from the user, and from browsers that do not tell where from.
func Own(r Request) bool {
	if foreign(r) {
		return false
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return !r.Acts || len(r.Origin)+len(r.Site) > 0
	}
	return len(r.Site) == 1 && r.Site[0] == "same-origin" || len(r.Site) == 0 && len(r.Origin) == 1
}

// Trusts says whether the pages of an origin, the values of the header, may call.
func (g *Guard) Trusts(origin []string) bool {
	if len(origin) != 1 {
		return false
	}
	if g.anyOrigin {
		return true
	}
	key, ok := canonical(origin[0])
	return ok && g.origins[key]
}

// foreign says that a browser has sent the request for a page of another origin,
// or what only pretends to be one has.
func foreign(r Request) bool {
	if len(r.Origin) > 1 || len(r.Site) > 1 {
		return true
	}
	if len(r.Site) == 1 && r.Site[0] != "same-origin" && r.Site[0] != "none" {
		return true
	}
	if len(r.Origin) == 0 {
		return false
	}
	// "null", "about:blank" and what is no origin at all are somebody else's.
	// http and https may differ where TLS ends before us.
	u, ok := parse(r.Origin[0])
	return !ok || !strings.EqualFold(port(u.Host, u.Scheme), port(r.Host, u.Scheme))
}

// parse reads scheme://host[:port] and nothing else, of the web.
func parse(origin string) (*url.URL, bool) {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(origin, "#") {
		return nil, false
	}
	return u, true
}

func canonical(origin string) (string, bool) {
	u, ok := parse(strings.ToLower(origin))
	if !ok {
		return "", false
	}
	return u.Scheme + "://" + port(u.Host, u.Scheme), true
}

// port adds the port that a scheme has if none is said.
func port(host, scheme string) string {
	u := url.URL{Host: host}
	if u.Port() != "" {
		return host
	}
	host = strings.TrimSuffix(host, ":")
	if scheme == "https" {
		return host + ":443"
	}
	return host + ":80"
}

// Handler refuses what the guard refuses. deny writes the answer; nil means a line
// of text.
func (g *Guard) Handler(next http.Handler, deny func(http.ResponseWriter, *RefusedError)) http.Handler {
	if deny == nil {
		deny = func(w http.ResponseWriter, r *RefusedError) { http.Error(w, r.Reason, r.Status) }
	}
	// The standard library's rule first; what follows is stricter where browsers
	// say less: an Origin that is none, more values than one, connections that are
	// taken over.
	std := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refusal := g.Check(Of(r))
		if refusal == nil && !g.Trusts(r.Header["Origin"]) && std.Check(r) != nil {
			refusal = errForeign
		}
		if refusal != nil {
			deny(w, refusal)
			return
		}
		next.ServeHTTP(w, r)
	})
}
