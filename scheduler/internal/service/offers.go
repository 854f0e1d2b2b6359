package service

import (
	"fmt"
	"maps"
	"slices"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/program/build"
	"github.com/rota-project/rota/placement"
)

// function is a task function that a program needs, with the rules that its
// workers must meet.
type function struct {
	name    string
	require []placement.Condition
}

// maxFunctions is how many task functions one program may have.
const maxFunctions = 1000

// functionsOf reads what a program needs.
func functionsOf(hello *rotav1.ProgramHello) ([]function, error) {
	if n := len(hello.GetFunctions()); n > maxFunctions {
		return nil, convert.FieldStatus("functions", fmt.Sprintf("functions: want at most %d, not %d", maxFunctions, n))
	}
	var all []function
	for _, f := range hello.GetFunctions() {
		t := rota.Task{ID: f.GetName(), Kind: rota.ProgramKind + f.GetName(), Rules: rota.Rules{Require: f.GetRequire()}}
		if err := placement.CheckTask(t); err != nil {
			return nil, convert.FieldStatus("functions", fmt.Sprintf("functions: %q: %v", f.GetName(), err))
		}
		one := function{name: f.GetName()}
		for _, rule := range f.GetRequire() {
			c, err := placement.ParseCondition(rule)
			if err != nil {
				return nil, convert.FieldStatus("functions", fmt.Sprintf("functions: %q: %v", f.GetName(), err))
			}
			one.require = append(one.require, c)
		}
		all = append(all, one)
	}
	return all, nil
}

// moved reports whether workers have come, gone or changed since it was asked last.
func (a *attachment) moved() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	moved := a.roster
	a.roster = false
	return moved
}

// offers says in which builds workers offer the program's functions.
func (a *attachment) offers() (out []*rotav1.ProgramOffer) {
	v := a.s.cfg.View
	v.Read(func() {
		names := slices.Sorted(maps.Keys(v.Sessions))
		workers := make([]rota.Worker, len(names))
		for n, name := range names {
			workers[n] = v.Sessions[name].Placeable(v.Nodes[name])
		}
		for _, f := range a.functions {
			var offers []build.Offer
			for n, name := range names {
				w := &workers[n]
				if !slices.Contains(w.Kinds, rota.ProgramKind+f.name) {
					continue
				}
				meets := !slices.ContainsFunc(f.require, func(c placement.Condition) bool { return !c.Met(w) })
				offers = build.Gather(offers, name, w.Labels, meets, !v.Sessions[name].GetLeaving() && !w.Cordoned && !w.Draining)
			}
			for _, o := range offers {
				out = append(out, &rotav1.ProgramOffer{
					Function: f.name, Module: o.Module, Set: o.Set, Version: o.Version, Meets: o.Meets,
					Workers: int64(o.Workers), Ready: int64(o.Ready), Names: o.Names,
				})
			}
		}
	})
	return out
}
