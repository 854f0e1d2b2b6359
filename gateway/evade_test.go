package gateway_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
)

// readings are what workers may take a path for: each does some of what servers do to
// paths, in any order that one was seen to have.
func readings(path string) []string {
	steps := []func(string) string{
		withoutParameters,
		func(p string) string {
			if d, err := url.PathUnescape(p); err == nil {
				return d
			}
			return p
		},
		func(p string) string {
			if i := strings.IndexAny(p, "\x00?#"); i >= 0 {
				return p[:i]
			}
			return p
		},
		withoutParameters,
		func(p string) string { return strings.ReplaceAll(p, `\`, "/") },
		func(p string) string {
			segments := strings.Split(p, "/")
			return strings.Join(slices.DeleteFunc(segments, func(s string) bool { return s == "." }), "/")
		},
		func(p string) string {
			for strings.Contains(p, "//") {
				p = strings.ReplaceAll(p, "//", "/")
			}
			return p
		},
	}
	var out []string
	for which := range 1 << len(steps) {
		p := path
		for i, step := range steps {
			if which>>i&1 == 1 {
				p = step(p)
			}
		}
		out = append(out, p)
	}
	return out
}

func withoutParameters(p string) string {
	segments := strings.Split(p, "/")
	for i := range segments {
		segments[i], _, _ = strings.Cut(segments[i], ";")
	}
	return strings.Join(segments, "/")
}

// guardedFor says by which of its readings a path is for what guards keep.
func guardedFor(path string) (reading string, is bool) {
	path, _, _ = strings.Cut(path, "?")
	for _, r := range readings(path) {
		for _, prefix := range []string{"/run/secret", "/runLambda/secret", "/admin"} {
			if rest, ok := strings.CutPrefix(r, prefix); ok && (rest == "" || rest[0] == '/') {
				return r, true
			}
		}
	}
	return "", false
}

// keepers are configurations in which the function secret and the path /admin are guarded,
// each in another way, beside what is open: a route of /, one that takes a prefix off, and
// a task.
func keepers(t *testing.T) map[string]gateway.Config {
	echo := backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI) })
	no := gateway.Guard{Forward: &gateway.ForwardAuth{URL: backend(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })}}
	guards := map[string]gateway.Guard{"keys": keyed("", "alice"), "a server": no}
	members := &gateway.MemoryMembers{}
	members.Set(gateway.Member{Name: "w", URL: echo})
	members.SetOwner("task", gateway.Owner{Worker: "w", Generation: 1})
	open := gateway.Function{Policy: &gateway.Policy{Balancer: "round-robin"}}
	all := map[string]gateway.Config{}
	for name, g := range guards {
		guarded := gateway.Function{Policy: &gateway.Policy{Rules: gateway.Rules{Guard: g}}}
		base := simple()
		base.Members, base.Defaults.QueueTimeout = members, time.Millisecond // of tasks that nobody owns
		base.Functions = map[string]gateway.Function{"open": open}
		base.Routes = []gateway.Route{
			{Prefix: "/", Function: "open"},
			{Prefix: "/strip", Function: "open", Strip: true},
			{Prefix: "/strip/slash/", Function: "open", Strip: true},
			{Prefix: "/admin", Function: "admin", Rules: gateway.Rules{Guard: g}},
			{Prefix: "/secret", Function: "secret", Rules: gateway.Rules{Guard: g}},
		}
		all[name+" by routes"] = base

		own := base
		own.Functions = map[string]gateway.Function{"open": open, "secret": guarded, "admin": guarded}
		own.Routes = slices.Clone(base.Routes)
		for i := range own.Routes {
			own.Routes[i].Rules = gateway.Rules{}
		}
		all[name+" of functions"] = own

		defaults := own
		defaults.Functions = map[string]gateway.Function{"open": open}
		defaults.Defaults.Rules.Guard = g
		all[name+" of the defaults"] = defaults

		closed := base
		closed.Closed = true
		closed.Functions = map[string]gateway.Function{"open": open, "admin": open}
		closed.Routes = base.Routes[:4]
		all[name+" of a route, else closed"] = closed
	}
	return all
}

// However a path is written, and whichever open way it takes, a worker does not get it if
// some worker would take it for what a guard keeps. What is open stays so.
func TestGuardsHoldHoweverPathsAreWritten(t *testing.T) {
	t.Parallel()
	spellings := map[string]func(string) string{
		"plain":             func(p string) string { return p },
		"a letter":          func(p string) string { return fmt.Sprintf("/%%%02x%s", p[1], p[2:]) },
		"a letter, upper":   func(p string) string { return strings.ReplaceAll(p, "n", "%6E") },
		"slashes":           func(p string) string { return "/" + strings.ReplaceAll(p[1:], "/", "%2F") },
		"all":               func(p string) string { return "/" + everyByte(p[1:]) },
		"doubled":           func(p string) string { return strings.ReplaceAll(p, "/", "//") },
		"doubled, escaped":  func(p string) string { return "/%2f" + p[1:] },
		"a dot":             func(p string) string { return "/." + p },
		"an escaped dot":    func(p string) string { return "/%2E" + strings.Replace(p, "n/", "n/%2e/", 1) },
		"a parameter":       func(p string) string { return strings.ReplaceAll(p, "n", "n;v=1") + ";x" },
		"nothing but one":   func(p string) string { return "/;v=1" + p },
		"a dot with one":    func(p string) string { return "/.;v" + p },
		"backslashes":       func(p string) string { return "/" + strings.ReplaceAll(p[1:], "/", "%5C") + "%5cx" },
		"an escaped query":  func(p string) string { return p + "%3fx" },
		"an escaped NUL":    func(p string) string { return p + "%00" },
		"several":           func(p string) string { return "/.//%2e;a%2F" + everyByte(p[1:3]) + p[3:] },
		"a query after all": func(p string) string { return "/%2f" + p[1:] + "?a=/b" },
	}
	for way, serve := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			for name, cfg := range keepers(t) {
				_, addr := serve(t, cfg)
				for _, target := range []string{"/run/secret", "/runLambda/secret", "/run/secret/x", "/admin", "/admin/x"} {
					for how, spell := range spellings {
						for _, before := range []string{"", "/strip", "/strip/slash", "/t/task"} {
							path := before + spell(target)
							status, body := get(t, addr, path)
							if r, is := guardedFor(body); status == http.StatusOK && is {
								t.Errorf("%s, %s: %s: a worker got it, which may take it for %s", name, how, path, r)
							}
							if status >= 500 {
								t.Errorf("%s, %s: %s: %d %q", name, how, path, status, body)
							}
						}
					}
				}
				if strings.HasSuffix(name, "defaults") {
					continue // tasks are guarded, too
				}
				for _, path := range []string{"/site/a%20b", "/site//b", "/site/./b", "/site/a%2Fb;v=1", "/a%5Cb", "/r%75n", "/run%20/secret", "/administrator/%61", "/x/run/secret", "/x/admin", "/adm%69n2", "/%E2%82%AC?/run/secret"} {
					for _, before := range []string{"", "/strip", "/t/task"} {
						if status, body := get(t, addr, before+path); status != http.StatusOK || body != path {
							t.Errorf("%s: %s: %d %q", name, before+path, status, body)
						}
					}
				}
			}
		})
	}
}

func everyByte(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02x", c)
	}
	return b.String()
}

// The same with paths that are put together by chance.
func TestGuardsHoldForAnyPath(t *testing.T) {
	t.Parallel()
	pieces := []string{
		"/", "/", "/", "//", "%2f", "%5C", ";", ";a=b", ".", "%2e", "/.", "run", "r%75n", "%72un", "runLambda", "secret", "s%65cret", "secret", "admin", "%61dmin",
		"%3f", "%23", "%00", "x", "%25", "%2561", "strip", "t/task", "open",
	}
	for name, cfg := range keepers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, addr := start(t, cfg)
			rnd := rand.New(rand.NewPCG(1, 2))
			reached := 0
			for range 1500 {
				path := []string{"/", "/strip/", "/strip/slash/", "/t/task/"}[rnd.IntN(4)]
				for range 1 + rnd.IntN(6) {
					path += pieces[rnd.IntN(len(pieces))]
				}
				status, body := get(t, addr, path)
				if status != http.StatusOK {
					continue
				}
				reached++
				if r, is := guardedFor(body); is {
					t.Errorf("%s: a worker got %s, which it may take for %s", path, body, r)
				}
			}
			if reached < 100 {
				t.Errorf("only %d of these paths got anywhere", reached)
			}
		})
	}
}
