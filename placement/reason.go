package placement

import (
	"fmt"
	"strings"
)

// reasonCode says why a move is made.
type reasonCode uint8

const (
	isNew reasonCode = iota
	workerGone
	workerDrains
	ruleForbids
	hasTwin
	company
	overCapacity
	evensLoad // from here to evensGroup balance chose
	fillsUp
	spreads
	changesPlaces
	evensGroup
	keyTogether
	comesBack
	gangBroken
	preempted
)

func (c reasonCode) forced() bool { return c < evensLoad || c > evensGroup }

var text = fmt.Sprintf

// words spells a cause out; moves of the same cause share the string.
func (s *pass) words(c cause) string {
	if c.code == isNew {
		return "it was nowhere"
	}
	if r, ok := s.reasons[c]; ok {
		return r
	}
	if s.reasons == nil {
		s.reasons = map[cause]string{}
	}
	r := s.spell(c)
	s.reasons[c] = r
	return r
}

func (s *pass) spell(c cause) string {
	p := s.p
	switch c.code {
	case workerGone:
		return "worker " + p.workers[c.arg].name + " is gone"
	case workerDrains:
		return "worker " + p.workers[c.arg].name + " is draining"
	case ruleForbids:
		return "the rules no longer allow worker " + p.workers[c.arg].name
	case hasTwin:
		return "worker " + p.workers[c.arg].name + " holds another instance of it"
	case company:
		return "worker " + p.workers[c.arg].name + " holds what it must not be with, or lacks what it must"
	case overCapacity:
		return "worker " + p.workers[c.arg].name + " has too little capacity for all it holds"
	case evensLoad:
		if mean := s.mean(); mean > 0 && p.level[c.arg] > mean {
			return text("evens load: %s had %.3g%% above the mean", p.workers[c.arg].name, (p.level[c.arg]/mean-1)*100)
		}
	case fillsUp:
		if mean := s.mean(); mean > 0 && p.level[c.arg] < mean {
			return text("fills up %s, which had %.3g%% below the mean", p.workers[c.arg].name, (1-p.level[c.arg]/mean)*100)
		}
	case spreads:
		return "spreads " + p.tasks[c.arg].id + " over " + p.classes[p.tasks[c.arg].class].rules.Spread.Label
	case evensGroup:
		return "evens group " + p.groups.all[c.arg].name
	case changesPlaces:
		return "changes places with " + p.instance(c.arg).String()
	case gangBroken:
		return "gang " + p.gangs.all[c.arg].name + " cannot be whole"
	case preempted:
		if c.arg != none {
			return "gave way to " + p.instance(c.arg).String() + ", which has a higher priority"
		}
	case keyTogether:
		return "keeps the tasks of key " + p.keys.all[c.arg].name + " together"
	}
	return "evens load"
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return text("%d %ss", n, noun)
}

// singular forms of the verbs that rules begin with.
var singular = map[string]string{"are": "is", "lack": "lacks", "do": "does", "hold": "holds", "have": "has"}

// conjugate puts a number before a rule: "1 is draining", "3 lack kind gpu".
func conjugate(n int, rule string) string {
	if n == 1 {
		verb, rest, _ := strings.Cut(rule, " ")
		if s, ok := singular[verb]; ok {
			rule = s + " " + rest
		}
		rule = strings.Replace(rule, "they take", "it takes", 1)
	}
	return text("%d %s", n, rule)
}
