package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/job/runner"
	"github.com/rota-project/rota/internal/program/link"
	"github.com/rota-project/rota/internal/worker/agent"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/worker"
)

// left is how long a certificate that ends in a test is good: longer than what is
// opened with it takes, on a loaded machine too.
const left = 8 * time.Second

// ending issues a worker's certificate that ends soon.
func (c *closed) ending(t *testing.T, name string) (cert pki.Certificate, src *pki.Source) {
	t.Helper()
	cert, err := pki.Issue(c.dir, pki.Request{Role: pki.Worker, Name: name, Life: time.Minute}, time.Now().Add(left-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	src, err = pki.Load(pki.Files{CA: filepath.Join(c.dir, pki.CAFile), Cert: cert.File, Key: cert.Key})
	if err != nil {
		t.Fatal(err)
	}
	return cert, src
}

func dialTLS(ctx context.Context, conf *tls.Config, addr string) (net.Conn, error) {
	return (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", addr)
}

// linked connects a node for the messages of programs; the channel says how that ended.
func (c *closed) linked(t *testing.T, conf *tls.Config, bearer string) <-chan error {
	t.Helper()
	k, err := dialTLS(t.Context(), conf, c.grpc)
	if err != nil {
		t.Fatal(err)
	}
	node, ended := link.NewNode(link.NodeConfig{Credentials: []byte(bearer)}), make(chan error, 1)
	go func() { ended <- node.Serve(t.Context(), k) }()
	for !node.Connected() {
		select {
		case err := <-ended:
			t.Fatalf("link: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	return ended
}

// TestCertificatesEnd: whatever is open by a certificate is closed when that ends
// or is revoked, by its serial number or its name, and nothing is opened by it
// again; a certificate that was issued later under the same name is good.
func TestCertificatesEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, list string, cert pki.Certificate){
		"expired": func(*testing.T, string, pki.Certificate) {},
		"serial": func(t *testing.T, list string, cert pki.Certificate) {
			revoke(t, list, pki.Revocation{Serial: cert.Serial})
		},
		"name": func(t *testing.T, list string, _ pki.Certificate) {
			revoke(t, list, pki.Revocation{Role: pki.Worker, Name: "w"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A lease that does not end before, for the worker here says nothing more.
			c := newClosed(t, server.Config{Scheduler: scheduler.Config{Lease: time.Hour}})
			cert, src := c.ending(t, "w")
			if name != "expired" {
				var err error
				if cert, err = pki.Issue(c.dir, pki.Request{Role: pki.Worker, Name: "w"}, time.Now()); err != nil {
					t.Fatal(err)
				}
				if src, err = pki.Load(pki.Files{CA: filepath.Join(c.dir, pki.CAFile), Cert: cert.File, Key: cert.Key}); err != nil {
					t.Fatal(err)
				}
			}
			conn := c.dial(t, src.Credentials(""))
			session, err := rotav1.NewSessionsClient(conn).Connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := session.Send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Hello{Hello: &rotav1.Hello{Info: &rotav1.WorkerInfo{Name: "w", Incarnation: "i"}}}}); err != nil {
				t.Fatal(err)
			}
			if m, err := session.Recv(); err != nil || m.GetWelcome() == nil {
				t.Fatal(m, err)
			}
			jobs, err := rotav1.NewJobWorkClient(conn).Connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := jobs.Send(&rotav1.FromJobWorker{Body: &rotav1.FromJobWorker_Hello{Hello: &rotav1.JobHello{Name: "w", Incarnation: "i", Any: true, Slots: 1}}}); err != nil {
				t.Fatal(err)
			}
			output, err := rotav1.NewJobWorkClient(conn).PushOutput(t.Context()) // says nothing
			if err != nil {
				t.Fatal(err)
			}
			linked := c.linked(t, src.Client("", "h2"), "")

			end(t, filepath.Join(c.dir, pki.RevokedFile), cert)
			for err = nil; err == nil; {
				_, err = session.Recv()
			}
			if code := status.Code(err); code != codes.Unavailable && code != codes.Unauthenticated {
				t.Errorf("the session ends with %v", err)
			}
			for err = nil; err == nil; {
				_, err = jobs.Recv()
			}
			if _, err := output.CloseAndRecv(); err == nil {
				t.Error("output is taken")
			}
			if err := <-linked; errors.Is(err, link.ErrRefused) {
				t.Errorf("the link ends with %v", err)
			}
			if _, err := rotav1.NewSessionsClient(c.dial(t, src.Credentials(""))).ReportExit(t.Context(), &rotav1.ReportExitRequest{Name: "w", Incarnation: "x"}); err == nil {
				t.Error("a new connection is taken")
			}
			// The one that takes its place.
			again, err := pki.Issue(c.dir, pki.Request{Role: pki.Worker, Name: "w"}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			src, err = pki.Load(pki.Files{CA: filepath.Join(c.dir, pki.CAFile), Cert: again.File, Key: again.Key})
			if err != nil {
				t.Fatal(err)
			}
			_, err = rotav1.NewSessionsClient(c.dial(t, src.Credentials(""))).ReportExit(t.Context(), &rotav1.ReportExitRequest{Name: "w", Incarnation: "x"})
			if err != nil {
				t.Errorf("with a certificate that was issued later: %v", err)
			}
		})
	}
}

func revoke(t *testing.T, list string, e pki.Revocation) {
	t.Helper()
	if _, err := pki.Revoke(list, e, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// TestRenewedWithoutGap: a worker whose certificate was renewed in time goes on over
// the end of the old one: its task is never stopped.
func TestRenewedWithoutGap(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	_, src := c.ending(t, "w")
	var dials, starts atomic.Int32
	dialled, running, stopped := make(chan struct{}, 100), make(chan struct{}, 10), make(chan struct{}, 10)
	w, err := worker.New(worker.Config{Name: "w", Schedulers: []string{c.grpc}, DialTLS: func() *tls.Config {
		dials.Add(1)
		dialled <- struct{}{}
		return src.Client("", "h2")
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.HandleTask("k", func(ctx context.Context, _ worker.Assigned) error {
		starts.Add(1)
		running <- struct{}{}
		<-ctx.Done()
		stopped <- struct{}{}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.Start()
	t.Cleanup(func() { _ = w.Stop(context.Background()) })
	operator := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.secrets[auth.Operator].Reveal())
	conn := c.dial(t, c.source(t, pki.Request{}).Credentials(""))
	if _, err := rotav1.NewTasksClient(conn).ApplyTasks(operator, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "t", Kind: "k"}}}); err != nil {
		t.Fatal(err)
	}
	<-running
	if _, err := pki.Issue(c.dir, pki.Request{Role: pki.Worker, Name: "w"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	for n := dials.Load(); dials.Load() == n; <-dialled { // the old one has ended
	}
	// It has its session again, and what it held all the time.
	for state := ""; state != "running"; {
		d, err := rotav1.NewTasksClient(conn).GetTask(operator, &rotav1.GetTaskRequest{Id: "t"})
		if err != nil {
			t.Fatal(err)
		}
		state = d.GetInstances()[0].GetState()
	}
	select {
	case <-stopped:
		t.Error("its task was stopped")
	default:
	}
	if n := starts.Load(); n != 1 {
		t.Errorf("its task was started %d times", n)
	}
}

// TestWorkerEndsWithItsCertificate: a worker whose certificate has ended is ready no
// more, and what it runs stops, when the lease ends that it cannot renew; but for what
// is to be available, which goes on until its process ends.
func TestWorkerEndsWithItsCertificate(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	cert, src := c.ending(t, "w")
	w, err := worker.New(worker.Config{Name: "w", Schedulers: []string{c.grpc}, DialTLS: func() *tls.Config { return src.Client("", "h2") }})
	if err != nil {
		t.Fatal(err)
	}
	var run, available atomic.Int64 // instances of each kind
	for kind, n := range map[string]*atomic.Int64{"k": &run, "v": &available} {
		if err := w.HandleTask(kind, func(ctx context.Context, _ worker.Assigned) error {
			n.Add(1)
			defer n.Add(-1)
			<-ctx.Done()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	w.Start()
	t.Cleanup(func() { _ = w.Stop(context.Background()) })
	operator := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.secrets[auth.Operator].Reveal())
	conn := c.dial(t, c.source(t, pki.Request{}).Credentials(""))
	if _, err := rotav1.NewTasksClient(conn).ApplyTasks(operator, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "t", Kind: "k"}, {Id: "v", Kind: "v", Mode: "available"}}}); err != nil {
		t.Fatal(err)
	}
	ready := func() bool {
		rec := httptest.NewRecorder()
		w.ReadyHandler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		return rec.Code == http.StatusOK
	}
	for run.Load() != 1 || available.Load() != 1 {
		time.Sleep(time.Millisecond)
	}
	// A slow machine may lose the lease before, and win it back.
	time.Sleep(time.Until(cert.Expires))
	for run.Load() != 0 || ready() {
		time.Sleep(time.Millisecond)
	}
	// The cluster finds its lease ended a little later.
	v, gone := c.Scheduler().View(), make(chan struct{}, 1)
	look := func() {
		if len(v.Sessions) == 0 {
			select {
			case gone <- struct{}{}:
			default:
			}
		}
	}
	sub := v.Subscribe(look, func(*view.Delta) { look() })
	defer sub.Close()
	<-gone
	if run.Load() != 0 || available.Load() != 1 {
		t.Errorf("%d run that need a lease, and %d of 1 that are to be available", run.Load(), available.Load())
	}
}

// TestBearersEnd: what is open by a token is closed when that is revoked or its
// time is over, whether or not anything is said meanwhile.
func TestBearersEnd(t *testing.T) {
	t.Parallel()
	for name, revoked := range map[string]bool{"revoked": true, "expired": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClosed(t, server.Config{})
			conf := c.source(t, pki.Request{}).Client("", "h2")
			tok := auth.Token{Name: "short", Role: auth.Submitter}
			if !revoked {
				tok.Expires = time.Now().Add(left)
			}
			tok, secret, err := auth.NewToken(tok, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			c.tokens.Update([]auth.Token{tok}, nil)
			bearer := "Bearer " + secret.Reveal()
			conn := c.dial(t, c.source(t, pki.Request{}).Credentials(""))
			ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", bearer)

			ends := map[string]func() error{}
			watch, err := rotav1.NewTasksClient(conn).WatchTasks(ctx, &rotav1.WatchTasksRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := watch.Recv(); err != nil { // it is synced, and hears nothing more
				t.Fatal(err)
			}
			ends["watch"] = func() error { _, err := watch.Recv(); return err }
			attached, err := rotav1.NewProgramsClient(conn).AttachProgram(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := attached.Send(&rotav1.FromProgram{Body: &rotav1.FromProgram_Hello{Hello: &rotav1.ProgramHello{Name: "p", Run: "r"}}}); err != nil {
				t.Fatal(err)
			}
			if _, err := attached.Recv(); err != nil {
				t.Fatal(err)
			}
			ends["program"] = func() (err error) {
				for err == nil {
					_, err = attached.Recv()
				}
				return err
			}
			silent, err := rotav1.NewProgramsClient(conn).AttachProgram(ctx) // says nothing at all
			if err != nil {
				t.Fatal(err)
			}
			ends["silent program"] = func() error { _, err := silent.Recv(); return err }
			linked := c.linked(t, conf, secret.Reveal())

			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.http+"/v1/tasks:watch", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", bearer)
			resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: c.source(t, pki.Request{}).Client(""), DisableKeepAlives: true}}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			if resp.StatusCode != http.StatusOK {
				t.Fatal(resp.Status)
			}

			follow := c.followed(t, bearer) // over the old calls

			if revoked {
				tok.Revoked = time.Now()
				c.tokens.Update([]auth.Token{tok}, nil)
			}
			for what, end := range ends {
				if err := end(); status.Code(err) != codes.Unauthenticated {
					t.Errorf("%s ends with %v", what, err)
				}
			}
			if err := <-linked; errors.Is(err, link.ErrRefused) {
				t.Errorf("the link ends with %v", err)
			}
			if text, err := io.ReadAll(resp.Body); err == nil && !strings.Contains(string(text), "credentials") {
				t.Errorf("the watch over HTTP ends with %q", text)
			}
			if err := <-follow; err == nil {
				t.Error("the output over the old calls ends as if it were whole")
			}
			if _, err := rotav1.NewTasksClient(conn).ListTasks(ctx, &rotav1.ListTasksRequest{}); status.Code(err) != codes.Unauthenticated {
				t.Errorf("a call afterwards: %v", err)
			}
		})
	}
}

// followed has a worker run a job without an end and follows its output over the
// old calls; the channel says how that ended.
func (c *closed) followed(t *testing.T, bearer string) <-chan error {
	t.Helper()
	c.runs(t, "runs", c.source(t, pki.Request{Role: pki.Worker, Name: "runs"}))
	conn := c.dial(t, c.source(t, pki.Request{}).Credentials(""))
	asked := metadata.AppendToOutgoingContext(t.Context(), "authorization", bearer)
	j, err := rotav1.NewJobsClient(conn).RunJob(asked, &rotav1.RunJobRequest{Job: &rotav1.JobDefinition{Argv: []string{"sh", "-c", "echo begun; exec sleep 1000"}}})
	if err != nil {
		t.Fatal(err)
	}
	watch, err := rotav1.NewJobsClient(conn).WatchJobs(asked, &rotav1.WatchJobsRequest{Id: j.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	for state := ""; state != "running"; {
		ev, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		state = ev.GetJob().GetState()
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.http+"/stream?worker_id=runs&job_id="+j.GetId(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", bearer)
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: c.source(t, pki.Request{}).Client(""), DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	followed := make(chan error, 1)
	go func() {
		defer func() { _ = resp.Body.Close() }()
		_, err := io.Copy(io.Discard, resp.Body)
		followed <- err
	}()
	return followed
}

// runs adds a worker of jobs, as the binary has them.
func (c *closed) runs(t *testing.T, name string, src *pki.Source) *agent.Agent {
	t.Helper()
	var a *agent.Agent
	w, err := worker.New(worker.Config{
		Name: name, Schedulers: []string{c.grpc}, DialTLS: func() *tls.Config { return src.Client("", "h2") },
		LeaseEnded: func() { a.Fence() },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.HandleTask("none", func(context.Context, worker.Assigned) error { return nil }); err != nil {
		t.Fatal(err)
	}
	a, err = agent.New(agent.Config{
		Name: name, Incarnation: w.Incarnation(), Runner: runner.Config{Dir: t.TempDir(), Allow: runner.Allow{Any: true}}, Leased: w.LeasedFor, Session: w.Session,
		Connect: func(context.Context) (*grpc.ClientConn, error) {
			return grpc.NewClient(c.grpc, grpc.WithTransportCredentials(src.Credentials("")))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.Run(ctx, time.Second)
	}()
	w.Start()
	t.Cleanup(func() {
		cancel()
		<-ended
		_ = w.Stop(context.Background())
	})
	return a
}

// TestJobsWhenTheCertificateEnds: when the certificate of a worker ends or is revoked, its
// jobs are lost to the cluster when its lease ends. One that is to run again does so
// elsewhere, and has ended before on the worker; one that is not goes on there until its
// end, of which the cluster hears nothing.
func TestJobsWhenTheCertificateEnds(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"expired", "revoked"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			c := newClosed(t, server.Config{})
			life := time.Hour
			if how == "expired" {
				life = 2 * left
			}
			cert, err := pki.Issue(c.dir, pki.Request{Role: pki.Worker, Name: "w", Life: 2 * time.Hour}, time.Now().Add(life-2*time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			src, err := pki.Load(pki.Files{CA: filepath.Join(c.dir, pki.CAFile), Cert: cert.File, Key: cert.Key})
			if err != nil {
				t.Fatal(err)
			}
			w := c.runs(t, "w", src)
			conn := c.dial(t, c.source(t, pki.Request{}).Credentials(""))
			asked := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.secrets[auth.Submitter].Reveal())
			jobs := rotav1.NewJobsClient(conn)
			await := func(id, state, worker string) *rotav1.Job {
				t.Helper()
				watch, err := jobs.WatchJobs(asked, &rotav1.WatchJobsRequest{Id: id})
				if err != nil {
					t.Fatal(err)
				}
				for {
					ev, err := watch.Recv()
					if err != nil {
						t.Fatal(err)
					}
					if j := ev.GetJob(); j.GetState() == state && j.GetWorker() == worker {
						return j
					}
				}
			}
			ids := map[bool]string{}
			for _, rerun := range []bool{true, false} {
				j, err := jobs.RunJob(asked, &rotav1.RunJobRequest{Job: &rotav1.JobDefinition{Argv: []string{"sleep", "1000"}, Rerun: rerun}})
				if err != nil {
					t.Fatal(err)
				}
				ids[rerun] = j.GetId()
			}
			first := map[bool]rota.Generation{}
			for rerun, id := range ids {
				first[rerun] = rota.Generation(await(id, "running", "w").GetGeneration())
			}
			c.runs(t, "v", c.source(t, pki.Request{Role: pki.Worker, Name: "v"}))
			if how == "revoked" {
				revoke(t, filepath.Join(c.dir, pki.RevokedFile), pki.Revocation{Role: pki.Worker, Name: "w"})
			}
			if g := await(ids[true], "running", "v").GetGeneration(); rota.Generation(g) <= first[true] {
				t.Errorf("generation %d after %d", g, first[true])
			}
			if st, ok := w.Runner().Status(ids[true], first[true]); ok && !st.State.Done() {
				t.Errorf("it runs elsewhere, and is %s where it was", st.State)
			}
			await(ids[false], "lost", "w")
			if st, _ := w.Runner().Status(ids[false], first[false]); st.State != job.Running {
				t.Errorf("one that is not to run again is %q on the worker", st.State)
			}
		})
	}
}

// TestServerRevoked: a client leaves a scheduler whose certificate is revoked, and
// connects to it no more.
func TestServerRevoked(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.secrets[auth.Viewer].Reveal())
	own := list(t)
	src, err := pki.Load(pki.Files{CA: filepath.Join(c.dir, pki.CAFile), Revoked: own})
	if err != nil {
		t.Fatal(err)
	}
	conn := c.dial(t, src.Credentials(""), grpc.WithDefaultCallOptions(grpc.WaitForReady(false)))
	watch, err := rotav1.NewTasksClient(conn).WatchTasks(ctx, &rotav1.WatchTasksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	k, err := (&tls.Dialer{Config: src.Client("", "h2")}).DialContext(t.Context(), "tcp", c.grpc)
	if err != nil {
		t.Fatal(err)
	}
	plain, ok := k.(*tls.Conn)
	if !ok {
		t.Fatalf("%T", k)
	}
	watched := pki.Watch(plain, src.Client("", "h2"))
	revoke(t, own, pki.Revocation{Role: pki.Scheduler, Name: "s"})
	if _, err := watch.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the watch ends with %v", err)
	}
	_, _ = io.Copy(io.Discard, watched)
	if _, err := watched.Write([]byte{0}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection was not closed here: %v", err)
	}
	if _, err := rotav1.NewTasksClient(conn).ListTasks(ctx, &rotav1.ListTasksRequest{}); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("a call afterwards: %v", err)
	}
}

// list makes an empty list of revoked certificates.
func list(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), pki.RevokedFile)
	revoke(t, path, pki.Revocation{Serial: "0"})
	return path
}
