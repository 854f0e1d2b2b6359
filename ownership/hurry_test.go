package ownership_test

import (
	"testing"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
)

// TestHurry: a move that others wait for is held up by no limit, and one to another
// place is no longer hurried.
func TestHurry(t *testing.T) {
	t.Parallel()
	l := &ownership.Ledger{Limits: ownership.Limits{InAll: 1}}
	for _, w := range []string{"w1", "w2", "w3"} {
		l.Session(w, 1)
	}
	a, b := rota.Instance{Task: "a"}, rota.Instance{Task: "b"}
	for n, i := range []rota.Instance{a, b} {
		l.Record([]string{"w1", "w2"}[n], ownership.Grant{Instance: i, Generation: 1, Session: 1}, false)
		l.Ack([]string{"w1", "w2"}[n], i, 1, ownership.Running)
	}
	l.Target(a, ownership.Target{Worker: "w2"})
	l.Target(b, ownership.Target{Worker: "w1"})
	e := l.Ready(2)
	if len(e.Revoke) != 1 || e.Revoke[0].Instance != a || e.Revoke[0].To != "w2" {
		t.Fatalf("%+v", e)
	}
	g := e.Revoke[0].Grant
	g.Revoked = true
	l.Record("w1", g, false)
	if e = l.Ready(3); !e.Empty() {
		t.Fatalf("past the limit: %+v", e)
	}
	if !l.Hurry(b) || l.Hurry(b) || l.Hurry(rota.Instance{Task: "c"}) {
		t.Error("what is new is not told")
	}
	if e = l.Ready(4); len(e.Revoke) != 1 || e.Revoke[0].Instance != b {
		t.Fatalf("not hurried: %+v", e)
	}
	l.Target(b, ownership.Target{Worker: "w3"})
	if e = l.Ready(5); !e.Empty() {
		t.Fatalf("still hurried: %+v", e)
	}
}
