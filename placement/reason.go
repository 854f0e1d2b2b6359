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

// Text is a reason in words. The arguments are what its code is about: the worker, or the
// task, group, gang or key, and what else the sentence names.
func Text(code rota.ReasonCode, args ...string) string {
	if format, ok := sentences[code]; ok {
		if len(args) == 0 {
			return format
		}
		list := make([]any, len(args))
		for k, a := range args {
			list[k] = a
		}
		return text(format, list...)
	}
	return code.String()
}

var sentences = map[rota.ReasonCode]string{
	rota.Unplaced:         "it was on no worker",
	rota.WorkerGone:       "worker %s is gone",
	rota.WorkerDrains:     "worker %s is draining",
	rota.RuleForbids:      "its rules no longer allow worker %s",
	rota.HoldsReplica:     "worker %s runs another instance of the task",
	rota.BreaksAffinity:   "its affinity rules no longer allow worker %s",
	rota.OverCapacity:     "worker %s is over its capacity",
	rota.EvensLoad:        "evens out load: %s had %s%% more than the mean",
	rota.FillsUp:          "evens out load: %s had %s%% less than the mean",
	rota.Spreads:          "spreads %s over %s",
	rota.Swaps:            "swaps workers with %s",
	rota.EvensGroup:       "evens out group %s",
	rota.KeepsKeyTogether: "keeps the tasks of key %s together",
	rota.ComesBack:        "no worker but %s can take it",
	rota.GangBroken:       "gang %s cannot be placed as a whole",
	rota.Preempted:        "preempted by %s, which has a higher priority",
	rota.Undeclared:       "no task declares it",
	rota.GangWaits:        "gang %s (%s) cannot be placed as a whole: no worker can take %s",
	rota.TooFewWorkers:    "too few workers are ready: %s of the %s required",
	rota.StaysForNow:      "it stays on %s for now: %s",
}

// What else reasons say: of an instance that is declared no longer, what follows the
// reason of a gang, and what speaks against stopping workers.
const (
	fewerReplicas  = "the task has fewer replicas now"
	taskDeleted    = "the task was deleted"
	besideOthers   = " beside %s"
	togetherNeed   = "; together they need %s %s, all workers have %s left"
	unknownWorker  = "worker %s is not known"
	tooFewLeft     = "%s would be ready, at least %d are required"
	overBudget     = "%s %s: %d would be down at once, its budget is %d"
	noOtherTakesIt = "no other worker could take %s, such as %s (%s)"
)

// words is a cause as text; moves of the same cause share the string.
func (s *pass) words(c cause) string {
	if c.code == rota.Unplaced {
		return sentences[c.code]
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
	case rota.EvensLoad, rota.FillsUp:
		mean := s.mean()
		off := p.level[c.arg]/mean - 1
		if c.code == rota.FillsUp {
			off = -off
		}
		if mean > 0 && off > 0 {
			return Text(c.code, p.workers[c.arg].name, text("%.3g", off*100))
		}
	case rota.Spreads:
		return Text(c.code, p.tasks[c.arg].id, p.classes[p.tasks[c.arg].class].rules.Spread.Label)
	case rota.EvensGroup:
		return Text(c.code, p.groups.all[c.arg].name)
	case rota.Swaps:
		return Text(c.code, p.instance(c.arg).String())
	case rota.GangBroken:
		return Text(c.code, p.gangs.all[c.arg].name)
	case rota.Preempted:
		if c.arg != none {
			return Text(c.code, p.instance(c.arg).String())
		}
	case rota.KeepsKeyTogether:
		return Text(c.code, p.keys.all[c.arg].name)
	default:
		return Text(c.code, p.workers[c.arg].name)
	}
	return "evens out load"
}

// staysForNow is of an instance that has to leave worker w, and that no other can take.
func (s *pass) staysForNow(w int32, why string) string {
	return Text(rota.StaysForNow, s.p.workers[w].name, why)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return text("%d %ss", n, noun)
}

// verbs are the singular forms of those that rules begin with.
var verbs = map[string]string{"are": "is", "do": "does", "have": "has", "run": "runs"}

// singular turns words about several into words about one: "is draining".
func singular(rule string) string {
	verb, rest, _ := strings.Cut(rule, " ")
	if s, ok := verbs[verb]; ok {
		return s + " " + rest
	}
	return rule
}

// conjugate puts a number before a rule: "1 is draining", "3 do not run kind gpu".
func conjugate(n int, rule string) string {
	if n == 1 {
		rule = singular(rule)
	}
	return text("%d %s", n, rule)
}
