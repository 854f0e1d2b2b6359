package program

import (
	"slices"
	"strings"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/program/build"
)

// rules are the label conditions of a kind of task, and of its whole program.
func (p *Program) rules(s *Spec) []string { return slices.Concat(p.cfg.Require, s.Require) }

// functions are the task functions that the program needs, for the cluster.
func (h *clusterHost) functions() (all []*rotav1.ProgramFunction) {
	for i := range h.run.p.specs {
		s := &h.run.p.specs[i]
		all = append(all, &rotav1.ProgramFunction{Name: s.Name, Require: h.run.p.rules(s)})
	}
	return all
}

// offersOf are the offers that a scheduler tells of, by function. The map is not nil.
func offersOf(all []*rotav1.ProgramOffer) map[string][]build.Offer {
	out := map[string][]build.Offer{}
	for _, o := range all {
		out[o.GetFunction()] = append(out[o.GetFunction()], build.Offer{
			Build: build.Build{Module: o.GetModule(), Set: o.GetSet(), Version: o.GetVersion()},
			Meets: o.GetMeets(), Workers: int(o.GetWorkers()), Ready: int(o.GetReady()), Names: o.GetNames(),
		})
	}
	return out
}

// choose decides in which build of its function each of the peers runs; anew says
// that it is another than before. It answers false, and what is missing, while that
// cannot be decided.
func (h *clusterHost) choose(peers []*peer) (missing string, anew, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.offers == nil {
		return "", false, false
	}
	require := map[string][]string{}
	began := map[string]build.Build{}
	var why []string
	for _, p := range peers {
		name := p.spec.Name
		if _, done := began[name]; done {
			continue
		}
		w := build.Wish{Function: name, Require: h.run.p.rules(p.spec), Own: build.Own()}
		if held, ok := h.began[name]; ok {
			w.Held = &held
		}
		b, rules, lacking := build.Choose(w, h.offers[name])
		if lacking != "" {
			why = append(why, lacking)
		}
		began[name], require[name] = b, rules
	}
	if len(why) > 0 {
		return strings.Join(why, "; "), false, false
	}
	for _, p := range peers {
		name := p.spec.Name
		anew = anew || !slices.Equal(p.require, require[name])
		h.began[name], p.require = began[name], require[name]
	}
	return "", anew, true
}
