package gateway

import (
	"bytes"
	"sync/atomic"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/split"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// Split sends a share of a function's calls to another one, such as its next version.
// The workers get them under the other's name.
type Split struct {
	// To is the other function. It has a policy of its own, and no Split.
	To string
	// Share is its part of the calls, 0 to 1: exactly so many of any number in a row.
	Share float64
	// StickyClient sends all calls of a client, by its address, to the same of the two,
	// StickyHeader those with the same value of a header. The share is then that of the
	// clients or values, and calls without the header are shared exactly.
	StickyClient bool
	StickyHeader string
}

// normalize checks the split of a function.
func (s *Split) normalize(name string, c *Config) error {
	field := "functions." + name + ".split"
	to, listed := c.Functions[s.To]
	switch {
	case !nameForm.MatchString(s.To):
		return &rota.FieldError{Field: field + ".to", Value: s.To, Want: "a function's name"}
	case s.To == name:
		return &rota.FieldError{Field: field + ".to", Value: s.To, Want: "another function"}
	case c.Closed && !listed:
		return &rota.FieldError{Field: field + ".to", Value: s.To, Want: "a function that is listed"}
	case to.Split != nil:
		return &rota.FieldError{Field: field + ".to", Value: s.To, Want: "a function that is not split itself"}
	case !(s.Share >= 0 && s.Share <= 1):
		return &rota.FieldError{Field: field + ".share", Value: s.Share, Want: "0 to 1"}
	case s.StickyClient && s.StickyHeader != "":
		return &rota.FieldError{Field: field + ".sticky", Value: s.StickyHeader, Want: "client or header, not both"}
	case s.StickyHeader != "" && !wire.IsName([]byte(s.StickyHeader)):
		return &rota.FieldError{Field: field + ".sticky.header", Value: s.StickyHeader, Want: "the name of a header"}
	}
	return nil
}

// splitter shares the calls of a function. It keeps its counts when configurations
// change.
type splitter struct {
	rule    atomic.Pointer[Split]
	counter split.Counter
	all, to atomic.Uint64 // calls, and those of the other function
}

// share picks the function that runs a call of f: f, or the other one of its split, whose
// path it then puts into t.
func (x *exchange) share(f *function, t *target) *function {
	if f.split.rule.Load() == nil {
		return f
	}
	s := x.call.st.cfg.Functions[f.name].Split // as the guards that were asked
	if s == nil {
		return f
	}
	f.split.all.Add(1)
	share := split.Of(s.Share)
	var second bool
	by := x.field([]byte(s.StickyHeader))
	switch {
	case s.StickyClient:
		second = share.Holds(x.callerOf() ^ f.hash)
	case s.StickyHeader != "" && by != nil:
		second = share.Holds(balance.HashBytes(by) ^ f.hash)
	default:
		second = f.split.counter.Second(share)
	}
	if !second {
		return f
	}
	other := x.g.function(x.call.st, []byte(s.To))
	if other == nil {
		return f
	}
	f.split.to.Add(1)
	if t.named > 0 { // the worker knows what to run by the path
		t.path = bytes.Join([][]byte{t.path[:t.named], []byte(s.To), t.path[t.named+len(t.fn):]}, nil)
	}
	return other
}

// SplitStatus says how a function's calls are shared with another one.
type SplitStatus struct {
	To    string  `json:"to"`
	Share float64 `json:"share"`
	// Sticky is "client", or the name of the header that says whose calls stay together.
	Sticky string `json:"sticky,omitempty"`
	// Calls are those that were shared, Sent those of them that the other got.
	Calls uint64 `json:"calls"`
	Sent  uint64 `json:"sent"`
}

func (s *splitter) status() *SplitStatus {
	r := s.rule.Load()
	if r == nil {
		return nil
	}
	out := &SplitStatus{To: r.To, Share: r.Share, Sticky: r.StickyHeader, Calls: s.all.Load(), Sent: s.to.Load()}
	if r.StickyClient {
		out.Sticky = "client"
	}
	return out
}
