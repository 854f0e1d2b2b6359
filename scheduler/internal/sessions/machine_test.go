package sessions_test

import (
	"math"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler/internal/sessions"
)

// TestMachine: a worker's clock is known by what it says of it, and what comes late
// makes it look no worse.
func TestMachine(t *testing.T) {
	t.Parallel()
	bubble(t, sessions.Config{}, func(b *bench) {
		ends := time.Now().Add(time.Hour).Truncate(time.Millisecond)
		say := func(c *client, seq uint64, ahead time.Duration) {
			m := renew(seq)
			m.GetRenew().Machine = &rotav1.Machine{UnixMs: time.Now().Add(ahead).UnixMilli(), CertificateEndsUnixMs: ends.UnixMilli()}
			c.say(m)
		}
		wants := func(what string, want time.Duration) {
			b.t.Helper()
			m, ok := b.srv.Machine("w")
			if d := m.ClockAhead - want; !ok || d.Abs() > time.Millisecond || !m.CertificateEnds.Equal(ends) {
				b.t.Errorf("%s: %v, %v, want %v ahead", what, m, ok, want)
			}
		}
		c, _ := b.join(info("w"), 0)
		if m, ok := b.srv.Machine("w"); ok {
			b.t.Errorf("of a worker that says nothing: %v", m)
		}
		say(c, 2, time.Hour)
		wants("ahead", time.Hour)
		for n := range uint64(7) {
			say(c, 3+n, time.Hour-time.Duration(n)*time.Second) // as if they came late
		}
		wants("some come late", time.Hour)
		for n := range uint64(8) {
			say(c, 10+n, -time.Minute)
		}
		wants("set back", -time.Minute)
		say(c, 20, 0)
		wants("set right", 0)
		for _, wild := range []int64{math.MaxInt64, math.MinInt64, -1} {
			m := renew(30)
			m.GetRenew().Machine = &rotav1.Machine{UnixMs: wild, CertificateEndsUnixMs: wild}
			c.say(m)
			if m, ok := b.srv.Machine("w"); !ok || !m.CertificateEnds.IsZero() {
				b.t.Errorf("of %d: %v", wild, m)
			}
		}
		c.stop()
		time.Sleep(time.Second)
		if m, ok := b.srv.Machine("w"); ok {
			b.t.Errorf("without a connection: %v", m)
		}
	})
}
