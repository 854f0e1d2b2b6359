package room

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestListing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &Listing{Every: 2 * time.Second}
		asked, takes := 0, time.Duration(0)
		var fails error
		during := func() {}
		get := func() string {
			t.Helper()
			copies, err := l.Get(func() ([]Copy, error) {
				asked++
				time.Sleep(takes)
				during()
				return []Copy{{Worker: string(rune('a' + asked - 1))}}, fails
			})
			if !errors.Is(err, fails) {
				t.Errorf("error %v, want %v", err, fails)
			}
			return copies[0].Worker
		}
		want := func(worker string) {
			t.Helper()
			if got := get(); got != worker {
				t.Errorf("%s, want %s", got, worker)
			}
		}
		want("a")
		want("a")
		time.Sleep(2 * time.Second)
		want("b")
		l.Forget()
		want("c")
		// What has changed while a list was on its way may be missing in it.
		l.Forget()
		during = l.Forget
		want("d")
		during = func() {}
		want("e")
		// One that answers slowly is asked seldom; errors are kept, too.
		l.Forget()
		takes, fails = time.Second, errors.New("slow")
		want("f")
		time.Sleep(18 * time.Second)
		want("f")
		time.Sleep(time.Second)
		want("g")
	})
}
