package h2

import "slices"

// lateStream is a call that was answered in full before its request had ended. What
// still comes of the request is thrown away: the client may just be sending the rest,
// and several clients lose an answer that a reset follows at once.
type lateStream struct {
	id    uint32
	room  int64 // what the client may still send
	ticks int   // until it is told to stop
}

// Who has not ended after lateTicks, or is one of more than lateMost, is told to stop.
// Until then the window bounds what comes: no more room is given.
const (
	lateTicks = 10
	lateMost  = 64
)

// outlast keeps a stream until the client has sent the rest of its request.
func (s *Session) outlast(st *Stream) {
	if s.streams[st.id] != st {
		return
	}
	s.drop(st)
	if len(s.late) == lateMost {
		s.stop(s.late[0].id)
		s.late = slices.Delete(s.late, 0, 1)
	}
	s.late = append(s.late, lateStream{id: st.id, room: st.recv, ticks: lateTicks})
}

// stop tells a client that the rest of a request is of no use.
func (s *Session) stop(id uint32) {
	s.Out = appendReset(s.Out, id, NoError)
	s.remember(id)
}

// isLate says whether a call is one that was answered early. size bytes more of it have
// come; end says that they were the last.
func (s *Session) isLate(id uint32, size int64, end bool) bool {
	i := slices.IndexFunc(s.late, func(l lateStream) bool { return l.id == id })
	if i < 0 {
		return false
	}
	l := &s.late[i]
	if l.room -= size; end || l.room < 0 {
		if !end {
			s.stop(id)
		}
		s.late = slices.Delete(s.late, i, i+1)
	}
	return true
}

// tickLate tells those to stop that have had their time.
func (s *Session) tickLate() {
	n := 0
	for i := range s.late {
		if l := &s.late[i]; l.ticks > 1 {
			l.ticks--
			s.late[n] = *l
			n++
		} else {
			s.stop(l.id)
		}
	}
	s.late = s.late[:n]
}
