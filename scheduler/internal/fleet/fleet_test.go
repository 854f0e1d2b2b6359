package fleet

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/purity"
)

func TestPure(t *testing.T) {
	t.Parallel()
	found, err := purity.Check(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

const hour = 1000 * time.Hour // some moment

// brief is a plan in a line: "drain a, start, stop b:7".
func brief(p Plan) string {
	var out []string
	for _, a := range p.Actions {
		s := a.Kind.String()
		if a.Member != "" {
			s += " " + a.Member
		}
		if a.Handle != "" {
			s += ":" + a.Handle
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func running(name string, load int) Member {
	return Member{Name: name, Asked: hour - time.Hour, Handle: "h" + name, Joined: hour - time.Hour, Alive: true, Load: load, Copies: []Copy{{Handle: "h" + name, Began: hour - time.Hour}}}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	with := func(m Member, f func(*Member)) Member { f(&m); return m }
	asked := Member{Name: "n", Asked: hour - time.Second}
	accepted := Member{Name: "n", Asked: hour - time.Second, Handle: "hn", Copies: []Copy{{Handle: "hn", Waiting: true, Detail: "Resources"}}}
	late := func(m Member) Member { m.Asked = hour - 6*time.Minute; return m }
	for _, tc := range []struct {
		name            string
		from, to        int
		members         []Member
		change          func(*Picture)
		want            string
		wantErr, wantNb string // parts of the error and of the notes
	}{
		{name: "empty", from: 2, to: 2, want: "start, start"},
		{name: "whole", from: 1, to: 1, members: []Member{running("a", 3)}},
		{name: "nothing while the engine is away", from: 2, to: 2, change: func(p *Picture) { p.Listed = false }},
		{name: "on its way", from: 1, to: 1, members: []Member{asked}},
		{name: "accepted", from: 1, to: 1, members: []Member{accepted}},
		{name: "adopted", from: 1, to: 1, members: []Member{with(accepted, func(m *Member) { m.Handle = "" })}, want: "adopt n:hn"},
		{name: "nobody knows", from: 1, to: 1, members: []Member{late(asked)}, want: "forget n", wantErr: "it is unknown whether it did"},
		{name: "accepted and never started", from: 1, to: 1, members: []Member{late(accepted)}, want: "stop n:hn", wantErr: "accepted n and did not start it within 5m0s: Resources"},
		{
			name: "runs and does not join", from: 1, to: 1, members: []Member{with(late(accepted), func(m *Member) { m.Copies = []Copy{{Handle: "hn"}} })},
			want: "stop n:hn", wantErr: "runs and did not join",
		},
		{
			name: "ended before it joined", from: 1, to: 1, members: []Member{with(accepted, func(m *Member) { m.Copies = []Copy{{Handle: "hn", Ended: true, Detail: "exit status 2"}} })},
			want: "forget n", wantErr: "n ended before it joined: exit status 2",
		},
		{
			name: "gone soon after it joined", from: 1, to: 1,
			members: []Member{with(running("a", 0), func(m *Member) { m.Alive, m.Joined, m.Copies[0].Ended = false, hour-30*time.Second, true })},
			want:    "forget a", wantErr: "a ended soon after it had joined",
		},
		{
			name: "asked to leave soon after it joined", from: 1, to: 1, // as by a node that is drained
			members: []Member{with(running("a", 0), func(m *Member) { m.Alive, m.Left, m.Joined, m.Copies = false, true, hour-30*time.Second, nil })},
			want:    "forget a",
		},
		{
			name: "lost, and runs", from: 1, to: 1,
			members: []Member{with(running("a", 1), func(m *Member) { m.Alive, m.Lost = false, hour-4*time.Minute })},
		},
		{
			name: "lost for long, and runs", from: 1, to: 1,
			members: []Member{with(running("a", 1), func(m *Member) { m.Alive, m.Lost = false, hour-6*time.Minute })},
			want:    "stop a:ha", wantErr: "a runs, but no scheduler has heard from it for 5m0s",
		},
		{
			name: "lost, and back", from: 1, to: 1,
			members: []Member{with(running("a", 1), func(m *Member) { m.Lost = hour - 6*time.Minute })},
		},
		{
			name: "started twice", from: 1, to: 1, members: []Member{with(running("a", 1), func(m *Member) { m.Copies = append(m.Copies, Copy{Handle: "x"}) })},
			want: "kill a:x", wantNb: "started a twice",
		},
		{
			name: "the first copy is the second one listed", from: 1, to: 1, members: []Member{with(running("a", 1), func(m *Member) { m.Copies = []Copy{{Handle: "x"}, {Handle: "ha"}} })},
			want: "kill a:x", wantNb: "its copy x, which cannot join, is stopped",
		},
		{
			name: "the engine lost its state", from: 1, to: 1, members: []Member{with(running("a", 1), func(m *Member) { m.Copies = nil })},
			wantNb: "no longer knows a, which still runs",
		},
		{
			name: "the engine is away, and nobody is lost", from: 1, to: 1, members: []Member{with(running("a", 1), func(m *Member) { m.Copies = nil })},
			change: func(p *Picture) { p.Listed = false },
		},
		{
			name: "gone after a long life", from: 1, to: 1, members: []Member{with(running("a", 1), func(m *Member) { m.Copies, m.Alive = nil, false })},
			want: "forget a, start",
		},
		{
			name: "gone, and its lease not ended", from: 1, to: 1, members: []Member{with(running("a", 1), func(m *Member) { m.Copies[0].Ended = true })},
		},
		{name: "the emptiest goes", from: 2, to: 2, members: []Member{running("a", 2), running("b", 1), running("c", 3)}, want: "drain b"},
		{
			name: "one after the other", from: 1, to: 1,
			members: []Member{running("a", 2), running("b", 1), with(running("c", 3), func(m *Member) { m.Leaving = hour - time.Second })},
		},
		{name: "drained", from: 0, to: 0, members: []Member{with(running("a", 0), func(m *Member) { m.Leaving = hour - time.Second })}, want: "stop a:ha"},
		{
			name: "nowhere to go", from: 0, to: 0, members: []Member{with(running("a", 4), func(m *Member) { m.Leaving = hour - time.Hour })},
			wantNb: "no other worker can take what it runs (4 in all)",
		},
		{
			name: "nowhere to go, and the pool is deleted", members: []Member{with(running("a", 4), func(m *Member) { m.Leaving = hour - time.Hour })},
			change: func(p *Picture) { p.Deleted = true }, want: "stop a:ha",
		},
		{
			name: "deleted", from: 3, to: 3, members: []Member{running("a", 1), running("b", 1), running("c", 1)},
			change: func(p *Picture) { p.Deleted = true }, want: "drain a, drain b, drain c",
		},
		{
			name: "stopped is asked again", from: 0, to: 0, members: []Member{with(running("a", 0), func(m *Member) { m.Leaving, m.Stopping = hour-time.Minute, hour-time.Minute })},
			want: "stop a:ha",
		},
		{
			name: "ended by the engine, and goes on", from: 0, to: 0,
			members: []Member{with(running("a", 0), func(m *Member) {
				m.Leaving, m.Stopping, m.Copies[0].Ended = hour-time.Minute, hour-time.Minute, true
			})},
			wantNb: "says that a has ended, but it still runs",
		},
		{
			name: "lost, and the engine is to start it again", from: 1, to: 1,
			members: []Member{with(running("a", 0), func(m *Member) { m.Alive, m.Copies[0].Waiting = false, true })},
			want:    "stop a:ha, start", wantNb: "is about to start a again",
		},
		{
			name: "joined a moment ago, and listed before", from: 1, to: 1,
			members: []Member{with(running("a", 0), func(m *Member) {
				m.Joined, m.Alive, m.Copies[0].Waiting = hour-10*time.Second, false, true
			})},
		},
		{
			name: "the engine is to start it again, and it lives still", from: 1, to: 1,
			members: []Member{with(running("a", 1), func(m *Member) { m.Copies[0].Waiting = true })},
		},
		{
			name: "another template: one more first", from: 2, to: 2, members: []Member{with(running("a", 1), func(m *Member) { m.Outdated = true }), running("b", 1)},
			want: "start",
		},
		{
			name: "another template: what replaces it is on its way", from: 1, to: 1, members: []Member{with(running("a", 0), func(m *Member) { m.Outdated = true }), asked},
		},
		{
			name: "another template: then the old one goes", from: 1, to: 1, members: []Member{with(running("a", 9), func(m *Member) { m.Outdated = true }), running("b", 0)},
			want: "drain a",
		},
		{
			name: "its allocation ends: another first", from: 1, to: 1,
			members: []Member{with(running("a", 1), func(m *Member) { m.Copies[0].Ends = hour + 4*time.Minute })}, want: "start",
		},
		{
			name: "its allocation ends: it leaves when another is there", from: 1, to: 1,
			members: []Member{with(running("a", 1), func(m *Member) { m.Copies[0].Ends = hour + 4*time.Minute }), running("b", 0)}, want: "drain a",
		},
		{
			name: "its allocation ends: it leaves in any case", from: 1, to: 1,
			members: []Member{with(running("a", 1), func(m *Member) { m.Copies[0].Ends = hour + 2*time.Minute })}, want: "drain a, start",
		},
		{name: "backs off", from: 1, to: 1, change: func(p *Picture) { p.Memory = p.Memory.Failed(hour-time.Second, "no") }, wantErr: "no"},
		{name: "tries again", from: 1, to: 1, change: func(p *Picture) { p.Memory = p.Memory.Failed(hour-6*time.Second, "no") }, want: "start", wantErr: "no"},
		{
			name: "well again", from: 1, to: 1, members: []Member{running("a", 1)},
			change: func(p *Picture) { p.Memory = p.Memory.Failed(hour-6*time.Second, "no") },
		},
		{name: "not grown at once", from: 0, to: 5, change: func(p *Picture) { p.Want = 2 }},
		{name: "grown", from: 0, to: 5, change: func(p *Picture) { p.Want, p.Memory.WaitingSince = 2, hour-GrowAfter }, want: "start, start"},
		{name: "grown to the most", from: 0, to: 1, change: func(p *Picture) { p.Want, p.Memory.WaitingSince = 9, hour-GrowAfter }, want: "start"},
		{
			name: "what is on its way counts", from: 0, to: 5, members: []Member{asked},
			change: func(p *Picture) { p.Want, p.Memory.WaitingSince, p.Memory.Size = 2, hour-GrowAfter, 1 }, want: "start",
		},
		{
			name: "what has just joined counts", from: 0, to: 5, members: []Member{with(running("a", 0), func(m *Member) { m.Joined = hour - time.Second })},
			change: func(p *Picture) { p.Want, p.Memory.WaitingSince, p.Memory.Size = 1, hour-time.Minute, 1 },
		},
		{
			name: "not shrunk at once", from: 0, to: 5, members: []Member{running("a", 1), running("b", 0)},
			change: func(p *Picture) { p.Memory.Size, p.Spare, p.Memory.SpareSince = 2, 1, hour-9*time.Minute },
		},
		{
			name: "shrunk", from: 0, to: 5, members: []Member{running("a", 1), running("b", 0)},
			change: func(p *Picture) { p.Memory.Size, p.Spare, p.Memory.SpareSince = 2, 2, hour-10*time.Minute }, want: "drain b",
		},
		{
			name: "not below the least", from: 2, to: 5, members: []Member{running("a", 0), running("b", 0)},
			change: func(p *Picture) { p.Memory.Size, p.Spare, p.Memory.SpareSince = 2, 2, hour-time.Hour },
		},
		{
			name: "elsewhere: gone", from: 0, to: 0, members: []Member{{Name: "a", Elsewhere: true, Asked: hour - time.Hour, Joined: hour - time.Hour}}, want: "forget a",
		},
		{
			name: "elsewhere: lives", from: 1, to: 1, members: []Member{{Name: "a", Elsewhere: true, Asked: hour - time.Hour, Joined: hour - time.Hour, Alive: true}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := Picture{
				Now: hour, Engine: "e", From: tc.from, To: tc.to, IdleAfter: 10 * time.Minute, StartTimeout: 5 * time.Minute,
				Members: tc.members, Listed: true,
			}
			if tc.change != nil {
				tc.change(&p)
			}
			plan := Decide(p)
			if got := brief(plan); got != tc.want {
				t.Errorf("decides %q, want %q", got, tc.want)
			}
			if got := plan.Memory.Error; (got == "") != (tc.wantErr == "") || !strings.Contains(got, tc.wantErr) {
				t.Errorf("error %q, want %q", got, tc.wantErr)
			}
			if got := strings.Join(plan.Notes, "\n"); (got == "") != (tc.wantNb == "") || !strings.Contains(got, tc.wantNb) {
				t.Errorf("notes %q, want %q", got, tc.wantNb)
			}
		})
	}
}

// TestBackOff: each failure waits longer than the one before, up to the most.
func TestBackOff(t *testing.T) {
	t.Parallel()
	var m Memory
	before := time.Duration(0)
	for n := range 100 {
		m = m.Failed(hour, "no")
		wait := m.RetryAt - hour
		if wait < before || wait > backoffMost || n > 10 && wait != backoffMost {
			t.Fatalf("after %d failures it waits %v, before %v", n+1, wait, before)
		}
		before = wait
	}
}

// TestSameWhateverTheOrder: members are looked at by name.
func TestSameWhateverTheOrder(t *testing.T) {
	t.Parallel()
	var members []Member
	for n := range 20 {
		members = append(members, running(fmt.Sprintf("w%02d", n), n%3))
	}
	p := Picture{Now: hour, From: 3, To: 3, StartTimeout: time.Minute, Listed: true, Members: slices.Clone(members)}
	want := brief(Decide(p))
	slices.Reverse(members)
	p.Members = members
	if got := brief(Decide(p)); got != want || want == "" {
		t.Errorf("%q and %q", got, want)
	}
}
