package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/internal/api/rest"
	jobschedulerv1 "github.com/rota-project/rota/internal/compat/jobscheduler/v1"
	"github.com/rota-project/rota/internal/compat/schedulerworker"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/signin"
	"github.com/rota-project/rota/scheduler/server"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
)

// targets is what the audit says of each method's first message with every field
// set: texts to their own names, lists to two of them. A method without a row
// fails the test. nil: no message, so no target (routes say theirs themselves).
var targets = map[string]struct {
	message proto.Message
	want    string
}{
	rotav1.Tasks_ListTasks_FullMethodName:    {&rotav1.ListTasksRequest{}, "worker=worker kind=kind group=group state=state id_prefix=id_prefix"},
	rotav1.Tasks_GetTask_FullMethodName:      {&rotav1.GetTaskRequest{}, "id=id"},
	rotav1.Tasks_Why_FullMethodName:          {&rotav1.WhyRequest{}, "id=id"},
	rotav1.Tasks_WatchTasks_FullMethodName:   {&rotav1.WatchTasksRequest{}, ""},
	rotav1.Tasks_ReadTaskLogs_FullMethodName: {&rotav1.ReadTaskLogsRequest{}, "id=id worker=worker"},
	rotav1.Tasks_ApplyTasks_FullMethodName:   {&rotav1.ApplyTasksRequest{}, twice("id=id kind=kind worker=pinned group=group")},
	rotav1.Tasks_ReadTasks_FullMethodName:    {&rotav1.ReadTasksRequest{}, "name=name"},
	rotav1.Tasks_DeleteTasks_FullMethodName:  {&rotav1.DeleteTasksRequest{}, twice("ids=ids")},
	rotav1.Tasks_ReleaseTask_FullMethodName:  {&rotav1.ReleaseTaskRequest{}, "id=id"},

	rotav1.Workers_ListWorkers_FullMethodName:   {&rotav1.ListWorkersRequest{}, "state=state"},
	rotav1.Workers_GetWorker_FullMethodName:     {&rotav1.GetWorkerRequest{}, "worker=name"},
	rotav1.Workers_GetStoppable_FullMethodName:  {&rotav1.GetStoppableRequest{}, twice("names=names")},
	rotav1.Workers_WatchWorkers_FullMethodName:  {&rotav1.WatchWorkersRequest{}, ""},
	rotav1.Workers_CordonWorker_FullMethodName:  {&rotav1.WorkerRequest{}, "worker=name"},
	rotav1.Workers_DrainWorker_FullMethodName:   {&rotav1.WorkerRequest{}, "worker=name"},
	rotav1.Workers_UndrainWorker_FullMethodName: {&rotav1.WorkerRequest{}, "worker=name"},
	rotav1.Workers_ForgetWorker_FullMethodName:  {&rotav1.WorkerRequest{}, "worker=name"},

	rotav1.Cluster_GetStatus_FullMethodName:      {&rotav1.GetStatusRequest{}, ""},
	rotav1.Cluster_GetPlan_FullMethodName:        {&rotav1.GetPlanRequest{}, twice("id=id kind=kind worker=pinned group=group")},
	rotav1.Cluster_NotifySchedule_FullMethodName: {&rotav1.NotifyScheduleRequest{}, "reason=reason"},
	rotav1.Cluster_ConfirmList_FullMethodName:    {&rotav1.ConfirmListRequest{}, "source=source"},

	rotav1.Members_ListMembers_FullMethodName:  {&rotav1.ListMembersRequest{}, ""},
	rotav1.Members_Backup_FullMethodName:       {&rotav1.BackupRequest{}, ""},
	rotav1.Members_RemoveMember_FullMethodName: {&rotav1.RemoveMemberRequest{}, "name=name"},

	rotav1.Jobs_ListJobs_FullMethodName:     {&rotav1.ListJobsRequest{}, "worker=worker state=state"},
	rotav1.Jobs_GetJob_FullMethodName:       {&rotav1.GetJobRequest{}, "id=id"},
	rotav1.Jobs_WatchJobs_FullMethodName:    {&rotav1.WatchJobsRequest{}, "id=id"},
	rotav1.Jobs_ReadOutput_FullMethodName:   {&rotav1.ReadOutputRequest{}, "id=id"},
	rotav1.Jobs_ListCommands_FullMethodName: {&rotav1.ListCommandsRequest{}, ""},
	rotav1.Jobs_RunJob_FullMethodName:       {&rotav1.RunJobRequest{}, "id=id worker=worker command=argv"},
	rotav1.Jobs_StopJob_FullMethodName:      {&rotav1.StopJobRequest{}, "id=id"},
	rotav1.Jobs_RetryJob_FullMethodName:     {&rotav1.RetryJobRequest{}, "id=id"},
	rotav1.Jobs_DeleteJob_FullMethodName:    {&rotav1.DeleteJobRequest{}, "id=id"},

	rotav1.JobSchedules_ListJobSchedules_FullMethodName:  {&rotav1.ListJobSchedulesRequest{}, ""},
	rotav1.JobSchedules_GetJobSchedule_FullMethodName:    {&rotav1.GetJobScheduleRequest{}, "schedule=name"},
	rotav1.JobSchedules_ApplyJobSchedules_FullMethodName: {&rotav1.ApplyJobSchedulesRequest{}, twice("schedule=name worker=worker command=argv")},
	rotav1.JobSchedules_PauseJobSchedule_FullMethodName:  {&rotav1.PauseJobScheduleRequest{}, "schedule=name"},
	rotav1.JobSchedules_ResumeJobSchedule_FullMethodName: {&rotav1.ResumeJobScheduleRequest{}, "schedule=name"},
	rotav1.JobSchedules_RunJobSchedule_FullMethodName:    {&rotav1.RunJobScheduleRequest{}, "id=id schedule=name"},
	rotav1.JobSchedules_DeleteJobSchedule_FullMethodName: {&rotav1.DeleteJobScheduleRequest{}, "schedule=name"},

	rotav1.Events_ListEvents_FullMethodName:  {&rotav1.ListEventsRequest{}, "worker=worker program=program kind=kind job=job"},
	rotav1.Events_WatchEvents_FullMethodName: {&rotav1.WatchEventsRequest{}, "worker=worker program=program kind=kind job=job"},

	rotav1.Programs_ListPrograms_FullMethodName:  {&rotav1.ListProgramsRequest{}, ""},
	rotav1.Programs_GetProgram_FullMethodName:    {&rotav1.GetProgramRequest{}, "program=name"},
	rotav1.Programs_StopProgram_FullMethodName:   {&rotav1.StopProgramRequest{}, "program=name reason=reason"},
	rotav1.Programs_AttachProgram_FullMethodName: {&rotav1.FromProgram{Body: &rotav1.FromProgram_Hello{Hello: &rotav1.ProgramHello{}}}, "program=name"},

	rotav1.Sessions_Connect_FullMethodName:        {&rotav1.FromWorker{Body: &rotav1.FromWorker_Hello{Hello: &rotav1.Hello{}}}, "worker=name incarnation=incarnation"},
	rotav1.Functions_ListFunctions_FullMethodName: {&rotav1.ListFunctionsRequest{}, ""},
	rotav1.Functions_GetFunction_FullMethodName:   {&rotav1.GetFunctionRequest{}, "name=name"},

	rotav1.Pools_ListPools_FullMethodName:      {&rotav1.ListPoolsRequest{}, ""},
	rotav1.Pools_GetPool_FullMethodName:        {&rotav1.GetPoolRequest{}, "pool=name"},
	rotav1.Pools_ApplyPools_FullMethodName:     {&rotav1.ApplyPoolsRequest{}, twice("pool=name engine=engine")},
	rotav1.Pools_ScalePool_FullMethodName:      {&rotav1.ScalePoolRequest{}, "pool=name"},
	rotav1.Pools_DeletePool_FullMethodName:     {&rotav1.DeletePoolRequest{}, "pool=name"},
	rotav1.PoolJoin_JoinWorker_FullMethodName:  {&rotav1.JoinWorkerRequest{}, "worker=worker"},
	rotav1.PoolJoin_RenewWorker_FullMethodName: {&rotav1.RenewWorkerRequest{}, "worker=worker"},

	rotav1.Sessions_ReportExit_FullMethodName: {&rotav1.ReportExitRequest{}, "worker=name incarnation=incarnation"},
	rotav1.JobWork_Connect_FullMethodName:     {&rotav1.FromJobWorker{Body: &rotav1.FromJobWorker_Hello{Hello: &rotav1.JobHello{}}}, "worker=name incarnation=incarnation"},
	rotav1.JobWork_PushOutput_FullMethodName:  {&rotav1.OutputPiece{}, ""},

	jobschedulerv1.Scheduler_RegisterWorker_FullMethodName:   {&jobschedulerv1.RegisterReq{}, "address=address"},
	jobschedulerv1.Scheduler_DeregisterWorker_FullMethodName: {&jobschedulerv1.DeregisterReq{}, "worker=workerID"},
	schedulerworker.StartMethod:                              {},
	schedulerworker.StopMethod:                               {},
	schedulerworker.QueryMethod:                              {},
	schedulerworker.StreamMethod:                             {},

	healthv1.Health_Check_FullMethodName:                                   {&healthv1.HealthCheckRequest{}, "service=service"},
	healthv1.Health_List_FullMethodName:                                    {&healthv1.HealthListRequest{}, ""},
	healthv1.Health_Watch_FullMethodName:                                   {&healthv1.HealthCheckRequest{}, "service=service"},
	reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName:      {&reflectionv1.ServerReflectionRequest{}, ""},
	reflectionv1alpha.ServerReflection_ServerReflectionInfo_FullMethodName: {}, // as the one before

	server.LinkMethod: {}, server.CallMethod: {}, rest.MetricsMethod: {}, rest.DebugMethod: {}, rest.ConsoleMethod: {}, rest.OpenAPIMethod: {}, rest.AliveMethod: {}, rest.ReadyMethod: {},
	signin.WaysMethod: {}, signin.SignInMethod: {}, signin.ByCodeMethod: {}, signin.ByOIDCMethod: {}, signin.SignOutMethod: {}, signin.WhoAmIMethod: {},
	rotav1.SignIns_CreateSignInCode_FullMethodName: {&rotav1.CreateSignInCodeRequest{}, ""}, // whoever asks is all that there is to say
}

func twice(s string) string { return s + " " + s }

// fill sets every field of m that is not one of several.
func fill(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		text := protoreflect.ValueOfString(string(fd.Name()))
		switch {
		case fd.ContainingOneof() != nil && fd.Kind() == protoreflect.MessageKind:
			if m.Has(fd) {
				fill(m.Mutable(fd).Message(), depth+1)
			}
		case fd.IsMap():
			if fd.MapValue().Kind() == protoreflect.StringKind {
				m.Mutable(fd).Map().Set(protoreflect.ValueOfString("key").MapKey(), protoreflect.ValueOfString("hidden"))
			}
		case fd.IsList() && fd.Kind() == protoreflect.StringKind:
			m.Mutable(fd).List().Append(text)
			m.Mutable(fd).List().Append(text)
		case fd.IsList() && fd.Kind() == protoreflect.MessageKind && depth < 4:
			for range 2 {
				fill(m.Mutable(fd).List().AppendMutable().Message(), depth+1)
			}
		case fd.IsList():
		case fd.Kind() == protoreflect.StringKind:
			m.Set(fd, text)
		case fd.Kind() == protoreflect.BytesKind:
			m.Set(fd, protoreflect.ValueOfBytes([]byte("hidden")))
		case fd.Kind() == protoreflect.MessageKind && depth < 4:
			fill(m.Mutable(fd).Message(), depth+1)
		}
	}
}

// TestEveryTarget: the audit says of every method what it was about, and shows
// nothing that may be secret. A method that changes something has a target.
func TestEveryTarget(t *testing.T) {
	t.Parallel()
	policy := server.Policy()
	for method, rule := range policy {
		row, ok := targets[method]
		if !ok {
			t.Errorf("%s has no row", method)
			continue
		}
		if row.message == nil {
			continue
		}
		m := proto.Clone(row.message)
		fill(m.ProtoReflect(), 0)
		if got := auth.Target(m); got != row.want {
			t.Errorf("%s: target %q, want %q", method, got, row.want)
		}
		if rule.Writes && row.want == "" && method != rotav1.Members_Backup_FullMethodName { // that is of everything
			t.Errorf("%s changes something and has no target", method)
		}
	}
	for method := range targets {
		if _, ok := policy[method]; !ok {
			t.Errorf("%s has a row and is in no table", method)
		}
	}
}

// TestAuditNamesTargets: what changes something is told with its target, also what
// a program declares and what old calls ask for, and never with more.
func TestAuditNamesTargets(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var log bytes.Buffer
	handler := slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(p)
	}), nil)
	c := newClosed(t, server.Config{Scheduler: scheduler.Config{Logger: slog.New(handler)}})
	conn := c.dial(t, c.source(t, pki.Request{}).Credentials(""), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	as := func(r auth.Role) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.secrets[r].Reveal())
	}
	if _, err := rotav1.NewJobsClient(conn).RunJob(as(auth.Submitter), &rotav1.RunJobRequest{Job: &rotav1.JobDefinition{
		Argv: []string{"report", "hidden"}, Env: map[string]string{"A": "hidden"}, Stdin: "hidden", Worker: "w7",
	}}); status.Code(err) != codes.NotFound { // there is no such worker
		t.Fatal(err)
	}
	stream, err := rotav1.NewProgramsClient(conn).AttachProgram(as(auth.Submitter))
	if err != nil {
		t.Fatal(err)
	}
	say := func(m *rotav1.FromProgram) {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	say(&rotav1.FromProgram{Body: &rotav1.FromProgram_Hello{Hello: &rotav1.ProgramHello{Name: "pw", Run: "r"}}})
	for _, kind := range []string{"feed", "program/f"} {
		say(&rotav1.FromProgram{Body: &rotav1.FromProgram_Change{Change: &rotav1.ProgramChange{
			Set: []*rotav1.TaskDefinition{{Id: "pw/--help", Kind: kind, Payload: "hidden", Pinned: "w2"}}, Delete: []string{"pw/old"},
		}}})
	}
	say(&rotav1.FromProgram{Body: &rotav1.FromProgram_End{End: &rotav1.ProgramEnd{}}})
	for err == nil { // to the end
		_, err = stream.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	conf, submitter := c.source(t, pki.Request{}).Client(""), "Bearer "+c.secrets[auth.Submitter].Reveal()
	for _, path := range []string{"/start", "/stop"} {
		c.ask(t, conf, http.MethodPost, path, `{"worker_id":"w9","job_id":"j","command":"python3 hidden","path":"hidden"}`, "Authorization", submitter)
	}
	mu.Lock()
	defer mu.Unlock()
	lines := slices.Collect(strings.Lines(log.String()))
	for _, want := range []string{
		`method=/rota.v1.Jobs/RunJob target="worker=w7 command=report" outcome=NotFound`,
		`method=/rota.v1.Programs/AttachProgram target="program=pw" outcome=OK`,
		`method=/rota.v1.Programs/AttachProgram target="program=pw remove=pw/old id=pw/--help kind=feed worker=w2" outcome=InvalidArgument`,
		`method=/rota.v1.Programs/AttachProgram target="program=pw remove=pw/old id=pw/--help kind=program/f worker=w2" outcome=OK`,
		`method=/jobscheduler.HTTP/Start target="id=j worker=w9 command=python3"`,
		`method=/jobscheduler.HTTP/Stop target="id=j worker=w9 command=python3"`,
	} {
		if !slices.ContainsFunc(lines, func(l string) bool {
			return strings.Contains(l, "msg=audit") && strings.Contains(l, want)
		}) {
			t.Errorf("no line with %s", want)
		}
	}
	if strings.Contains(log.String(), "hidden") || t.Failed() {
		t.Error("the log:\n" + fmt.Sprint(strings.Join(lines, "")))
	}
}
