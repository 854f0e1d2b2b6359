package worker_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/worker"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	ok := worker.Config{Name: "w", Schedulers: []string{"127.0.0.1:1"}}
	for field, change := range map[string]func(*worker.Config){
		"":              func(*worker.Config) {},
		"name":          func(c *worker.Config) { c.Name = "" },
		"schedulers":    func(c *worker.Config) { c.Schedulers = nil },
		"restart_grace": func(c *worker.Config) { c.RestartGrace = -1 },
		"max_tasks":     func(c *worker.Config) { c.MaxTasks = -1 },
		"strength":      func(c *worker.Config) { c.Strength = -1 },
	} {
		c := ok
		change(&c)
		w, err := worker.New(c)
		var fe *rota.FieldError
		switch {
		case field == "" && (err != nil || w.Incarnation() == "" || w.Name() != "w"):
			t.Errorf("a good config: %v", err)
		case field != "" && (!errors.As(err, &fe) || fe.Field != field):
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestMisuse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fresh := func() *worker.Worker {
			w, err := worker.New(worker.Config{Name: "w", Connect: newFake(t).connect})
			if err != nil {
				t.Fatal(err)
			}
			return w
		}
		wants := func(err error, text string) {
			t.Helper()
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("error %v, want %q", err, text)
			}
		}
		w := fresh()
		wants(w.HandleTask("k", nil), "function")
		if err := w.HandleTask("k", wait); err != nil {
			t.Fatal(err)
		}
		wants(w.HandleTask("k", wait), "kind")
		for _, kind := range []string{"program/f", "program/", "program-scheduler/x"} {
			wants(w.HandleTask(kind, wait), "belong to programs")
		}
		_, err := w.Watch()
		wants(err, "instead of HandleTask")
		w.Start()
		synctest.Wait()
		wants(w.Run(t.Context()), "before")
		wants(w.HandleTask("l", wait), "after Run")
		if err := w.Stop(t.Context()); err != nil {
			t.Error(err)
		}

		w = fresh()
		if _, err := w.Watch(); err != nil {
			t.Fatal(err)
		}
		_, err = w.Watch()
		wants(err, "once")
		wants(w.HandleTask("k", wait), "together with Watch")

		// One that can do nothing ends, and so does a Stop of it.
		w = fresh()
		wants(w.Run(t.Context()), "kinds")
		wants(w.Stop(t.Context()), "kinds")
		if w.Status() != worker.StatusDead || w.TryLeaveBarrier(time.Hour) {
			t.Errorf("it is %s", w.Status())
		}
	})
}
