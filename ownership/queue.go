package ownership

// queue is a heap whose members know their place in it, so that any of them can
// be taken out. The zero value is ready to use.
type queue[T queued[T]] struct{ members []T }

type queued[T any] interface {
	comparable
	before(T) bool
	// place is where the queue keeps the member's position, from 1; 0 is none.
	place() *int
}

func (q *queue[T]) empty() bool { return len(q.members) == 0 }

// first is the member that is before all others. The queue must not be empty.
func (q *queue[T]) first() T { return q.members[0] }

// put adds m, or moves it to where it now belongs.
func (q *queue[T]) put(m T) {
	at := m.place()
	if *at == 0 {
		q.members = append(q.members, m)
		*at = len(q.members)
	}
	q.down(*at - 1)
	q.up(*at - 1)
}

// remove takes m out; it must be in this queue or in none.
func (q *queue[T]) remove(m T) {
	at := *m.place() - 1
	if at < 0 {
		return
	}
	last := len(q.members) - 1
	q.swap(at, last)
	var none T
	q.members[last] = none
	q.members = q.members[:last]
	*m.place() = 0
	if at < last {
		q.down(at)
		q.up(at)
	}
}

func (q *queue[T]) swap(a, b int) {
	q.members[a], q.members[b] = q.members[b], q.members[a]
	*q.members[a].place() = a + 1
	*q.members[b].place() = b + 1
}

func (q *queue[T]) up(at int) {
	for at > 0 {
		parent := (at - 1) / 2
		if !q.members[at].before(q.members[parent]) {
			return
		}
		q.swap(at, parent)
		at = parent
	}
}

func (q *queue[T]) down(at int) {
	for {
		child := 2*at + 1
		if child >= len(q.members) {
			return
		}
		if r := child + 1; r < len(q.members) && q.members[r].before(q.members[child]) {
			child = r
		}
		if !q.members[child].before(q.members[at]) {
			return
		}
		q.swap(at, child)
		at = child
	}
}
