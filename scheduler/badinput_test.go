package scheduler_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/taskfile"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// A session that says that it holds, or has stopped, what was granted to others
// changes nothing.
func TestSessionThatLies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		o := newOwners(t)
		list := tasks(6)
		sc := newScheduler(t, "s1", st, scheduler.Config{
			Sources: []*source.Source{source.Func("list", always(list))},
		})
		w := newWorker(t, "honest", o, worker.Config{}, sc)
		if !w.TryLeaveBarrier(time.Minute) {
			t.Fatal("not all tasks run")
		}
		before := st.Revision()
		var held []*rotav1.Ack
		for _, a := range w.Tasks() {
			for _, state := range []string{"running", "stopped", "no such state"} {
				held = append(held, &rotav1.Ack{Task: a.ID(), Generation: uint64(a.Generation()), State: state})
			}
		}
		held = append(held, &rotav1.Ack{Task: "unheard of", Index: -1, Generation: 1, State: "running"})
		c := sc.Sessions().Dial(t.Context())
		err := c.Send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Hello{Hello: &rotav1.Hello{
			Info: &rotav1.WorkerInfo{Name: "liar", Incarnation: "1", Kinds: []string{"other"}}, Held: held,
		}}})
		if err != nil {
			t.Fatal(err)
		}
		if m, err := c.Recv(); err != nil || m.GetWelcome() == nil {
			t.Fatalf("%v, %v, want a welcome", m, err)
		}
		if err := c.Send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Acks{Acks: &rotav1.Acks{Acks: held}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if n := o.count()["honest"]; n != 6 {
			t.Errorf("the honest worker runs %d, want 6", n)
		}
		sc.View().Read(func() {
			if a := sc.View().Acks["liar"]; a != nil && a.Len() > 0 {
				t.Errorf("%d lies were written down", a.Len())
			}
		})
		if before == st.Revision() {
			t.Error("nothing happened at all")
		}
	})
}

// always is a list that does not change.
func always(list []rota.Task) source.Generator {
	return func(context.Context) ([]rota.Task, error) { return list, nil }
}

// answers is a web server that answers by turns.
type answers struct {
	text atomic.Pointer[string]
	code atomic.Int32
}

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	if a.text.Load() == nil {
		return nil, errors.New("connection refused")
	}
	return &http.Response{
		StatusCode: int(a.code.Load()), Status: http.StatusText(int(a.code.Load())), Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(*a.text.Load())), Request: r,
	}, nil
}

// A source that answers garbage, a wrong task, an error or nothing: its last good
// list stays, and the status says what is wrong.
func TestSourceThatAnswersGarbage(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name, text string
		code       int32
	}{
		{"garbage", "<html>sorry", 200},
		{"half a list", `[{"id":"a"},{"id":`, 200},
		{"a wrong task", `[{"id":"a"},{"id":"b","weight":-1}]`, 200},
		{"twice the same id", `[{"id":"a"},{"id":"a"}]`, 200},
		{"an unknown field", `[{"id":"a","wieght":1}]`, 200},
		{"an error", `[]`, 500},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st := memory.New()
				t.Cleanup(func() { st.Close() })
				web := &answers{}
				say := func(text string, code int32) { web.text.Store(&text); web.code.Store(code) }
				say(`[{"id":"one"},{"id":"two"}]`, 200)
				src := source.URL("http://lists/tasks.json", time.Second, &http.Client{Transport: web},
					func(name string, r io.Reader) ([]rota.Task, error) { return taskfile.Read(r, name, taskfile.Options{}) })
				sc := newScheduler(t, "s1", st, scheduler.Config{Sources: []*source.Source{src}})
				w := newWorker(t, "w", newOwners(t), worker.Config{}, sc)
				if !w.TryLeaveBarrier(time.Minute) {
					t.Fatal("not all tasks run")
				}
				say(x.text, x.code)
				time.Sleep(5 * time.Second)
				sc.View().Read(func() {
					v := sc.View()
					if v.Tasks.Len() != 2 {
						t.Errorf("%d tasks, want the two of before", v.Tasks.Len())
					}
					if s := v.Sources[src.Name]; s.GetError() == "" || s.GetTasks() != 2 {
						t.Errorf("source %v, want an error and two tasks", s)
					}
				})
				say(`[{"id":"one"}]`, 200)
				time.Sleep(5 * time.Second)
				sc.View().Read(func() {
					v := sc.View()
					if v.Tasks.Len() != 1 || v.Sources[src.Name].GetError() != "" {
						t.Errorf("%d tasks, %v: the good list was not taken", v.Tasks.Len(), v.Sources[src.Name])
					}
				})
			})
		})
	}
}
