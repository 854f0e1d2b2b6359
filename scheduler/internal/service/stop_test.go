package service_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// scheduling is the kind of a task that runs a scheduler function.
const scheduling = rota.ProgramSchedulerKind + "x"

// detach connects a process of worker w that runs the scheduler function of program p.
func (b *bench) detach(run string) *program {
	return b.attachAs(certOf("w"), &rotav1.ProgramHello{Name: "p", Run: run, Detached: true})
}

// answer is how the program was received: "welcome", with the number of events before,
// or "ended".
func (p *program) answer() string {
	synctest.Wait()
	select {
	case m := <-p.heard:
		switch {
		case m.GetWelcome() != nil:
			return fmt.Sprintf("welcome, %d events", len(m.GetWelcome().GetHistory()))
		case m.GetEnded() != nil:
			return "ended"
		default:
			return fmt.Sprint(m)
		}
	default:
		return "nothing"
	}
}

func (p *program) report() {
	p.said <- &rotav1.FromProgram{Body: &rotav1.FromProgram_Report{Report: &rotav1.ProgramReport{
		Phase: "running", Events: []*rotav1.ProgramEvent{{Kind: "running", Time: timestamppb.Now()}},
	}}}
	synctest.Wait()
}

// TestProgramTimesAreOfOneClock: the times of a program are all of the scheduler's clock,
// whatever the one of its process says, and as long ago as they were there.
func TestProgramTimesAreOfOneClock(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"the same": 0, "a day behind": -24 * time.Hour, "a day ahead": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(b *bench) {
				p := b.attach()
				time.Sleep(2 * time.Second)
				there := time.Now().Add(ahead)
				p.said <- &rotav1.FromProgram{Body: &rotav1.FromProgram_Report{Report: &rotav1.ProgramReport{
					Phase: "running", NowUnixUs: there.UnixMicro(), Events: []*rotav1.ProgramEvent{
						{Kind: "running", Time: timestamppb.New(there.Add(-time.Second))},
						{Kind: "late", Time: timestamppb.New(there.Add(time.Minute))}, // its clock was set back meanwhile
					},
				}}}
				synctest.Wait()
				m, err := b.svc.GetProgram(b.Context(), &rotav1.GetProgramRequest{Name: "p"})
				if err != nil || len(m.GetEvents()) != 2 {
					b.Fatal(m, err)
				}
				began := m.GetSince().AsTime()
				for n, want := range []time.Duration{time.Second, 2 * time.Second} {
					if at := m.GetEvents()[n].GetTime().AsTime().Sub(began); (at - want).Abs() > 10*time.Millisecond {
						b.Errorf("event %d was %v after the program began, want %v", n, at, want)
					}
				}
				p.leave(b)
			})
		})
	}
}

// TestAcceptedStopIsKept: a submitted program that was told to stop, in whichever moment
// of its life, is over whatever becomes of the process that runs its scheduler function:
// none begins it again. One that was not goes on. A later one of the name begins anew.
func TestAcceptedStopIsKept(t *testing.T) {
	t.Parallel()
	stop := func(b *bench) {
		_, err := b.svc.StopProgram(auth.With(b.Context(), tokenOf(auth.Submitter)), &rotav1.StopProgramRequest{Name: "p"})
		if err != nil {
			b.Errorf("stop: %v", err)
		}
	}
	killed := func(b *bench, p *program) { // its worker is, and its lease ends
		p.leave(b)
		time.Sleep(time.Minute)
		synctest.Wait()
	}
	moves := func(b *bench, p *program) {
		p.said <- &rotav1.FromProgram{Body: &rotav1.FromProgram_End{End: &rotav1.ProgramEnd{Moves: true}}}
		if err := <-p.ended; err != nil {
			b.Error(err)
		}
		synctest.Wait()
	}
	for name, c := range map[string]struct {
		ends func(b *bench, p *program)
		want string // the answer to the next process; "" if nobody may be one, as the task is gone
	}{
		"goes on after a kill": {killed, "welcome, 1 events"},
		"goes on after a move": {moves, "welcome, 1 events"},
		"stopped, then killed": {func(b *bench, p *program) {
			stop(b)
			killed(b, p)
		}, "ended"},
		"stopped, reported, then killed": {func(b *bench, p *program) {
			stop(b)
			p.report()
			killed(b, p)
		}, "ended"},
		"stopped while its lease runs out": {func(b *bench, p *program) {
			p.leave(b)
			stop(b)
			time.Sleep(time.Minute)
			synctest.Wait()
		}, "ended"},
		"stopped, then moves": {func(b *bench, p *program) {
			stop(b)
			moves(b, p)
		}, ""},
		"stopped, then its grant is gone": {func(b *bench, p *program) {
			stop(b)
			b.ungrant("w", "program/p")
			moves(b, p)
		}, ""},
		"stopped after a kill": {func(b *bench, p *program) {
			killed(b, p)
			stop(b)
		}, ""},
		"stopped after a move": {func(b *bench, p *program) {
			moves(b, p)
			stop(b)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(b *bench) {
				b.worker("w", false)
				b.submitted(scheduling, "w")
				p := b.detach("r1")
				if got := p.answer(); got != "welcome, 0 events" {
					b.Fatalf("first: %s", got)
				}
				p.report()
				c.ends(b, p)
				if c.want != "" {
					p = b.detach("r2")
					if got := p.answer(); got != c.want {
						b.Fatalf("the next process is answered %q, want %q", got, c.want)
					}
				}
				if c.want == "ended" {
					if err := <-p.ended; err != nil {
						b.Error(err)
					}
				}
				_, err := b.svc.GetTask(b.Context(), &rotav1.GetTaskRequest{Id: "program/p"})
				kept, _, err2 := b.st.Range(b.Context(), store.HistoriesPrefix)
				if err2 != nil {
					b.Fatal(err2)
				}
				if c.want != "ended" && c.want != "" {
					if err != nil || len(kept) != 1 {
						b.Errorf("it goes on; its task: %v, %d histories", err, len(kept))
					}
					p.leave(b)
					return
				}
				b.wants(err, codes.NotFound, "", "")
				if len(kept) != 0 {
					b.Error("its history outlives it")
				}
				b.submitted(scheduling, "w")
				p = b.detach("r3")
				if got := p.answer(); got != "welcome, 0 events" {
					b.Errorf("submitted anew: %s", got)
				}
				p.leave(b)
			})
		})
	}
}

// TestStopBeforeItBegins: a submitted program that waits for a worker is over when it is
// told to stop, by whom it may be; what is no such program is not running.
func TestStopBeforeItBegins(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.submitted(scheduling, "")
		b.applyAs(&rotav1.TaskDefinition{Id: "program/q", Kind: "feed"})
		stop := func(who auth.Identity, name string) error {
			_, err := b.svc.StopProgram(auth.With(b.Context(), who), &rotav1.StopProgramRequest{Name: name})
			return err
		}
		b.wants(stop(tokenOf(auth.Submitter, "program/f"), "p"), codes.PermissionDenied, "not valid for kind", "")
		b.wants(stop(tokenOf(auth.Viewer), "p"), codes.PermissionDenied, "submitter", "")
		b.wants(stop(tokenOf(auth.Submitter), "q"), codes.NotFound, "not running", "")
		b.wants(stop(tokenOf(auth.Submitter), "other"), codes.NotFound, "not running", "")
		if err := stop(tokenOf(auth.Submitter), "p"); err != nil {
			b.Error(err)
		}
		b.wants(stop(tokenOf(auth.Submitter), "p"), codes.NotFound, "not running", "")
		if _, err := b.svc.GetTask(b.Context(), &rotav1.GetTaskRequest{Id: "program/q"}); err != nil {
			b.Error(err)
		}
	})
}

// TestSubmittedAnewWhileOneEnds: a program whose task is deleted, and submitted with other
// words while the scheduler function of the first is at its end, is not deleted with it,
// is not begun by who was granted the first, and hears nothing of it.
func TestSubmittedAnewWhileOneEnds(t *testing.T) {
	t.Parallel()
	ends := func(moves bool) func(*bench, *program) {
		return func(b *bench, p *program) {
			p.said <- &rotav1.FromProgram{Body: &rotav1.FromProgram_End{End: &rotav1.ProgramEnd{Moves: moves}}}
			if err := <-p.ended; err != nil {
				b.Error(err)
			}
			synctest.Wait()
		}
	}
	for name, end := range map[string]func(*bench, *program){
		"returns": ends(false),
		"moves":   ends(true),
		"stopped, then returns": func(b *bench, p *program) {
			if _, err := b.svc.StopProgram(b.Context(), &rotav1.StopProgramRequest{Name: "p"}); err != nil {
				b.Error(err)
			}
			ends(false)(b, p)
		},
		"stopped, then moves": func(b *bench, p *program) {
			if _, err := b.svc.StopProgram(b.Context(), &rotav1.StopProgramRequest{Name: "p"}); err != nil {
				b.Error(err)
			}
			ends(true)(b, p)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(b *bench) {
				b.worker("w", false)
				b.submitted(scheduling, "w")
				p := b.detach("r1")
				if got := p.answer(); got != "welcome, 0 events" {
					b.Fatalf("first: %s", got)
				}
				if _, err := b.svc.DeleteTasks(b.Context(), &rotav1.DeleteTasksRequest{Ids: []string{"program/p"}}); err != nil {
					b.Fatal(err)
				}
				b.applyAs(&rotav1.TaskDefinition{Id: "program/p", Kind: scheduling, Payload: "another"})
				p.report()
				end(b, p)
				if _, err := b.svc.GetTask(b.Context(), &rotav1.GetTaskRequest{Id: "program/p"}); err != nil {
					b.Error(err)
				}
				early := b.detach("r2")
				b.wants(<-early.ended, codes.PermissionDenied, "does not hold", "")
				b.grant("w", "program/p", 2, false, "")
				next := b.detach("r3")
				if got := next.answer(); got != "welcome, 0 events" {
					b.Errorf("the next: %s", got)
				}
				next.leave(b)
			})
		})
	}
}

// TestPhasesWhereNobodyRuns: a submitted program is shown from its submission to its end,
// with what it waits for, and never as ended while it is to go on.
func TestPhasesWhereNobodyRuns(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		want := func(phase string, events int, missing string) {
			b.Helper()
			got, err := b.svc.GetProgram(b.Context(), &rotav1.GetProgramRequest{Name: "p"})
			if err != nil {
				b.Fatal(err)
			}
			if got.GetPhase() != phase || len(got.GetEvents()) != events || !strings.Contains(got.GetMissing(), missing) {
				b.Errorf("%v, want %s, %d events, %q", got, phase, events, missing)
			}
			all, err := b.svc.ListPrograms(b.Context(), &rotav1.ListProgramsRequest{})
			if err != nil || len(all.GetPrograms()) != 1 || all.GetPrograms()[0].GetPhase() != phase {
				b.Errorf("list: %v %v, want one that is %s", all, err, phase)
			}
		}
		// What the leader keeps of an earlier one of the name.
		b.put(store.Op{Key: store.EndedKey("p"), Value: b.value(&storepb.Program{Version: 1, Name: "p", Run: "r0", Phase: "stopping"})})
		b.applyAs(&rotav1.TaskDefinition{Id: "program/p", Kind: scheduling})
		b.applyAs(&rotav1.TaskDefinition{Id: "program/q", Kind: "feed"}) // is none
		want("waiting", 0, "a worker for its scheduler function")
		b.worker("w", false)
		b.grant("w", "program/p", 1, false, "")
		want("waiting", 0, "on w")
		p := b.detach("r1")
		p.report()
		want("running", 1, "")
		p.said <- &rotav1.FromProgram{Body: &rotav1.FromProgram_End{End: &rotav1.ProgramEnd{Moves: true}}}
		if err := <-p.ended; err != nil {
			b.Error(err)
		}
		synctest.Wait()
		want("moving", 1, "on w")
		b.ungrant("w", "program/p")
		want("moving", 1, "a worker for its scheduler function")
	})
}
