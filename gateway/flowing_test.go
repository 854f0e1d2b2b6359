package gateway

import (
	"net/http"
	"testing"
)

// counting is a client that counts how often the reading of its body is cut.
type counting struct {
	client
	cuts int
}

func (c *counting) cut() { c.cuts++ }

// A body that is over is left alone, however late net/http closes it: what it
// belonged to may be another call's by then.
func TestLateCloseOfABody(t *testing.T) {
	t.Parallel()
	c := &counting{}
	f := &flowing{x: &exchange{client: c}}
	f.req = &http.Request{Body: f}
	f.stop()
	f.mu.Lock() // the next call's is being read
	_ = f.Close()
	if f.mu.Unlock(); c.cuts > 0 {
		t.Errorf("it was cut %d times when it was over", c.cuts)
	}
}
