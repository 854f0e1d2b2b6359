package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/internal/api/rest"
	jobschedulerv1 "github.com/rota-project/rota/internal/compat/jobscheduler/v1"
	"github.com/rota-project/rota/internal/compat/schedulerworker"
	"github.com/rota-project/rota/internal/program/link"
	"github.com/rota-project/rota/scheduler/internal/signin"
	"github.com/rota-project/rota/scheduler/server"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
)

// The credentials of the matrix, in the order of its columns.
var credentialNames = []string{
	"anonymous", "viewer", "submitter", "operator", "admin", "worker w", "worker v", "scheduler", "client certificate",
	"expired certificate", "revoked certificate", "expired token", "revoked token", "token cut short", "token of another namespace",
	"operator for feed-* only", "submitter for program/f and job only",
}

// Rows of the matrix: y for who is let in, whatever becomes of the call then, and
// a dot for who is refused. A certificate that ended or was revoked makes no
// connection at all, so it is refused what is open to all, too.
const (
	//           anonymous
	//           | viewer, submitter, operator, admin
	//           | |    worker w, v, scheduler, client
	//           | |    |    expired, revoked
	//           | |    |    |  tokens: expired, revoked, cut, another namespace
	//           | |    |    |  |    limited: feed-*, program/f and job
	open     = "yyyyyyyyy.." + "...y" + "yy" // a bearer that is no good is never ignored
	toSee    = ".yyyy......" + "...." + "yy"
	toRead   = ".yyyy..y..." + "...." + "yy" // a scheduler asks for those that it has let in
	toJob    = "..yyy......" + "...." + ".y"
	toCall   = "..yyy......" + "...." + ".." // no token that is limited to other kinds
	toStop   = "..yyy......" + "...." + "yy" // of a program that has no tasks
	toApply  = "...yy......" + "...." + ".." // a task of kind other
	toSteer  = "...yy......" + "...." + ".."
	toAdmin  = "....y......" + "...." + ".."
	toAttach = "..yyy......" + "...." + "yy"
	toLink   = "..yyyyy...." + "...." + "yy"
	toStart  = "....y......" + "...." + ".." // programs on the machine of a scheduler
	ofW      = ".....y....." + "...." + ".." // what worker w says of itself
	ofWorker = ".....yy...." + "...." + ".." // what names no worker
)

// matrix is who may call what, with which message. A method without a row fails
// the test. What a page or a probe asks is asked over HTTP only.
var matrix = map[string]struct {
	row     string
	message proto.Message // nil: an empty one
}{
	rotav1.Tasks_ListTasks_FullMethodName:    {toSee, nil},
	rotav1.Tasks_GetTask_FullMethodName:      {toSee, &rotav1.GetTaskRequest{Id: "x"}},
	rotav1.Tasks_Why_FullMethodName:          {toSee, &rotav1.WhyRequest{Id: "x"}},
	rotav1.Tasks_WatchTasks_FullMethodName:   {toSee, nil},
	rotav1.Tasks_ReadTaskLogs_FullMethodName: {toRead, &rotav1.ReadTaskLogsRequest{Id: "x"}},
	rotav1.Tasks_ApplyTasks_FullMethodName:   {toApply, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "x", Kind: "other"}}, DryRun: true}},
	rotav1.Tasks_ReadTasks_FullMethodName:    {toSee, &rotav1.ReadTasksRequest{Text: "[]"}},
	rotav1.Tasks_DeleteTasks_FullMethodName:  {toApply, &rotav1.DeleteTasksRequest{Ids: []string{"kept", "x"}}},
	rotav1.Tasks_ReleaseTask_FullMethodName:  {toApply, &rotav1.ReleaseTaskRequest{Id: "kept"}},

	rotav1.Workers_ListWorkers_FullMethodName:   {toSee, nil},
	rotav1.Workers_GetWorker_FullMethodName:     {toSee, &rotav1.GetWorkerRequest{Name: "x"}},
	rotav1.Workers_GetStoppable_FullMethodName:  {toSee, &rotav1.GetStoppableRequest{Names: []string{"x"}}},
	rotav1.Workers_WatchWorkers_FullMethodName:  {toSee, nil},
	rotav1.Workers_CordonWorker_FullMethodName:  {toSteer, &rotav1.WorkerRequest{Name: "x"}},
	rotav1.Workers_DrainWorker_FullMethodName:   {toSteer, &rotav1.WorkerRequest{Name: "x"}},
	rotav1.Workers_UndrainWorker_FullMethodName: {toSteer, &rotav1.WorkerRequest{Name: "x"}},
	rotav1.Workers_ForgetWorker_FullMethodName:  {toSteer, &rotav1.WorkerRequest{Name: "x"}},

	rotav1.Cluster_GetStatus_FullMethodName:      {toSee, nil},
	rotav1.Cluster_GetPlan_FullMethodName:        {toSee, nil},
	rotav1.Cluster_NotifySchedule_FullMethodName: {toSteer, nil},
	rotav1.Cluster_ConfirmList_FullMethodName:    {toSteer, nil},

	rotav1.Members_ListMembers_FullMethodName:  {toSee, nil},
	rotav1.Members_Backup_FullMethodName:       {toAdmin, nil},
	rotav1.Members_RemoveMember_FullMethodName: {toAdmin, &rotav1.RemoveMemberRequest{Name: "x"}},

	rotav1.Jobs_ListJobs_FullMethodName:     {toSee, nil},
	rotav1.Jobs_GetJob_FullMethodName:       {toSee, &rotav1.GetJobRequest{Id: "x"}},
	rotav1.Jobs_WatchJobs_FullMethodName:    {toSee, nil},
	rotav1.Jobs_ReadOutput_FullMethodName:   {toRead, &rotav1.ReadOutputRequest{Id: "x"}},
	rotav1.Jobs_ListCommands_FullMethodName: {toJob, nil},
	rotav1.Jobs_RunJob_FullMethodName:       {toJob, &rotav1.RunJobRequest{Job: &rotav1.JobDefinition{Argv: []string{"x"}, Worker: "nobody"}}},
	rotav1.Jobs_StopJob_FullMethodName:      {toJob, &rotav1.StopJobRequest{Id: "x"}},
	rotav1.Jobs_RetryJob_FullMethodName:     {toJob, &rotav1.RetryJobRequest{Id: "x"}},
	rotav1.Jobs_DeleteJob_FullMethodName:    {toJob, &rotav1.DeleteJobRequest{Id: "x"}},

	rotav1.JobSchedules_ListJobSchedules_FullMethodName:  {toSee, nil},
	rotav1.JobSchedules_GetJobSchedule_FullMethodName:    {toSee, &rotav1.GetJobScheduleRequest{Name: "x"}},
	rotav1.JobSchedules_ApplyJobSchedules_FullMethodName: {toJob, nil},
	rotav1.JobSchedules_PauseJobSchedule_FullMethodName:  {toJob, &rotav1.PauseJobScheduleRequest{Name: "x"}},
	rotav1.JobSchedules_ResumeJobSchedule_FullMethodName: {toJob, &rotav1.ResumeJobScheduleRequest{Name: "x"}},
	rotav1.JobSchedules_RunJobSchedule_FullMethodName:    {toJob, &rotav1.RunJobScheduleRequest{Name: "x"}},
	rotav1.JobSchedules_DeleteJobSchedule_FullMethodName: {toJob, &rotav1.DeleteJobScheduleRequest{Name: "x"}},

	rotav1.Events_ListEvents_FullMethodName:  {toSee, nil},
	rotav1.Events_WatchEvents_FullMethodName: {toSee, nil},

	rotav1.Programs_ListPrograms_FullMethodName: {toSee, nil},
	rotav1.Programs_GetProgram_FullMethodName:   {toSee, &rotav1.GetProgramRequest{Name: "x"}},
	rotav1.Programs_StopProgram_FullMethodName:  {toStop, &rotav1.StopProgramRequest{Name: "x"}},
	// A worker that holds no task of a program is refused: see package service.
	rotav1.Programs_AttachProgram_FullMethodName: {toAttach, &rotav1.FromProgram{Body: &rotav1.FromProgram_Hello{Hello: &rotav1.ProgramHello{Name: "p", Run: "r"}}}},
	server.LinkMethod: {toLink, nil},

	rotav1.Functions_ListFunctions_FullMethodName: {toSee, nil},
	rotav1.Functions_GetFunction_FullMethodName:   {toSee, &rotav1.GetFunctionRequest{Name: "x"}},

	rotav1.Pools_ListPools_FullMethodName:      {toSee, nil},
	rotav1.Pools_GetPool_FullMethodName:        {toSee, &rotav1.GetPoolRequest{Name: "x"}},
	rotav1.Pools_ApplyPools_FullMethodName:     {toStart, nil},
	rotav1.Pools_ScalePool_FullMethodName:      {toSteer, &rotav1.ScalePoolRequest{Name: "x"}},
	rotav1.Pools_DeletePool_FullMethodName:     {toSteer, &rotav1.DeletePoolRequest{Name: "x"}},
	rotav1.PoolJoin_JoinWorker_FullMethodName:  {open, nil}, // the token is what lets in: package pools
	rotav1.PoolJoin_RenewWorker_FullMethodName: {ofW, &rotav1.RenewWorkerRequest{Worker: "w"}},

	rotav1.Sessions_Connect_FullMethodName: {ofW, &rotav1.FromWorker{Body: &rotav1.FromWorker_Hello{Hello: &rotav1.Hello{
		Info: &rotav1.WorkerInfo{Name: "w", Incarnation: "i"},
	}}}},
	rotav1.Sessions_ReportExit_FullMethodName: {ofW, &rotav1.ReportExitRequest{Name: "w", Incarnation: "x"}},
	rotav1.JobWork_Connect_FullMethodName:     {ofW, &rotav1.FromJobWorker{Body: &rotav1.FromJobWorker_Hello{Hello: &rotav1.JobHello{Name: "w", Incarnation: "i"}}}},
	rotav1.JobWork_PushOutput_FullMethodName:  {ofWorker, nil}, // of no reading that there is

	jobschedulerv1.Scheduler_RegisterWorker_FullMethodName:   {toSteer, &jobschedulerv1.RegisterReq{Address: "none"}},
	jobschedulerv1.Scheduler_DeregisterWorker_FullMethodName: {toSteer, &jobschedulerv1.DeregisterReq{WorkerID: "x"}},
	schedulerworker.StartMethod:                              {toJob, nil},
	schedulerworker.StopMethod:                               {toJob, nil},
	schedulerworker.QueryMethod:                              {toSee, nil},
	schedulerworker.StreamMethod:                             {toSee, nil},

	healthv1.Health_Check_FullMethodName:                                   {open, nil},
	healthv1.Health_List_FullMethodName:                                    {open, nil},
	healthv1.Health_Watch_FullMethodName:                                   {toSee, nil},
	reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName:      {toSee, nil},
	reflectionv1alpha.ServerReflection_ServerReflectionInfo_FullMethodName: {toSee, nil},

	server.CallMethod:  {toCall, nil}, // on the gateway's port, which has tests of its own
	rest.MetricsMethod: {toSee, nil},
	rest.DebugMethod:   {toAdmin, nil},
	rest.ConsoleMethod: {open, nil},
	rest.OpenAPIMethod: {open, nil},

	signin.WaysMethod:                              {open, nil},
	signin.SignInMethod:                            {toSee, nil},
	signin.ByCodeMethod:                            {open, nil}, // then the code is asked for
	signin.ByOIDCMethod:                            {open, nil},
	signin.SignOutMethod:                           {open, nil},
	signin.WhoAmIMethod:                            {toSee, nil},
	rotav1.SignIns_CreateSignInCode_FullMethodName: {toSee, nil},

	rest.AliveMethod: {open, nil},
	rest.ReadyMethod: {open, nil},
}

// credential is what a caller of the matrix has.
type credential struct {
	name   string
	bearer auth.Secret
	source *pki.Source // for gRPC and links: over HTTP certificates are nobody's
	broken bool        // it makes no connection
}

// credentials makes those that the matrix names.
func (c *closed) credentials(t *testing.T) (out []credential) {
	t.Helper()
	now := time.Now()
	token := func(tok auth.Token) auth.Secret {
		tok.Name = "matrix"
		tok, secret, err := auth.NewToken(tok, now)
		if err != nil {
			t.Fatal(err)
		}
		if tok.Created.Equal(tok.Expires) {
			t.Fatal("never good")
		}
		c.tokens.Update([]auth.Token{tok}, nil)
		return secret
	}
	ended := func(change func(*auth.Token)) auth.Secret {
		secret := token(auth.Token{Role: auth.Admin})
		all := c.tokens.List()
		i := slices.IndexFunc(all, func(tok auth.Token) bool { return strings.Contains(secret.Reveal(), tok.ID) })
		change(&all[i])
		c.tokens.Update(all[i:i+1], nil)
		return secret
	}
	cert := func(role pki.Role, name string, left time.Duration) (*pki.Source, pki.Certificate) {
		issued, err := pki.Issue(c.dir, pki.Request{Role: role, Name: name, Hosts: []string{"127.0.0.1"}, Life: time.Hour}, now.Add(left-time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		src, err := pki.Load(pki.Files{CA: filepath.Join(c.dir, pki.CAFile), Cert: issued.File, Key: issued.Key})
		if err != nil {
			t.Fatal(err)
		}
		return src, issued
	}
	plain := c.source(t, pki.Request{})
	w, _ := cert(pki.Worker, "w", time.Hour)
	v, _ := cert(pki.Worker, "v", time.Hour)
	s, _ := cert(pki.Scheduler, "s2", time.Hour)
	client, _ := cert(pki.Client, "c", time.Hour)
	old, _ := cert(pki.Worker, "old", -time.Second)
	gone, issued := cert(pki.Worker, "gone", time.Hour)
	revoke(t, filepath.Join(c.dir, pki.RevokedFile), pki.Revocation{Serial: issued.Serial})
	// The server looks at its files once a second.
	for tries := 0; ; tries++ {
		if _, err := rotav1.NewSessionsClient(c.dial(t, gone.Credentials(""))).ReportExit(t.Context(), &rotav1.ReportExitRequest{Name: "gone", Incarnation: "x"}); err != nil {
			break
		}
		if tries > 1000 {
			t.Fatal("a revoked certificate is taken")
		}
		time.Sleep(10 * time.Millisecond)
	}
	cut := c.secrets[auth.Admin].Reveal()
	return []credential{
		{source: plain},
		{bearer: c.secrets[auth.Viewer], source: plain},
		{bearer: c.secrets[auth.Submitter], source: plain},
		{bearer: c.secrets[auth.Operator], source: plain},
		{bearer: c.secrets[auth.Admin], source: plain},
		{source: w},
		{source: v},
		{source: s},
		{source: client},
		{source: old, broken: true},
		{source: gone, broken: true},
		{bearer: ended(func(tok *auth.Token) { tok.Expires = now }), source: plain},
		{bearer: ended(func(tok *auth.Token) { tok.Revoked = now }), source: plain},
		{bearer: auth.Secret(cut[:len(cut)-1]), source: plain},
		{bearer: token(auth.Token{Role: auth.Admin, Namespaces: []string{"elsewhere"}}), source: plain},
		{bearer: token(auth.Token{Role: auth.Operator, Kinds: []string{"feed-*"}}), source: plain},
		{bearer: token(auth.Token{Role: auth.Submitter, Kinds: []string{"program/f", "job"}}), source: plain},
	}
}

// TestMatrix holds every method to who may call it, over gRPC and over HTTP.
func TestMatrix(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	policy := server.Policy()
	for method := range policy {
		if _, ok := matrix[method]; !ok {
			t.Errorf("%s has no row", method)
		}
	}
	for method, row := range matrix {
		if _, ok := policy[method]; !ok || len(row.row) != len(credentialNames) {
			t.Errorf("%s: %d verdicts for %d credentials; in the table: %v", method, len(row.row), len(credentialNames), ok)
		}
	}
	methods := c.Methods()
	for _, method := range methods {
		if _, ok := policy[method]; !ok {
			t.Errorf("%s is served and in no table", method)
		}
	}
	if t.Failed() {
		return
	}
	admin := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.secrets[auth.Admin].Reveal())
	first := c.dial(t, c.source(t, pki.Request{}).Credentials(""))
	routes := c.described(t)
	for i, cred := range c.credentials(t) {
		cred.name = credentialNames[i]
		// There to be deleted.
		if _, err := rotav1.NewTasksClient(first).ApplyTasks(admin, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "kept", Kind: "other"}}}); err != nil {
			t.Fatal(err)
		}
		conn := c.dial(t, cred.source.Credentials(""))
		for _, method := range methods {
			row := matrix[method]
			if got := c.called(t, conn, method, row.message, cred); got != (row.row[i] == 'y') {
				t.Errorf("gRPC %s by %s: let in: %v", method, cred.name, got)
			}
		}
		if got := c.links(t, cred); got != (matrix[server.LinkMethod].row[i] == 'y') {
			t.Errorf("a link by %s: let in: %v", cred.name, got)
		}
		// Over HTTP a certificate makes nobody of anybody.
		as := i
		if cred.bearer == "" && !cred.broken {
			as = 0
		}
		for _, r := range routes {
			if got := c.asked(t, r, cred); got != (matrix[r.of].row[as] == 'y') {
				t.Errorf("%s %s (%s) by %s: let in: %v", r.method, r.path, r.of, cred.name, got)
			}
		}
	}
}

// called makes a call and reports whether it was let in.
func (c *closed) called(t *testing.T, conn *grpc.ClientConn, method string, message proto.Message, cred credential) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if cred.bearer != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+cred.bearer.Reveal())
	}
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err == nil {
		if message == nil {
			message = &emptypb.Empty{}
		}
		if err = s.SendMsg(message); err == nil || errors.Is(err, io.EOF) {
			_ = s.CloseSend()
			err = s.RecvMsg(&emptypb.Empty{})
		}
	}
	return !refused(err)
}

func refused(err error) bool {
	return slices.Contains([]codes.Code{codes.Unauthenticated, codes.PermissionDenied, codes.Unavailable}, status.Code(err))
}

// links connects for the messages of programs and reports whether it was let in.
func (c *closed) links(t *testing.T, cred credential) bool {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	k, err := dialTLS(ctx, cred.source.Client("", "h2"), c.grpc)
	if err != nil {
		return false
	}
	node, ended := link.NewNode(link.NodeConfig{Credentials: []byte(cred.bearer)}), make(chan error, 1)
	go func() { ended <- node.Serve(ctx, k) }()
	for !node.Connected() {
		select {
		case <-ended:
			return false
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	<-ended
	return true
}

// place is a route over HTTP and the method that it stands for.
type place struct{ method, path, body, of string }

// described are those that the API's description names, and those beside it.
func (c *closed) described(t *testing.T) []place {
	t.Helper()
	out := []place{
		{http.MethodPost, "/start", "{}", schedulerworker.StartMethod},
		{http.MethodPost, "/stop", "{}", schedulerworker.StopMethod},
		{http.MethodPost, "/query", "{}", schedulerworker.QueryMethod},
		{http.MethodPost, "/stream", "{}", schedulerworker.StreamMethod},
		{http.MethodGet, "/stream", "", schedulerworker.StreamMethod},
		{http.MethodGet, "/metrics", "", rest.MetricsMethod},
		{http.MethodGet, "/debug/pprof/cmdline", "", rest.DebugMethod},
		{http.MethodGet, "/debug/config", "", rest.DebugMethod},
		{http.MethodGet, "/debug/log", "", rest.DebugMethod},
		{http.MethodGet, "/", "", rest.ConsoleMethod},
		{http.MethodGet, "/v1/openapi.json", "", rest.OpenAPIMethod},
		{http.MethodGet, "/signin", "", signin.WaysMethod},
		{http.MethodGet, "/v1/signin", "", signin.WaysMethod},
		{http.MethodPost, "/v1/signin", "{}", signin.SignInMethod},
		{http.MethodPost, "/v1/signin/code", "{}", signin.ByCodeMethod},
		{http.MethodGet, "/v1/signin/oidc", "", signin.ByOIDCMethod},
		{http.MethodGet, "/v1/signin/oidc/callback", "", signin.ByOIDCMethod},
		{http.MethodPost, "/v1/signout", "{}", signin.SignOutMethod},
		{http.MethodGet, "/v1/whoami", "", signin.WhoAmIMethod},
		{http.MethodGet, "/healthz", "", rest.AliveMethod},
		{http.MethodGet, "/readyz", "", rest.ReadyMethod},
	}
	_, text := c.ask(t, c.source(t, pki.Request{}).Client(""), http.MethodGet, "/v1/openapi.json", "")
	var description struct {
		Paths map[string]map[string]struct{ OperationID string }
	}
	if err := json.Unmarshal([]byte(text), &description); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("{id}", "x", "{ids}", "kept", "{name}", "x")
	found := map[string]bool{}
	for path, operations := range description.Paths {
		for verb, op := range operations {
			service, name, ok := strings.Cut(strings.TrimRight(op.OperationID, "0123456789"), "_")
			of := "/rota.v1." + service + "/" + name
			if _, known := matrix[of]; !ok || !known {
				continue
			}
			r := place{strings.ToUpper(verb), fill.Replace(path), "", of}
			if r.method == http.MethodDelete || of == rotav1.Tasks_ReleaseTask_FullMethodName {
				r.path = strings.Replace(r.path, "/tasks/x", "/tasks/kept", 1)
			}
			if r.method == http.MethodPost {
				r.body = "{}"
				if m := matrix[of].message; m != nil && !strings.Contains(path, "{") {
					b, err := protojson.Marshal(m)
					if err != nil {
						t.Fatal(err)
					}
					r.body = string(b)
				}
			}
			found[of] = true
			out = append(out, r)
		}
	}
	// Whatever has no route of its own is a stream to send on, or for workers.
	for method, row := range matrix {
		if strings.HasPrefix(method, "/rota.v1.") && !found[method] && method != rotav1.Programs_AttachProgram_FullMethodName && method != rotav1.SignIns_CreateSignInCode_FullMethodName && method != rotav1.PoolJoin_JoinWorker_FullMethodName && row.row != ofW && row.row != ofWorker {
			t.Errorf("%s has no route over HTTP that the description names", method)
		}
	}
	return out
}

// asked makes a request and reports whether it was let in.
func (c *closed) asked(t *testing.T, r place, cred credential) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, c.http+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if cred.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+cred.bearer.Reveal())
	}
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: cred.source.Client(""), DisableKeepAlives: true}}).Do(req)
	if err != nil {
		if !cred.broken {
			t.Errorf("%s %s by %s: %v", r.method, r.path, cred.name, err)
		}
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden
}
