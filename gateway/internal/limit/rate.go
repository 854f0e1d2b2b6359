package limit

import (
	"sync"
	"time"
)

// Rates limits the calls of each caller by the generic cell rate algorithm: one
// time stamp a caller and function, kept in shards of bounded size.
type Rates struct {
	shards [32]rateShard
}

type rateShard struct {
	mu  sync.Mutex
	due map[uint64]int64 // hash of caller and function → when its bucket is empty again
}

// maxCallers bounds how many callers a shard remembers.
const maxCallers = 4096

// Allow says whether the caller may call now, and if not, in how long.
func (r *Rates) Allow(caller uint64, perSecond float64, burst int, now int64) (ok bool, wait time.Duration) {
	gap := int64(float64(time.Second) / perSecond)
	slack := gap * int64(max(burst, 1)-1)
	s := &r.shards[caller%uint64(len(r.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.due == nil {
		s.due = map[uint64]int64{}
	}
	due, known := s.due[caller]
	due = max(due, now)
	if due-now > slack {
		return false, time.Duration(due - now - slack)
	}
	if !known && len(s.due) >= maxCallers {
		s.forget(now)
	}
	s.due[caller] = due + gap
	return true, 0
}

// forget drops callers whose buckets are empty, and any others if that is not enough.
func (s *rateShard) forget(now int64) {
	for c, due := range s.due {
		if due <= now || len(s.due) > maxCallers*3/4 {
			delete(s.due, c)
		}
	}
}
