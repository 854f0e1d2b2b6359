package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// pair are two schedulers of one cluster.
type pair struct {
	tasks [2]rotav1.TasksClient
	grpc  [2]string
	http  [2]string
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{}
	st := memory.New()
	t.Cleanup(st.Close)
	for n, name := range []string{"s1", "s2"} {
		g, h := listen(t), listen(t)
		s, err := server.Start(server.Config{Scheduler: scheduler.Config{Store: st, Name: name, Lease: time.Minute}, GRPC: g, HTTP: h})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Stop(context.Background()) })
		if err := s.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		conn := plain(t, g.Addr().String())
		p.grpc[n], p.http[n], p.tasks[n] = g.Addr().String(), h.Addr().String(), rotav1.NewTasksClient(conn)
	}
	return p
}

// plain is a connection without credentials.
func plain(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (p *pair) apply(t *testing.T, defs ...*rotav1.TaskDefinition) {
	t.Helper()
	if _, err := p.tasks[0].ApplyTasks(t.Context(), &rotav1.ApplyTasksRequest{Tasks: defs}); err != nil {
		t.Fatal(err)
	}
}

// read is all that a call answers, and its error. With want it ends as soon as that has
// come.
func read(ctx context.Context, c rotav1.TasksClient, r *rotav1.ReadTaskLogsRequest, want string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var b strings.Builder
	s, err := c.ReadTaskLogs(ctx, r)
	for err == nil {
		var m *rotav1.TaskLog
		if m, err = s.Recv(); err == nil {
			b.Write(m.GetData())
			if want != "" && strings.Contains(b.String(), want) {
				return b.String(), nil
			}
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b.String(), err
}

// await reads until a log has a text.
func await(t *testing.T, c rotav1.TasksClient, r *rotav1.ReadTaskLogsRequest, want string) string {
	t.Helper()
	for {
		got, err := read(t.Context(), c, r, "")
		if strings.Contains(got, want) {
			return got
		}
		if code := status.Code(err); err != nil && code != codes.FailedPrecondition && code != codes.Unavailable && code != codes.NotFound {
			t.Fatal(err)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatalf("no %q in %q", want, got)
		}
	}
}

// TestTaskLogs: what a task writes can be read of every scheduler, over gRPC and HTTP,
// whichever has the session of its worker; a failure comes with its last lines; readers
// that go hold no place.
func TestTaskLogs(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	fail := make(chan struct{})
	w, err := worker.New(worker.Config{Name: "w", Schedulers: p.grpc[:1]})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.HandleTask("", func(ctx context.Context, a worker.Assigned) error {
		a.Logger().Info("hello", "from", a.ID(), "took", 1500*time.Millisecond)
		_, _ = io.WriteString(a.Stderr(), "cannot go on: é\n")
		select {
		case <-ctx.Done():
			return nil
		case <-fail:
			return errors.New("it failed")
		}
	}); err != nil {
		t.Fatal(err)
	}
	w.Start()
	t.Cleanup(func() { _ = w.Stop(context.Background()) })
	const id = "a/b" // a slash in the path of the API
	p.apply(t, &rotav1.TaskDefinition{Id: id})
	for n, c := range p.tasks {
		if got := await(t, c, &rotav1.ReadTaskLogsRequest{Id: id}, "cannot go on: é\n"); !strings.Contains(got, "msg=hello from=a/b took=1.5s\n") {
			t.Errorf("of scheduler %d: %q", n+1, got)
		}
	}
	// Over HTTP a line is a piece; the first says where the log is.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.http[1]+"/v1/tasks/"+url.PathEscape(id)+"/logs?follow=true&tail=1", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	lines := bufio.NewScanner(res.Body)
	var at struct {
		Worker, Log, Stream string
		Data                []byte
	}
	for n, want := range []string{"", "cannot go on: é\n"} {
		if !lines.Scan() {
			t.Fatal(lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &at); err != nil || at.Worker != "w" || at.Log == "" || string(at.Data) != want {
			t.Errorf("line %d: %s, %v", n, lines.Text(), err)
		}
	}
	// Who follows hears of the next run; what failed is told with its last lines.
	fail <- struct{}{}
	if !lines.Scan() || !strings.Contains(lines.Text(), `"run":1,"stream":"log"`) {
		t.Errorf("the next run: %s, %v", lines.Text(), lines.Err())
	}
	if got := await(t, p.tasks[1], &rotav1.ReadTaskLogsRequest{Id: id, Previous: true}, "hello"); strings.Count(got, "hello") != 1 {
		t.Errorf("previous: %q", got)
	}
	d, err := p.tasks[0].GetTask(t.Context(), &rotav1.GetTaskRequest{Id: id})
	for err == nil && d.GetInstances()[0].GetError() == "" {
		d, err = p.tasks[0].GetTask(t.Context(), &rotav1.GetTaskRequest{Id: id})
	}
	if got := d.GetInstances()[0].GetError(); err != nil || got != "it failed; last output: cannot go on: é" {
		t.Errorf("its error: %q, %v", got, err)
	}
	_ = res.Body.Close()
	// A hundred read at once, and no more; who goes makes room, although nothing comes.
	ctx, cancel := context.WithCancel(t.Context())
	for range 100 {
		s, err := p.tasks[0].ReadTaskLogs(ctx, &rotav1.ReadTaskLogsRequest{Id: id, Follow: true})
		if err == nil {
			_, err = s.Recv()
		}
		if err != nil && status.Code(err) != codes.ResourceExhausted { // the one over HTTP may not have gone yet
			t.Fatal(err)
		}
	}
	if _, err := read(t.Context(), p.tasks[1], &rotav1.ReadTaskLogsRequest{Id: id, Follow: true}, "hello"); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one too many: %v", err)
	}
	cancel()
	for {
		_, err := read(t.Context(), p.tasks[1], &rotav1.ReadTaskLogsRequest{Id: id}, "hello")
		if err == nil {
			break
		}
		if status.Code(err) != codes.ResourceExhausted {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestNoTaskLogs: each reason why there is no log has an error of its own.
func TestNoTaskLogs(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	// A worker of a version that keeps no logs.
	s, err := rotav1.NewSessionsClient(plain(t, p.grpc[0])).Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Hello{Hello: &rotav1.Hello{
		Info: &rotav1.WorkerInfo{Name: "old", Incarnation: "i", AnyKind: true, Version: "v0.1"}, Seq: 1,
	}}}); err != nil {
		t.Fatal(err)
	}
	p.apply(t, &rotav1.TaskDefinition{Id: "old", Pinned: "old"}, &rotav1.TaskDefinition{Id: "waits", Pinned: "nobody"}, &rotav1.TaskDefinition{Id: "three", Replicas: 3, Pinned: "nobody"})
	for granted := false; !granted; {
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		granted = len(m.GetGrants().GetGrant()) > 0
	}
	one, four, below := int64(1), int64(4), int64(-1)
	for name, c := range map[string]struct {
		req  *rotav1.ReadTaskLogsRequest
		code codes.Code
		text string
	}{
		"no such task":      {&rotav1.ReadTaskLogsRequest{Id: "x"}, codes.NotFound, `task "x"`},
		"no id":             {&rotav1.ReadTaskLogsRequest{}, codes.NotFound, `task ""`},
		"not placed":        {&rotav1.ReadTaskLogsRequest{Id: "waits"}, codes.FailedPrecondition, "on no worker now"},
		"which instance":    {&rotav1.ReadTaskLogsRequest{Id: "three"}, codes.InvalidArgument, "index: task three has 3 instances; want one of 0 to 2"},
		"no such instance":  {&rotav1.ReadTaskLogsRequest{Id: "three", Index: &four}, codes.InvalidArgument, "index: 4"},
		"negative instance": {&rotav1.ReadTaskLogsRequest{Id: "three", Index: &below}, codes.InvalidArgument, "index: -1"},
		"instance waits":    {&rotav1.ReadTaskLogsRequest{Id: "three", Index: &one}, codes.FailedPrecondition, "three#1 is on no worker"},
		"no such worker":    {&rotav1.ReadTaskLogsRequest{Id: "waits", Worker: "nobody"}, codes.NotFound, `worker "nobody"`},
		"older worker":      {&rotav1.ReadTaskLogsRequest{Id: "old"}, codes.Unimplemented, "worker old has version v0.1, which keeps no task logs"},
		"negative tail":     {&rotav1.ReadTaskLogsRequest{Id: "old", Tail: &below}, codes.InvalidArgument, "tail: -1"},
		"negative offset":   {&rotav1.ReadTaskLogsRequest{Id: "old", Offset: -1}, codes.InvalidArgument, "offset: -1"},
		"offset of nothing": {&rotav1.ReadTaskLogsRequest{Id: "old", Offset: 1}, codes.InvalidArgument, "log: "},
		"both":              {&rotav1.ReadTaskLogsRequest{Id: "old", Previous: true, Follow: true}, codes.InvalidArgument, "follow: "},
		"long and hostile":  {&rotav1.ReadTaskLogsRequest{Id: strings.Repeat("\x1b", 1000)}, codes.NotFound, "not found"},
	} {
		for n, client := range p.tasks {
			_, err := read(t.Context(), client, c.req, "")
			// The other scheduler hears of it a moment later.
			for n == 1 && err != nil && status.Code(err) != c.code && t.Context().Err() == nil {
				_, err = read(t.Context(), client, c.req, "")
			}
			if status.Code(err) != c.code || !strings.Contains(err.Error(), c.text) || len(err.Error()) > 5000 {
				t.Errorf("%s, of scheduler %d: %v, want %s with %q", name, n+1, err, c.code, c.text)
			}
		}
	}
}

// TestTaskLogsOfOneAway: a worker whose connection is cut is away; its log is there again
// when it is.
func TestTaskLogsOfOneAway(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	s, err := rotav1.NewSessionsClient(plain(t, p.grpc[0])).Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Hello{Hello: &rotav1.Hello{
		Info: &rotav1.WorkerInfo{Name: "w", Incarnation: "i", AnyKind: true, Logs: true}, Seq: 1,
	}}}); err != nil {
		t.Fatal(err)
	}
	p.apply(t, &rotav1.TaskDefinition{Id: "a", Pinned: "w"})
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for {
			m, err := s.Recv()
			if err != nil || m.GetRead() != nil {
				return
			}
		}
	}()
	got := make(chan error, 1)
	go func() {
		for {
			_, err := read(t.Context(), p.tasks[1], &rotav1.ReadTaskLogsRequest{Id: "a"}, "")
			if status.Code(err) != codes.FailedPrecondition && status.Code(err) != codes.NotFound { // it is not granted yet, or not known
				got <- err
				return
			}
		}
	}()
	<-asked
	if err := s.CloseSend(); err != nil { // it goes without an answer
		t.Fatal(err)
	}
	if err := <-got; status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
}

// writing are two schedulers of a closed cluster, the first of which has the session of worker
// w, whose certificate is src. It has the task t, which writes hello.
func writing(t *testing.T) (one, two *closed, src *pki.Source) {
	t.Helper()
	st := memory.New()
	t.Cleanup(st.Close)
	one = newClosed(t, server.Config{Scheduler: scheduler.Config{Store: st, Name: "one", Lease: time.Minute}})
	two = one.beside(t, server.Config{Scheduler: scheduler.Config{Store: st, Name: "two", Lease: time.Minute}})
	src = one.source(t, pki.Request{Role: pki.Worker, Name: "w"})
	w, err := worker.New(worker.Config{Name: "w", Schedulers: []string{one.grpc}, DialTLS: func() *tls.Config { return src.Client("", "h2") }})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.HandleTask("", func(ctx context.Context, a worker.Assigned) error {
		_, _ = io.WriteString(a.Stdout(), "hello\n")
		<-ctx.Done()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.Start()
	t.Cleanup(func() { _ = w.Stop(context.Background()) })
	admin := metadata.AppendToOutgoingContext(t.Context(), "authorization", bearer(two.secrets[auth.Admin]))
	if _, err := rotav1.NewTasksClient(two.dial(t, two.source(t, pki.Request{}).Credentials(""))).ApplyTasks(admin, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "t"}}}); err != nil {
		t.Fatal(err)
	}
	return one, two, src
}

// TestTaskLogsOfWhoSignedIn: what a worker keeps at another scheduler is read by people
// with a session or a client certificate, too, for whom the scheduler that let them in
// stands; and by nobody whom it does not let in.
func TestTaskLogsOfWhoSignedIn(t *testing.T) {
	t.Parallel()
	one, two, src := writing(t)
	plain := two.source(t, pki.Request{})
	alice := two.source(t, pki.Request{Role: pki.Client, Name: "alice"})
	await(t, rotav1.NewTasksClient(two.dial(t, alice.Credentials(""))), &rotav1.ReadTaskLogsRequest{Id: "t"}, "hello\n")
	b := two.browser(t, plain.Client(""))
	b.signIn("Authorization", bearer(two.secrets[auth.Viewer]))
	if resp, text := b.send(http.MethodGet, "/v1/tasks/t/logs"); resp.StatusCode != http.StatusOK || !strings.Contains(text, `"data":"aGVsbG8K"`) {
		t.Errorf("with a session: %d %s", resp.StatusCode, text)
	}
	bob := two.source(t, pki.Request{Role: pki.Client, Name: "bob"})
	for name, s := range map[string]*pki.Source{"a worker": src, "a client without a role": bob, "nobody": plain} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "rota-forwarded", "1")
		if got, err := read(ctx, rotav1.NewTasksClient(one.dial(t, s.Credentials(""))), &rotav1.ReadTaskLogsRequest{Id: "t"}, ""); err == nil || got != "" {
			t.Errorf("%s, as if passed on: %q", name, got)
		}
	}
}

// TestReadersOfOne: one caller who reads a worker's logs again and again leaves room for others,
// also at another scheduler than the worker's.
func TestReadersOfOne(t *testing.T) {
	t.Parallel()
	_, two, _ := writing(t)
	plain := two.source(t, pki.Request{})
	as := func(ctx context.Context, r auth.Role) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "authorization", bearer(two.secrets[r]))
	}
	tasks := rotav1.NewTasksClient(two.dial(t, plain.Credentials("")))
	alice := two.source(t, pki.Request{Role: pki.Client, Name: "alice"})
	await(t, rotav1.NewTasksClient(two.dial(t, alice.Credentials(""))), &rotav1.ReadTaskLogsRequest{Id: "t"}, "hello\n")
	ctx, cancel := context.WithCancel(as(t.Context(), auth.Viewer))
	defer cancel()
	follow := func() error {
		in, err := tasks.ReadTaskLogs(ctx, &rotav1.ReadTaskLogsRequest{Id: "t", Follow: true})
		if err == nil {
			_, err = in.Recv()
		}
		return err
	}
	served, err := 0, error(nil)
	for status.Code(err) != codes.ResourceExhausted {
		if err = follow(); err == nil {
			served++
		}
		if served > 100 || t.Context().Err() != nil {
			t.Fatalf("one viewer is sent %d logs: %v", served, err)
		}
	}
	if served == 0 || !strings.Contains(err.Error(), "end one of those") {
		t.Errorf("after %d: %v", served, err)
	}
	if got, err := read(as(t.Context(), auth.Admin), tasks, &rotav1.ReadTaskLogsRequest{Id: "t"}, ""); err != nil || got != "hello\n" {
		t.Errorf("another caller is sent %q, %v", got, err)
	}
	cancel()
	ctx = as(t.Context(), auth.Viewer)
	for follow() != nil { // the places of those that have ended
		if t.Context().Err() != nil {
			t.Fatal("no place becomes free")
		}
		time.Sleep(10 * time.Millisecond)
	}
}
