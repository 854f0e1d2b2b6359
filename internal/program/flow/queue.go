package flow

// queue is a first-in first-out run of bytes in one piece of memory.
type queue struct {
	buf  []byte
	head int
}

func (q *queue) len() int      { return len(q.buf) - q.head }
func (q *queue) bytes() []byte { return q.buf[q.head:] }

// reserve makes room so that n bytes can be appended to q.buf without another
// allocation. Moving down is paid for by the bytes that were discarded before.
func (q *queue) reserve(n int) {
	if cap(q.buf)-len(q.buf) >= n {
		return
	}
	live := q.len()
	if q.head >= live && cap(q.buf) >= live+n {
		copy(q.buf, q.buf[q.head:])
		q.buf, q.head = q.buf[:live], 0
		return
	}
	buf := make([]byte, live, max(2*cap(q.buf), live+n, 512))
	copy(buf, q.buf[q.head:])
	q.buf, q.head = buf, 0
}

func (q *queue) write(p []byte) {
	q.reserve(len(p))
	q.buf = append(q.buf, p...)
}

// discard drops the first n bytes.
func (q *queue) discard(n int) {
	q.head += n
	if q.head == len(q.buf) {
		q.buf, q.head = q.buf[:0], 0
	}
}

// trim gives the memory of an empty queue back.
func (q *queue) trim() {
	if q.len() == 0 {
		q.buf, q.head = nil, 0
	}
}
