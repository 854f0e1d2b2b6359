package ownership

import "maps"

// moves counts the moves under way and keeps those that wait for room: in one
// queue if the cluster has none, in one of a worker's own if that worker has
// none, so that nobody is looked at again before there is a chance.
type moves struct {
	inAll    int
	byWorker map[string]int

	waiting queue[*entry]
	parked  map[string]*queue[*entry]
	limits  Limits // those that the queues were made under
}

// admission is what one answer of Ready has begun and no Record has confirmed.
type admission struct {
	*moves
	begun   map[string]int // by worker
	inAll   int
	current *entry // begun already, or asking
	full    string // the worker that had no room for the last one refused; "" if the cluster had none
}

// before and place make entries members of a queue.
func (e *entry) before(f *entry) bool { return e.compare(f) < 0 }
func (e *entry) place() *int          { return &e.own().pos }

// set counts e for the move (from, to) instead of the one before.
func (m *moves) set(e *entry, from, to string) {
	if from == e.from && to == e.to {
		return
	}
	m.count(e.from, e.to, -1)
	own := e.own()
	own.from, own.to = from, to
	m.count(from, to, +1)
}

func (m *moves) count(from, to string, by int) {
	if from == "" {
		return
	}
	if m.byWorker == nil {
		m.byWorker = map[string]int{}
	}
	m.inAll += by
	for _, w := range ends(from, to) {
		m.byWorker[w] += by
		if m.byWorker[w] == 0 {
			delete(m.byWorker, w)
		}
	}
}

// ends are the workers of a move; a grant that is replaced where it is has one.
func ends(from, to string) []string {
	if from == to {
		return []string{from}
	}
	return []string{from, to}
}

// wait puts e among those that wait for room.
func (m *moves) wait(e *entry) { m.enter(e, &m.waiting) }

// leave takes e out of the queue in which it waits.
func (m *moves) leave(e *entry) {
	if e.queue != nil {
		e.queue.remove(e)
		e.own().queue = nil
	}
}

func (m *moves) enter(e *entry, q *queue[*entry]) {
	m.leave(e)
	e.own().queue = q
	q.put(e)
}

// park lets e wait for room at worker.
func (m *moves) park(e *entry, worker string) {
	if m.parked == nil {
		m.parked = map[string]*queue[*entry]{}
	}
	if m.parked[worker] == nil {
		m.parked[worker] = &queue[*entry]{}
	}
	m.enter(e, m.parked[worker])
}

// admit lets those that wait try, in order, as long as there is room.
func (m *moves) admit(limits Limits, try func(*entry, *admission) verdict) {
	if limits != m.limits {
		m.limits = limits
		for _, q := range m.parked {
			for !q.empty() {
				m.wait(q.first())
			}
		}
		clear(m.parked)
	}
	a := admission{moves: m}
	for a.room() {
		e := a.next()
		if e == nil {
			break
		}
		m.leave(e)
		if try(e, &a) == limited {
			m.park(e, a.full)
		}
	}
	maps.DeleteFunc(m.parked, func(_ string, q *queue[*entry]) bool { return q.empty() })
}

// next is the first of those that wait with a chance; nil if there is none.
func (a *admission) next() *entry {
	var first *entry
	if !a.waiting.empty() {
		first = a.waiting.first()
	}
	for w, q := range a.parked {
		if !q.empty() && a.roomAt(w) && (first == nil || q.first().before(first)) {
			first = q.first()
		}
	}
	return first
}

// admits begins the move of e away from a worker, if the limits allow it. One
// that is counted already, was begun just now or is hurried is admitted.
func (a *admission) admits(e *entry, from string) bool {
	if e.from != "" || e.hurried {
		return true
	}
	if a == nil {
		return false
	}
	if a.current == e {
		return true
	}
	for _, w := range ends(from, e.worker) {
		if !a.roomAt(w) {
			a.full = w
			return false
		}
	}
	if a.begun == nil {
		a.begun = map[string]int{}
	}
	a.inAll++
	a.current = e
	for _, w := range ends(from, e.worker) {
		a.begun[w]++
	}
	return true
}

func (a *admission) room() bool {
	return a.limits.InAll <= 0 || a.moves.inAll+a.inAll < a.limits.InAll
}

func (a *admission) roomAt(worker string) bool {
	return a.limits.PerWorker <= 0 || a.byWorker[worker]+a.begun[worker] < a.limits.PerWorker
}
