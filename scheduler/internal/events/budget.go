package events

import (
	"strings"
	"time"
)

// rate is how many events there may be at once, and how many a second in the long run.
type rate struct{ burst, perSecond float64 }

// rates are the budgets of each recorder: of each kind of what stands before the dot.
var rates = map[string]rate{
	"task": {100, 2},
	"job":  {100, 2},
	"pass": {60, 1},
}

// otherRate is the budget of all other kinds together.
var otherRate = rate{2000, 20}

// budget is what is left of the rates.
type budget struct {
	left map[string]float64
	at   map[string]time.Time
}

// budgetOf is the name of the budget that a kind is of, and its rate.
func budgetOf(kind string) (string, rate) {
	sort, _, _ := strings.Cut(kind, ".")
	if r, ok := rates[sort]; ok {
		return kind, r
	}
	return "", otherRate
}

// room reports whether there may be one more of a kind; spend takes it.
func (b *budget) room(kind string, now time.Time, spend bool) bool {
	if b.left == nil {
		b.left, b.at = map[string]float64{}, map[string]time.Time{}
	}
	of, r := budgetOf(kind)
	have, known := b.left[of]
	if known {
		have = min(r.burst, have+max(0, now.Sub(b.at[of]).Seconds())*r.perSecond)
	} else {
		have = r.burst
	}
	yes := have >= 1
	if yes && spend {
		have--
	}
	b.left[of], b.at[of] = have, now
	return yes
}
