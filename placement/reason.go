package placement

import (
	"fmt"
	"strings"

	"github.com/rota-project/rota"
)

// forced reports whether a rule or a loss demands a move of the code; else
// balance chose it.
func forced(c rota.ReasonCode) bool { return c < rota.EvensLoad || c > rota.EvensGroup }

var text = fmt.Sprintf

// words spells a cause out; moves of the same cause share the string.
func (s *pass) words(c cause) string {
	if c.code == rota.WasNowhere {
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
	case rota.WorkerGone:
		return "worker " + p.workers[c.arg].name + " is gone"
	case rota.WorkerDrains:
		return "worker " + p.workers[c.arg].name + " is draining"
	case rota.RuleForbids:
		return "the rules no longer allow worker " + p.workers[c.arg].name
	case rota.ReplicaThere:
		return "worker " + p.workers[c.arg].name + " holds another instance of it"
	case rota.WrongCompany:
		return "worker " + p.workers[c.arg].name + " holds what it must not be with, or lacks what it must"
	case rota.OverCapacity:
		return "worker " + p.workers[c.arg].name + " has too little capacity for all it holds"
	case rota.EvensLoad:
		if mean := s.mean(); mean > 0 && p.level[c.arg] > mean {
			return text("evens load: %s had %.3g%% above the mean", p.workers[c.arg].name, (p.level[c.arg]/mean-1)*100)
		}
	case rota.FillsUp:
		if mean := s.mean(); mean > 0 && p.level[c.arg] < mean {
			return text("fills up %s, which had %.3g%% below the mean", p.workers[c.arg].name, (1-p.level[c.arg]/mean)*100)
		}
	case rota.Spreads:
		return "spreads " + p.tasks[c.arg].id + " over " + p.classes[p.tasks[c.arg].class].rules.Spread.Label
	case rota.EvensGroup:
		return "evens group " + p.groups.all[c.arg].name
	case rota.ChangesPlaces:
		return "changes places with " + p.instance(c.arg).String()
	case rota.GangBroken:
		return "gang " + p.gangs.all[c.arg].name + " cannot be whole"
	case rota.Preempted:
		if c.arg != none {
			return "gave way to " + p.instance(c.arg).String() + ", which has a higher priority"
		}
	case rota.KeepsKeyTogether:
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

// verbs are the singular forms of those that rules begin with.
var verbs = map[string]string{"are": "is", "lack": "lacks", "do": "does", "hold": "holds", "have": "has", "run": "runs"}

// singular turns words about several into words about one: "is draining".
func singular(rule string) string {
	verb, rest, _ := strings.Cut(rule, " ")
	if s, ok := verbs[verb]; ok {
		rule = s + " " + rest
	}
	return strings.Replace(rule, "they take", "it takes", 1)
}

// conjugate puts a number before a rule: "1 is draining", "3 lack kind gpu".
func conjugate(n int, rule string) string {
	if n == 1 {
		rule = singular(rule)
	}
	return text("%d %s", n, rule)
}
