package exec_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/worker/exec"
)

// declare says anew what is declared of the task.
func (p *player) declare(t *rotav1.TaskSpec) {
	p.down <- &rotav1.ToWorker{Body: &rotav1.ToWorker_Grants{Grants: &rotav1.Grants{Update: []*rotav1.UpdateItem{{
		Task: t.GetId(), Index: 2, Generation: 7, Group: t.GetGroup(), Key: t.GetKey(), Weight: t.GetWeight(), Priority: t.GetPriority(),
	}}}}}
}

// await waits for a text in the output.
func (b *buffer) await(t *testing.T, text string) {
	t.Helper()
	for until := time.Now().Add(time.Minute); !strings.Contains(b.String(), text); {
		if time.Now().After(until) {
			t.Fatalf("no %q in\n%s", text, b)
		}
		<-time.After(time.Millisecond)
	}
}

// TestDeclaredAnew: a process goes on through all changes of its task that neither
// its words nor its environment carry, and is started anew, once and under the same
// generation, at each that they do.
func TestDeclaredAnew(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		words string
		want  func(*rotav1.TaskSpec) string
	}{
		"environment": {"", func(*rotav1.TaskSpec) string { return "" }},
		"typed words": {" w={Weight:any} {Key:text}", func(s *rotav1.TaskSpec) string { return fmt.Sprintf("w=%v %s", s.GetWeight(), s.GetKey()) }},
		"templates":   {" p={{.Priority}} {{.Group}}", func(s *rotav1.TaskSpec) string { return fmt.Sprintf("p=%v %s", s.GetPriority(), s.GetGroup()) }},
		"payload":     {" {{.PayloadFile}}", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chance := rand.New(rand.NewPCG(5, uint64(len(name))))
			out, starts := &buffer{}, atomic.Int64{}
			s := &rotav1.TaskSpec{Id: "a", Group: "g", Key: "k", Weight: 1}
			line := func() string {
				rest := ""
				if c.want != nil {
					rest = " " + c.want(s)
				}
				return fmt.Sprintf("up 7 %s %s%s", s.GetGroup(), s.GetKey(), strings.TrimRight(rest, " "))
			}
			script := `for w; do case $w in /*) ;; *) r="$r $w";; esac; done; echo "up $ROTA_GENERATION $ROTA_GROUP $ROTA_KEY$r."; exec sleep 1000`
			task := &rotav1.TaskSpec{Id: "a", Group: "g", Key: "k", Weight: 1, Payload: []byte("p")}
			a := run(t, exec.Config{Command: fmt.Sprintf(`/bin/sh -c '%s' sh`, script) + c.words, Output: out.of}, task, func(p *player) {
				expected := []string{line()}
				out.await(t, line()+".")
				for n := range 12 {
					was := line()
					switch chance.IntN(5) {
					case 0:
						s.Group = fmt.Sprint("g", n)
					case 1:
						s.Key = fmt.Sprint("k", n)
					case 2:
						s.Weight = float64(n + 2)
					case 3:
						s.Priority = float64(n + 2)
					}
					p.declare(s)
					if line() != was {
						expected = append(expected, line())
						out.await(t, line()+".") // each is seen once only
					}
				}
				s.Key = "last" // behind what should have begun nothing
				p.declare(s)
				expected = append(expected, line())
				out.await(t, line()+".")
				got := out.String()
				if want := strings.Join(expected, ".\n") + ".\n"; got != want {
					t.Errorf("it ran\n%s\nwant\n%s", got, want)
				}
				starts.Store(int64(len(expected)))
			})
			if starts.Load() < 3 || a.GetState() != "stopped" || a.GetRestarts() != 0 || a.GetError() != "" {
				t.Errorf("after %d starts it says %v", starts.Load(), a)
			}
		})
	}
}

// TestRefusedAnew: what is now declared and the command does not take ends the
// process, with the reason; the next change is tried soon.
func TestRefusedAnew(t *testing.T) {
	t.Parallel()
	out := &buffer{}
	s := &rotav1.TaskSpec{Id: "a", Key: "one"}
	run(t, exec.Config{Command: `/bin/sh -c 'echo up $1.; exec sleep 1000' sh {Key:one(one|two)}`, Output: out.of},
		&rotav1.TaskSpec{Id: "a", Key: "one"}, func(p *player) {
			out.await(t, "up one.")
			s.Key = "three"
			p.declare(s)
			p.until(func(a *rotav1.Ack) bool {
				return a.GetState() == "backoff" && strings.Contains(a.GetError(), `"three"`)
			})
			s.Key = "two"
			p.declare(s)
			out.await(t, "up two.")
			p.until(func(a *rotav1.Ack) bool { return a.GetState() == "running" })
		})
}
