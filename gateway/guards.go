package gateway

import (
	"maps"
	"reflect"
	"slices"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/gateway/internal/upstream"
)

// guards are the guards of a configuration. They never change, and a state holds those
// of its own configuration: a call is asked what holds for it in one and the same.
type guards struct {
	any      bool // there is one
	defaults *guard
	own      map[string]*guard // of functions that have a policy of their own or get calls by a split
	routes   []*guard          // as Config.Routes
	byRoute  map[string]bool   // functions that are not called by their names: only routes or splits guard them
}

// newGuards makes the guards of a configuration, the rest of which is in order. Guards
// that are alike are one. The error is a *rota.FieldError.
func (c *Config) newGuards() (*guards, error) {
	var made []*guard
	of := func(g Guard) *guard {
		if g == (Guard{}) {
			return nil
		}
		for _, m := range made {
			if m.from.same(g) {
				return m
			}
		}
		made = append(made, g.compile())
		return made[len(made)-1]
	}
	gs := &guards{defaults: of(c.Defaults.Rules.Guard), own: map[string]*guard{}, byRoute: map[string]bool{}}
	for name, f := range c.Functions {
		if f.Policy != nil {
			gs.own[name] = of(f.Policy.Rules.Guard)
		}
	}
	for _, r := range c.Routes {
		g := of(r.Rules.Guard)
		if gs.routes = append(gs.routes, g); g != nil && gs.of([]byte(r.Function)) == nil {
			gs.byRoute[r.Function] = true
		}
	}
	gs.any = len(made) > 0
	return gs, gs.passOn(c)
}

// passOn gives a function without a guard, which gets calls by splits, the guard of the
// functions that are split. If these have different guards, only splits and routes can call
// the function. A split to a function with another guard is an error: calls would pass
// without being asked by that guard.
func (gs *guards) passOn(c *Config) error {
	from := map[string][]*guard{} // those of the functions that are split, by that which gets their calls
	splits := slices.DeleteFunc(slices.Sorted(maps.Keys(c.Functions)), func(name string) bool { return c.Functions[name].Split == nil })
	for _, name := range splits {
		to, g := c.Functions[name].Split.To, gs.of([]byte(name))
		if has := gs.of([]byte(to)); has != nil && has != g {
			return gs.unlike(c, name)
		}
		if g != nil && !slices.Contains(from[to], g) {
			from[to] = append(from[to], g)
		}
	}
	for _, name := range splits {
		to := c.Functions[name].Split.To
		switch all := from[to]; {
		case gs.byRoute[name], len(all) > 1:
			gs.byRoute[to] = true
		case len(all) == 1:
			gs.own[to] = all[0]
		}
	}
	for _, name := range splits {
		to := c.Functions[name].Split.To
		if gs.open(name) && !gs.open(to) {
			return gs.unlike(c, name)
		}
	}
	return nil
}

func (gs *guards) unlike(c *Config, name string) error {
	return &rota.FieldError{Field: "functions." + name + ".split.to", Value: c.Functions[name].Split.To, Want: "a function that is guarded as " + name + " is, or not at all"}
}

// open says whether anybody may call a function by its name.
func (gs *guards) open(fn string) bool { return gs.of([]byte(fn)) == nil && !gs.byRoute[fn] }

// of is the guard of the function of that name, nil if anybody may call it.
func (gs *guards) of(fn []byte) *guard {
	if g, own := gs.own[string(fn)]; own {
		return g
	}
	return gs.defaults
}

// same says whether two guards decide alike.
func (g Guard) same(as Guard) bool {
	if g == as {
		return true
	}
	if (g.Forward == nil) != (as.Forward == nil) || !reflect.DeepEqual(g.Keys, as.Keys) {
		return false
	}
	if g.Forward == nil {
		return true
	}
	a, b := *g.Forward, *as.Forward
	alike := upstream.SameTLS(a.TLS, b.TLS)
	a.TLS, b.TLS = nil, nil
	return alike && reflect.DeepEqual(a, b)
}
