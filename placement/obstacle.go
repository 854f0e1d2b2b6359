package placement

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// Code names what keeps an instance or a job from a worker.
type Code string

// Codes of obstacles. The zero Code says that nothing is in the way.
const (
	Gone               Code = "gone"
	Draining           Code = "draining"
	Cordoned           Code = "cordoned"
	NotPinned          Code = "not-pinned"           // it is pinned to Name
	LacksKind          Code = "lacks-kind"           // the kind is Name
	FailsLabel         Code = "fails-label"          // the condition is Name
	HoldsReplica       Code = "holds-replica"        // another instance of the task
	TasksFull          Code = "tasks-full"           // it holds as many as it takes
	LacksResource      Code = "lacks-resource"       // the resource is Name
	AntiAffinity       Code = "anti-affinity"        // Name is there, which its anti-affinity excludes
	LacksAffinity      Code = "lacks-affinity"       // Name is not there, which its affinity requires
	OthersAntiAffinity Code = "others-anti-affinity" // the anti-affinity of something there excludes Name
	LacksCommand       Code = "lacks-command"        // its configuration does not list Name
	JobsFull           Code = "jobs-full"            // it runs as many as it has slots
	NotCounted         Code = "not-counted"          // the leader does not know yet what tasks take there
	TasksFirst         Code = "tasks-first"          // its capacity has just become free, and is offered to tasks first
)

// Codes of what waits although no worker has an obstacle: there are none, or no more
// may move at once.
const (
	NoWorkers Code = "no-workers"
	Budgets   Code = "budgets"
)

// Obstacles are all codes that what waits for a worker may have.
func Obstacles() []Code {
	return []Code{NoWorkers, Budgets, Draining, Cordoned, NotPinned, LacksKind, FailsLabel, HoldsReplica, TasksFull, LacksResource, AntiAffinity, LacksAffinity, OthersAntiAffinity, NotCounted}
}

// Obstacle is what keeps an instance or a job from a worker: a code and what it is
// about. Its words are for people.
type Obstacle struct {
	Code Code
	Name string
	// Of LacksResource: how much is needed, how much is left, and how much there is.
	Need, Left, Has float64
}

// words are what follows a number of workers: "do not run kind gpu".
func (o Obstacle) words() string {
	switch o.Code {
	case Gone, Draining, Cordoned:
		return "are " + string(o.Code)
	case NotPinned:
		return "are not the pinned worker " + o.Name
	case LacksKind:
		return "do not run kind " + o.Name
	case FailsLabel:
		return "do not meet label condition " + o.Name
	case HoldsReplica:
		return "run another instance of the task"
	case TasksFull:
		return "are at the task limit"
	case LacksResource:
		if o.Need > o.Has {
			return "are too small"
		}
		return "have too little left"
	case AntiAffinity:
		return "run " + o.Name + ", which its anti-affinity excludes"
	case LacksAffinity:
		return "do not run " + o.Name + ", which its affinity requires"
	case OthersAntiAffinity:
		return "run tasks whose anti-affinity excludes " + o.Name
	case LacksCommand:
		return "do not allow command " + o.Name
	case JobsFull:
		return "are at the job limit"
	case NotCounted:
		return "have capacity that the new leader has not counted yet"
	case TasksFirst:
		return "have freed capacity that is offered to tasks first"
	}
	return "could take it"
}

// String says it of one worker: "does not run kind gpu".
func (o Obstacle) String() string {
	if o.Code == LacksResource {
		if o.Need > o.Has {
			return "needs " + amountText(o.Need) + " " + o.Name + ", it has " + amountText(o.Has)
		}
		return "needs " + amountText(o.Need) + " " + o.Name + ", it has " + amountText(o.Left) + " of " + amountText(o.Has) + " left"
	}
	return singular(o.words())
}

// amountText is an amount in full: bytes are not rounded.
func amountText(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// loadText is a load to three digits, or in whole: "2.33", "2,336,589".
func loadText(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 0.001:
		return "under 0.001"
	case v < 999.5:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for at := len(s) - 3; at > 0; at -= 3 {
		s = s[:at] + "," + s[at:]
	}
	return s
}

// tally counts workers by what keeps something from them.
type tally struct {
	list []count
	all  int
}

type count struct {
	Obstacle // of those that lack a resource: of the one with the most of it
	n        int
	mostLeft float64
}

// add counts a worker. Those that have too little of a resource are one sort,
// however much each has.
func (c *tally) add(o Obstacle) {
	c.all++
	for k := range c.list {
		x := &c.list[k]
		if x.Code == o.Code && x.Name == o.Name {
			x.n++
			x.Has, x.mostLeft = math.Max(x.Has, o.Has), math.Max(x.mostLeft, o.Left)
			return
		}
	}
	c.list = append(c.list, count{o, 1, o.Left})
}

// why says it in words, and what stands in the way most often: NoWorkers if there are
// none, and Budgets if nothing but what may move at once.
func (c *tally) why(noun string) why {
	y := why{reason: c.text(noun), most: NoWorkers}
	if c.all > 0 {
		if y.most = c.list[0].Code; y.most == "" {
			y.most = Budgets
		}
	}
	return y
}

// text says it in counts and sums: "5 workers: 3 are too small (needs 7 cpus, the
// most on one worker is 2), 2 do not run kind gpu". noun is what they are called.
func (c *tally) text(noun string) string {
	if c.all == 0 {
		return "there are no " + noun + "s"
	}
	slices.SortStableFunc(c.list, func(a, b count) int {
		switch {
		case (a.Code == "") != (b.Code == ""): // those that could take it come last
			if b.Code == "" {
				return -1
			}
			return 1
		case a.n != b.n:
			return b.n - a.n
		}
		return strings.Compare(a.words(), b.words())
	})
	var b strings.Builder
	b.WriteString(plural(c.all, noun))
	sep := ": "
	for _, x := range c.list {
		b.WriteString(sep)
		b.WriteString(conjugate(x.n, x.words()))
		if x.Code == LacksResource {
			b.WriteString(" (" + x.sum() + ")")
		}
		sep = ", "
	}
	return b.String()
}

// sum is what is needed of a resource, and the most of it that one worker has.
func (x *count) sum() string {
	need := "needs " + amountText(x.Need) + " " + x.Name
	if x.Need > x.Has {
		return need + ", the most on one worker is " + amountText(x.Has)
	}
	return need + ", the most left on one worker is " + amountText(x.mostLeft)
}

// Summary says in counts and sums what keeps something from each of some workers.
func Summary(obstacles []Obstacle) string {
	var c tally
	for _, o := range obstacles {
		c.add(o)
	}
	return c.text("worker")
}
