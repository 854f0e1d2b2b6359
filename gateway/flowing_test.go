package gateway

import (
	"net/http"
	"testing"
)

// late is a client whose worker's connection closes the body when it is over.
type late struct {
	client
	of   *flowing
	cuts int
}

func (l *late) closed(bool) { _ = l.of.Close() }
func (l *late) cut()        { l.cuts++ }

// A body that is over is left alone, however late net/http closes it: what it
// belonged to may be another call's by then.
func TestLateCloseOfABody(t *testing.T) {
	t.Parallel()
	l := &late{}
	x := &exchange{client: l}
	l.of = &flowing{x: x, over: true}
	l.of.req = &http.Request{Body: l.of}
	if !l.of.stop(x) || l.cuts > 0 {
		t.Errorf("it was cut %d times when it was over", l.cuts)
	}
}
