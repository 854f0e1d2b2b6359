package watchdog_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota/internal/watchdog"
)

// TestDog: only a loop that stands at one place for too long is told of, once,
// with the place.
func TestDog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []string
		d := watchdog.New(10*time.Second, func(place string, standing time.Duration) {
			told = append(told, place+" "+standing.String())
		})
		for range 5 { // busy, but it moves
			d.At("plan")
			time.Sleep(6 * time.Second)
			d.At("commit")
			time.Sleep(9 * time.Second)
			d.Goes()
			time.Sleep(9 * time.Second)
		}
		d.Rest()
		time.Sleep(time.Hour)
		if d.Late() || told != nil {
			t.Fatalf("told %v", told)
		}
		d.At("plan")
		time.Sleep(25 * time.Second)
		d.At("commit")
		time.Sleep(25 * time.Second)
		synctest.Wait()
		if len(told) != 1 || told[0] != "plan 10s" || !d.Late() {
			t.Errorf("told %v", told)
		}
		stopped := watchdog.New(time.Second, func(string, time.Duration) { t.Error("told of a loop that has ended") })
		stopped.At("plan")
		stopped.Stop()
		stopped.At("plan")
		time.Sleep(time.Hour)
	})
}
