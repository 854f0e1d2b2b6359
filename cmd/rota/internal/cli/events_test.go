package cli

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// historian is a scheduler that has events, newest first, a few to a page, and answers
// each watch with the next of its streams; then nobody may watch any more.
type historian struct {
	rotav1.UnimplementedEventsServer
	events  []*rotav1.Event
	page    int
	streams [][]*rotav1.EventNews

	mu      sync.Mutex
	listed  []*rotav1.ListEventsRequest
	watched []*rotav1.WatchEventsRequest
}

func (h *historian) ListEvents(_ context.Context, r *rotav1.ListEventsRequest) (*rotav1.ListEventsResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listed = append(h.listed, r)
	from := 0
	if r.GetPageToken() != "" {
		_, _ = fmt.Sscan(r.GetPageToken(), &from)
	}
	to := min(from+min(h.page, int(r.GetPageSize())), len(h.events))
	out := &rotav1.ListEventsResponse{Events: h.events[from:to], Latest: h.events[0].GetId()}
	if to < len(h.events) {
		out.NextPageToken = fmt.Sprint(to)
	}
	return out, nil
}

func (h *historian) WatchEvents(r *rotav1.WatchEventsRequest, out grpc.ServerStreamingServer[rotav1.EventNews]) error {
	h.mu.Lock()
	n := len(h.watched)
	h.watched = append(h.watched, r)
	h.mu.Unlock()
	if n >= len(h.streams) {
		return status.Error(codes.PermissionDenied, "no longer you")
	}
	for _, news := range h.streams[n] {
		if err := out.Send(news); err != nil {
			return err
		}
	}
	return status.Error(codes.Unavailable, "this scheduler ends")
}

func (h *historian) start(t *testing.T) map[string]string {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	rotav1.RegisterEventsServer(s, h)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(ln)
	}()
	t.Cleanup(func() { s.Stop(); <-ended })
	return map[string]string{"ROTA_SERVER": ln.Addr().String()}
}

func happened(id, kind string, subject *rotav1.Subject, text string) *rotav1.Event {
	return &rotav1.Event{Id: id, Time: timestamppb.New(time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)), Kind: kind, Subject: subject, Text: text}
}

// TestEvents: the latest stand last, as many as are asked for, over as many pages as that
// takes; filters and times go to the scheduler; the table has what the fields say.
func TestEvents(t *testing.T) {
	t.Parallel()
	failed := happened("e5", "job.failed", &rotav1.Subject{Job: "j1", Worker: "w1"}, "it says no")
	failed.ExitCode, failed.Count = new(int64(3)), 7
	pass := happened("e4", "pass", &rotav1.Subject{}, "5 moves")
	for i := range int64(5) {
		pass.Moves = append(pass.Moves, &rotav1.Move{Task: fmt.Sprint("t", i), Index: i, To: "w2", Reason: "evens-load"})
	}
	pass.LeftOut = 10
	moved := happened("e3", "task.moved", &rotav1.Subject{Task: "a", Worker: "w2"}, "evens load")
	moved.From, moved.Who = "w1", "ada"
	h := &historian{page: 2, events: []*rotav1.Event{failed, pass, moved, happened("e2", "worker.joined", &rotav1.Subject{Worker: "w2"}, ""), happened("e1", "leader.elected", nil, "")}}
	env := h.start(t)
	code, out, errs := runRota(t, env, "", "events")
	if code != ExitDone || errs != "" {
		t.Fatalf("%d %s", code, errs)
	}
	at := -1
	for _, want := range []string{
		"leader.elected", "worker.joined", "worker w2", "task.moved", "task a on w2", "ada", "from w1; evens load", "pass", "5 moves", "task t0 ", "waiting -> w2: evens-load", "task t2#2", "and 12 more",
		"job.failed", "job j1 on w1", "it says no; exit status 3; 7 times",
	} {
		next := strings.Index(out, want)
		if next < at {
			t.Errorf("%q stands at %d, after what comes later, or nowhere:\n%s", want, next, out)
		}
		at = next
	}
	if strings.Contains(out, "task t3") {
		t.Error("more moves are told than three")
	}
	code, out, _ = runRota(t, env, "", "events", "--task", "a", "--since", "24h", "-n", "3", "-o", "jsonl")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); code != ExitDone || len(lines) != 3 || !strings.Contains(lines[0], `"e3"`) || !strings.Contains(lines[2], `"exit_code":3`) {
		t.Errorf("%d %s", code, out)
	}
	req := h.listed[len(h.listed)-1]
	if since, err := time.Parse(time.RFC3339, req.GetSince()); err != nil || req.GetTask() != "a" || time.Since(since) < 24*time.Hour || time.Since(since) > 25*time.Hour {
		t.Errorf("it was asked for %v, %v", req, err)
	}
	for _, args := range []string{"-n -1", "--since soon", "--until yesterday", "-f --until 1h", "-f -o json", "a"} {
		if code, _, errs := runRota(t, env, "", append([]string{"events"}, strings.Fields(args)...)...); code != ExitUsage || errs == "" {
			t.Errorf("%s: status %d, %s", args, code, errs)
		}
	}
}

// TestEventsByTime: schedulers write a moment after what they have seen, and what repeats
// later still; who reads finds all in the order of its times.
func TestEventsByTime(t *testing.T) {
	t.Parallel()
	at := func(id string, second int) *rotav1.Event {
		e := happened(id, "task.failed", &rotav1.Subject{Task: "a"}, "")
		e.Time = timestamppb.New(time.Date(2026, 1, 2, 15, 4, second, 0, time.UTC))
		return e
	}
	h := &historian{page: 2, events: []*rotav1.Event{at("e4", 3), at("e3", 1), at("e2", 2), at("e1", 1)}}
	code, out, errs := runRota(t, h.start(t), "", "events", "-o", "jsonl")
	var ids []string
	for _, m := range regexp.MustCompile(`"id":"(e\d)"`).FindAllStringSubmatch(out, -1) {
		ids = append(ids, m[1])
	}
	if code != ExitDone || strings.Join(ids, " ") != "e1 e3 e2 e4" {
		t.Errorf("%d %s: %v\n%s", code, errs, ids, out)
	}
}

// TestEventsFollow: who follows prints the last events and each that comes, once, goes on
// behind the last when a scheduler ends, says what was missed, and ends when it may not.
func TestEventsFollow(t *testing.T) {
	t.Parallel()
	news := func(id string) *rotav1.EventNews {
		return &rotav1.EventNews{Type: "event", Event: happened(id, "worker.joined", &rotav1.Subject{Worker: id}, "")}
	}
	h := &historian{
		page: 10, events: []*rotav1.Event{happened("e2", "worker.joined", &rotav1.Subject{Worker: "e2"}, ""), happened("e1", "worker.joined", &rotav1.Subject{Worker: "e1"}, "")},
		streams: [][]*rotav1.EventNews{
			{{Type: "synced"}, news("e3")},
			{},
			{{Type: "missed", Missed: 4}, {Type: "synced"}, news("e8"), {Type: "missed"}},
		},
	}
	code, out, errs := runRota(t, h.start(t), "", "events", "-f", "--kind", "worker", "-o", "jsonl")
	if code == ExitDone || !strings.Contains(errs, "no longer you") {
		t.Errorf("status %d, %s", code, errs)
	}
	var got []string
	for line := range strings.Lines(out) {
		_, id, _ := strings.Cut(line, `"id":"`)
		id, _, _ = strings.Cut(id, `"`)
		got = append(got, id)
	}
	if text := strings.Join(got, " "); text != "e1 e2 e3 e8" {
		t.Errorf("printed are %s", text)
	}
	if !strings.Contains(errs, "4 events were missed") || !strings.Contains(errs, "some events may be missing") {
		t.Errorf("it says %s", errs)
	}
	var after []string
	for _, r := range h.watched {
		after = append(after, r.GetAfter())
		if r.GetKind() != "worker" {
			t.Errorf("a watch asks for %v", r)
		}
	}
	if text := strings.Join(after, ","); text != "e2,e3,e3,e8" || len(h.listed) != 1 {
		t.Errorf("the watches begin after %s, and %d lists", text, len(h.listed))
	}
}
