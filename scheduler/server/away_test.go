package server_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/internal/api/convert"
	jobschedulerv1 "github.com/rota-project/rota/internal/compat/jobscheduler/v1"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/internal/uuid"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// shaky is a store that can be away, or lose the answers to its transactions.
type shaky struct {
	*faulty.Store
	lose atomic.Bool
}

func newShaky(t *testing.T) *shaky {
	t.Helper()
	under := memory.New()
	s := &shaky{}
	s.Store = faulty.New(under, func(c faulty.Call) faulty.Fault {
		fence := strings.Contains(c.Key, "fences/") // before a write, of which nothing was done then
		return faulty.Fault{Lose: c.Kind == faulty.Txn && !fence && s.lose.Load()}
	})
	t.Cleanup(func() {
		s.Close()
		under.Close()
	})
	return s
}

// led has another scheduler lead, which does nothing and clears nothing up.
func led(t *testing.T, st store.Store) {
	t.Helper()
	lease, _, err := st.Grant(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	value, err := record.Encode(&storepb.Leader{Version: record.Version, Name: "another"})
	if err == nil {
		_, _, err = st.Txn(t.Context(), nil, []store.Op{{Key: store.LeaderKey, Value: value, Lease: lease}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// put writes a record as a scheduler would.
func put(t *testing.T, st store.Store, key string, m proto.Message) {
	t.Helper()
	value, err := record.Encode(m)
	if err == nil {
		_, _, err = st.Txn(t.Context(), nil, []store.Op{{Key: key, Value: value}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestStoreAway calls each method of the API while the store is away, and while its
// answers are lost. What needs the store says in plain words that it is away, and
// whether something may have been done.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	st := newShaky(t)
	led(t, st)
	put(t, st, store.NodeKey("w"), &storepb.Node{Version: record.Version, Name: "w", LostUnixMs: time.Now().UnixMilli()})
	put(t, st, store.SuspectsKey, &storepb.Suspects{Version: record.Version, Suspects: []*storepb.Suspect{{Task: "kept", State: "held", SinceUnixMs: 1, Deaths: 3}}})
	put(t, st, store.SourceKey("src"), &storepb.Source{Version: record.Version, Name: "src", Held: 1, HeldRemoves: 1, HeldOf: 1, HeldSinceUnixMs: 1})
	put(t, st, store.PoolKey("p"), &storepb.Pool{Version: record.Version, Name: "p", Engine: engine.Local, From: 1, To: 1, Template: &storepb.PoolTemplate{Command: []string{"x"}}})
	put(t, st, store.JobScheduleKey("j"), &storepb.JobSchedule{Version: record.Version, Name: "j", Cron: "@yearly", Job: &storepb.JobSpec{Argv: []string{"x"}}})
	g := listen(t)
	s, err := server.Start(server.Config{
		Scheduler: scheduler.Config{Store: st, Name: "s"}, GRPC: g, HTTP: listen(t),
		Pools: server.Pools{Engines: map[string]engine.Engine{engine.Local: &orders{came: make(chan engine.Order, 100)}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop(context.Background()) }()
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+g.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := rotav1.NewTasksClient(conn).ApplyTasks(t.Context(), &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "kept"}}}); err != nil {
		t.Fatal(err)
	}
	queued, err := rotav1.NewJobsClient(conn).RunJob(t.Context(), &rotav1.RunJobRequest{Job: &rotav1.JobDefinition{Argv: []string{"x"}}})
	if err != nil {
		t.Fatal(err)
	}
	nobodys := uuid.New(time.Now())
	hello := &rotav1.ProgramHello{Name: "p", Run: "r"}
	// What brings each method to the store. Methods that answer from the picture, or
	// refuse by it, need not be here.
	needs := map[string]proto.Message{
		rotav1.Tasks_ApplyTasks_FullMethodName:       &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "new"}}},
		rotav1.Tasks_DeleteTasks_FullMethodName:      &rotav1.DeleteTasksRequest{Ids: []string{"kept"}},
		rotav1.Tasks_ReleaseTask_FullMethodName:      &rotav1.ReleaseTaskRequest{Id: "kept"},
		rotav1.Workers_CordonWorker_FullMethodName:   &rotav1.WorkerRequest{Name: "w"},
		rotav1.Workers_DrainWorker_FullMethodName:    &rotav1.WorkerRequest{Name: "w"},
		rotav1.Workers_UndrainWorker_FullMethodName:  &rotav1.WorkerRequest{Name: "w"},
		rotav1.Workers_ForgetWorker_FullMethodName:   &rotav1.WorkerRequest{Name: "w"},
		rotav1.Cluster_NotifySchedule_FullMethodName: &rotav1.NotifyScheduleRequest{},
		rotav1.Cluster_ConfirmList_FullMethodName:    &rotav1.ConfirmListRequest{},
		rotav1.Jobs_RunJob_FullMethodName:            &rotav1.RunJobRequest{Job: &rotav1.JobDefinition{Argv: []string{"y"}}},
		rotav1.Jobs_StopJob_FullMethodName:           &rotav1.StopJobRequest{Id: queued.GetId()},
		rotav1.Jobs_RetryJob_FullMethodName:          &rotav1.RetryJobRequest{Id: nobodys},
		rotav1.Jobs_DeleteJob_FullMethodName:         &rotav1.DeleteJobRequest{Id: nobodys},
		rotav1.Jobs_GetJob_FullMethodName:            &rotav1.GetJobRequest{Id: nobodys},
		rotav1.Jobs_WatchJobs_FullMethodName:         &rotav1.WatchJobsRequest{Id: nobodys},
		rotav1.Jobs_ReadOutput_FullMethodName:        &rotav1.ReadOutputRequest{Id: nobodys},
		rotav1.JobSchedules_ApplyJobSchedules_FullMethodName: &rotav1.ApplyJobSchedulesRequest{Schedules: []*rotav1.JobScheduleDefinition{{
			Name: "new", Cron: "@yearly", Job: &rotav1.JobDefinition{Argv: []string{"x"}},
		}}},
		rotav1.JobSchedules_PauseJobSchedule_FullMethodName:  &rotav1.PauseJobScheduleRequest{Name: "j"},
		rotav1.JobSchedules_ResumeJobSchedule_FullMethodName: &rotav1.ResumeJobScheduleRequest{Name: "j"},
		rotav1.JobSchedules_RunJobSchedule_FullMethodName:    &rotav1.RunJobScheduleRequest{Name: "j"},
		rotav1.JobSchedules_DeleteJobSchedule_FullMethodName: &rotav1.DeleteJobScheduleRequest{Name: "j"},
		rotav1.Programs_GetProgram_FullMethodName:            &rotav1.GetProgramRequest{Name: "p"},
		rotav1.Programs_StopProgram_FullMethodName:           &rotav1.StopProgramRequest{Name: "p"},
		rotav1.Programs_AttachProgram_FullMethodName:         &rotav1.FromProgram{Body: &rotav1.FromProgram_Hello{Hello: hello}},
		rotav1.Sessions_ReportExit_FullMethodName:            &rotav1.ReportExitRequest{Name: "w", Incarnation: "x"},
		rotav1.Pools_ApplyPools_FullMethodName: &rotav1.ApplyPoolsRequest{Pools: []*rotav1.PoolDefinition{{
			Name: "new", Engine: engine.Local, Size: &rotav1.PoolSize{From: 1, To: 1}, Template: &rotav1.PoolTemplate{Command: []string{"x"}},
		}}},
		rotav1.Pools_ScalePool_FullMethodName:                    &rotav1.ScalePoolRequest{Name: "p", Size: &rotav1.PoolSize{From: 2, To: 2}},
		rotav1.Pools_DeletePool_FullMethodName:                   &rotav1.DeletePoolRequest{Name: "p"},
		rotav1.PoolJoin_JoinWorker_FullMethodName:                &rotav1.JoinWorkerRequest{Token: auth.NewJoinToken("pool.p.1", "").Text().Reveal(), PublicKey: []byte("k")},
		rotav1.PoolJoin_RenewWorker_FullMethodName:               &rotav1.RenewWorkerRequest{Worker: "pool.p.1", PublicKey: []byte("k")},
		jobschedulerv1.Scheduler_RegisterWorker_FullMethodName:   &jobschedulerv1.RegisterReq{Address: "127.0.0.1:1"},
		jobschedulerv1.Scheduler_DeregisterWorker_FullMethodName: &jobschedulerv1.DeregisterReq{WorkerID: nobodys},
	}
	methods := s.Methods()
	for _, method := range methods {
		if server.Policy()[method].Writes && needs[method] == nil && !strings.HasPrefix(method, "/rota.v1.Members/") { // those ask the members
			t.Errorf("%s writes, and nothing here brings it to the store", method)
		}
	}
	for _, away := range []bool{true, false} { // away, or losing answers
		if away {
			st.Set(faulty.Down)
		} else {
			st.Set(faulty.Up)
			st.lose.Store(true)
		}
		for _, method := range methods {
			began := time.Now()
			err := call(t, conn, method, needs[method])
			message := status.Convert(err).Message()
			nothing, unsure := strings.Contains(message, "nothing was done"), strings.Contains(message, "may be done or not")
			switch {
			case status.Code(err) == codes.DeadlineExceeded && time.Since(began) > callTime:
				t.Errorf("%s, away %v: no answer", method, away)
			case raw(message):
				t.Errorf("%s, away %v: in the store's own words: %v", method, away, err)
			case away && needs[method] != nil && (!convert.IsStoreAway(err) || nothing == unsure):
				t.Errorf("%s while the store is away: %v", method, err)
			case !away && nothing && needs[method] != nil && server.Policy()[method].Writes:
				t.Errorf("%s says that nothing was done when the answer was lost: %v", method, err)
			}
		}
	}
}

// TestUnread calls each method of a scheduler that has not read its store yet. An
// empty picture is no cluster without tasks: whoever watches would be told that all
// are deleted, and a script that nothing is there.
func TestUnread(t *testing.T) {
	t.Parallel()
	st := newShaky(t)
	led(t, st)
	put(t, st, store.SourceKey("src"), &storepb.Source{Version: record.Version, Name: "src"})
	st.Set(faulty.Down)
	g, h := listen(t), listen(t)
	s, err := server.Start(server.Config{Scheduler: scheduler.Config{Store: st, Name: "s"}, GRPC: g, HTTP: h})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop(context.Background()) }()
	conn, err := grpc.NewClient("passthrough:///"+g.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	var all sync.WaitGroup
	for _, method := range s.Methods() {
		if strings.HasPrefix(method, "/grpc.") || strings.HasPrefix(method, "/rota.v1.Members/") {
			continue // they do not answer from the picture
		}
		all.Go(func() {
			if err := call(t, conn, method, nil); !convert.IsStoreAway(err) {
				t.Errorf("%s: %v", method, err)
			}
		})
	}
	for _, call := range []string{"GET /v1/tasks", "GET /v1/tasks:watch", "GET /v1/status", "POST /start", "POST /stop", "POST /query", "POST /stream"} {
		all.Go(func() {
			method, path, _ := strings.Cut(call, " ")
			req, err := http.NewRequestWithContext(t.Context(), method, "http://"+h.Addr().String()+path, http.NoBody)
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode < 500 || !strings.Contains(string(body), "nothing was done") {
				t.Errorf("%s: %s %s %v", call, resp.Status, body, err)
			}
		})
	}
	all.Wait()
	st.Set(faulty.Up)
	list, err := rotav1.NewClusterClient(conn).GetStatus(t.Context(), &rotav1.GetStatusRequest{}, grpc.WaitForReady(true))
	for ; convert.IsStoreAway(err); list, err = rotav1.NewClusterClient(conn).GetStatus(t.Context(), &rotav1.GetStatusRequest{}) {
		if t.Context().Err() != nil {
			break
		}
	}
	if err != nil || len(list.GetSources()) != 1 {
		t.Errorf("once the store is back: %v, %v", list, err)
	}
}

// raw reports whether a text is the store's own.
func raw(text string) bool {
	for _, word := range []string{"faulty", "injected", "txn", "get \"", "store:", "etcd:", "context"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

const callTime = time.Minute

// call calls a method and answers the error of its first answer; nil is for streams
// that have said something, or wait to be asked.
func call(t *testing.T, conn *grpc.ClientConn, method string, m proto.Message) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTime)
	defer cancel()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	if m == nil {
		m = &emptypb.Empty{}
	}
	if err := s.SendMsg(m); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_ = s.CloseSend()
	if err := s.RecvMsg(&emptypb.Empty{}); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// TestReadyz: a node whose store is away is not ready, says so at once, and is ready
// again when the store is back, over TLS too.
func TestReadyz(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(t *testing.T, st *shaky) func() (int, string){
		"open": func(t *testing.T, st *shaky) func() (int, string) {
			t.Helper()
			st.Set(faulty.Hung) // it has read nothing yet
			h := listen(t)
			s, err := server.Start(server.Config{Scheduler: scheduler.Config{Store: st, Name: "s", Lease: time.Second}, GRPC: listen(t), HTTP: h})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Stop(context.Background()) })
			c := &closed{http: "http://" + h.Addr().String()}
			return func() (int, string) { return c.ask(t, nil, http.MethodGet, "/readyz", "") }
		},
		"TLS": func(t *testing.T, st *shaky) func() (int, string) {
			t.Helper()
			c := newClosed(t, server.Config{Scheduler: scheduler.Config{Store: st, Lease: time.Second}})
			conf := c.source(t, pki.Request{}).Client("")
			return func() (int, string) { return c.ask(t, conf, http.MethodGet, "/readyz", "") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := newShaky(t)
			ask := begin(t, st)
			until := func(want int) {
				t.Helper()
				code, text := 0, ""
				for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
					if code, text = ask(); code == want {
						break
					}
				}
				if code != want || want != http.StatusOK && !strings.Contains(text, "the store") {
					t.Fatalf("/readyz answers %d, %s; want %d", code, text, want)
				}
			}
			if name == "open" {
				until(http.StatusServiceUnavailable)
				st.Set(faulty.Up)
			}
			for _, away := range []faulty.State{faulty.Down, faulty.Hung} {
				until(http.StatusOK)
				st.Set(away)
				until(http.StatusServiceUnavailable)
				st.Set(faulty.Up)
			}
			until(http.StatusOK)
		})
	}
}
