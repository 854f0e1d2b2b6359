package build

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rota-project/rota/placement"
)

// Offer is one build that offers a function.
type Offer struct {
	Build

	Meets   bool     // its workers meet the program's rules
	Workers int      // how many offer it
	Ready   int      // of those, how many take new tasks
	Names   []string // of some of them
}

// maxNames is how many workers an Offer names.
const maxNames = 3

// Wish is what a program wants of a function.
type Wish struct {
	Function string
	// Require are its rules: label conditions as in rota.Rules.
	Require []string
	// Own is the program's own build.
	Own Build
	// Held is the build that the function's tasks began with, nil at first.
	Held *Build
}

// says reports whether the rules mention a label.
func (w *Wish) says(label string) bool {
	return slices.ContainsFunc(w.Require, func(rule string) bool {
		c, err := placement.ParseCondition(rule)
		return err == nil && c.Label() == label
	})
}

// means reports whether the program may take an offer.
func (w *Wish) means(o *Offer) bool {
	switch {
	case !o.Meets:
		return false
	case w.says(SetLabel), w.says(ModuleLabel):
		return true
	}
	return o.Module == w.Own.Module // both may be none: go build FILE... names none
}

// Choose decides in which build the tasks of a function run. require are the
// rules of the tasks then. If there is none, missing says why.
func Choose(w Wish, offers []Offer) (b Build, require []string, missing string) {
	set, version := w.says(SetLabel), w.says(VersionLabel)
	// Builds that only differ in what the rules speak of are one to choose from.
	narrowed := func(b Build) Build {
		if set {
			b.Set = ""
		}
		if version {
			b.Version = ""
		}
		return b
	}
	rules := func(b Build) (Build, []string, string) {
		require := slices.Clone(w.Require)
		if !set {
			require = append(require, rule(SetLabel, b.Set))
		}
		if !version {
			require = append(require, rule(VersionLabel, b.Version))
		}
		return b, require, ""
	}
	if w.Held != nil && slices.ContainsFunc(offers, func(o Offer) bool { return o.Build == *w.Held && w.means(&o) }) {
		return rules(*w.Held)
	}
	var some []Offer
	for _, o := range offers {
		if !w.means(&o) || o.Ready == 0 {
			continue
		}
		if narrowed(o.Build) == narrowed(w.Own) {
			return rules(o.Build)
		}
		if !slices.ContainsFunc(some, func(s Offer) bool { return narrowed(s.Build) == narrowed(o.Build) }) {
			some = append(some, o)
		}
	}
	if len(some) == 1 {
		return rules(some[0].Build)
	}
	return Build{}, nil, w.why(some, offers)
}

// Before are the rules while nothing is offered yet, for who cannot wait with them.
func (w *Wish) Before() []string {
	require := slices.Clone(w.Require)
	if !w.says(SetLabel) && !w.says(ModuleLabel) {
		return append(require, rule(ModuleLabel, w.Own.Module))
	}
	return require
}

// rule is the condition that a label has a value, or that there is no such label.
func rule(label, value string) string {
	if value == "" {
		return "!" + label
	}
	return label + "=" + value
}

// why says what is missing.
func (w *Wish) why(some, offers []Offer) string {
	if len(some) > 1 {
		return fmt.Sprintf("%s is offered by %d builds, and a program does not mix them: %s; a rule such as %q takes one",
			w.Function, len(some), list(some), w.distinguish(some))
	}
	var strange, barred, busy []Offer
	for _, o := range offers {
		switch {
		case w.means(&o):
			busy = append(busy, o)
		case o.Meets:
			strange = append(strange, o)
		default:
			barred = append(barred, o)
		}
	}
	switch {
	case len(busy) > 0:
		return fmt.Sprintf("%s is offered only by workers that take no new tasks: %s", w.Function, list(busy))
	case len(strange) > 0:
		own := "of module " + w.Own.Module
		if w.Own.Module == "" {
			own = "without a module, like this executable,"
		}
		return fmt.Sprintf("no worker %s offers %s; it is offered by %s: a rule such as %q takes it",
			own, w.Function, list(strange), rule(SetLabel, strange[0].Set))
	case len(barred) > 0:
		return fmt.Sprintf("%s is offered only by workers that do not meet %q: %s", w.Function, w.Require, list(barred))
	}
	return "no worker offers " + w.Function
}

// distinguish is a rule that only the first of some meets.
func (w *Wish) distinguish(some []Offer) string {
	first := some[0]
	for _, o := range some[1:] {
		if o.Set == first.Set {
			return rule(VersionLabel, first.Version)
		}
	}
	return rule(SetLabel, first.Set)
}

func list(offers []Offer) string {
	var parts []string
	for _, o := range offers {
		names := strings.Join(o.Names, ", ")
		if n := o.Workers - len(o.Names); n > 0 {
			names += fmt.Sprintf(" and %d more", n)
		}
		parts = append(parts, fmt.Sprintf("%s (%s)", o.Build, names))
	}
	return strings.Join(parts, "; ")
}

// Gather adds a worker that offers the function to the offers of its build.
func Gather(offers []Offer, name string, labels map[string]string, meets, ready bool) []Offer {
	b := fromLabels(labels)
	i := slices.IndexFunc(offers, func(o Offer) bool { return o.Build == b && o.Meets == meets })
	if i < 0 {
		i = len(offers)
		offers = append(offers, Offer{Build: b, Meets: meets})
	}
	o := &offers[i]
	o.Workers++
	if ready {
		o.Ready++
	}
	if len(o.Names) < maxNames {
		o.Names = append(o.Names, name)
	}
	return offers
}
