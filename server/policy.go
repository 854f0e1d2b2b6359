package server

import (
	"github.com/rota-project/rota/api"
	jobschedulerv1 "github.com/rota-project/rota/api/jobscheduler/v1"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/jobscheduler"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
)

// LinkMethod is what the policy calls the connections that carry the messages of
// programs; they share the port of gRPC and are no calls.
const LinkMethod = "/rota.Link/Connect"

// CallMethod is what the policy calls the calls of functions that come to the
// gateway from other machines.
const CallMethod = "/rota.HTTP/CallFunction"

// Policy is who may call what: every gRPC method, and every HTTP route that is
// no gRPC method, under a name of its own. What is not here nobody may call.
func Policy() auth.Policy {
	see, worker := auth.Rule{Role: auth.Viewer}, auth.Rule{Worker: true}
	submit := auth.Rule{Role: auth.Submitter, Writes: true, Kind: auth.JobKind}
	declare := auth.Rule{Role: auth.Operator, Writes: true} // the service asks about each task
	operate := auth.Rule{Role: auth.Operator, Writes: true, Kind: auth.AllKinds}
	return auth.Policy{
		rotav1.Tasks_ListTasks_FullMethodName:   see,
		rotav1.Tasks_GetTask_FullMethodName:     see,
		rotav1.Tasks_Why_FullMethodName:         see,
		rotav1.Tasks_WatchTasks_FullMethodName:  see,
		rotav1.Tasks_ApplyTasks_FullMethodName:  declare,
		rotav1.Tasks_DeleteTasks_FullMethodName: declare,

		rotav1.Workers_ListWorkers_FullMethodName:   see,
		rotav1.Workers_GetWorker_FullMethodName:     see,
		rotav1.Workers_GetStoppable_FullMethodName:  see,
		rotav1.Workers_WatchWorkers_FullMethodName:  see,
		rotav1.Workers_CordonWorker_FullMethodName:  operate,
		rotav1.Workers_DrainWorker_FullMethodName:   operate,
		rotav1.Workers_UndrainWorker_FullMethodName: operate,

		rotav1.Cluster_GetStatus_FullMethodName:      see,
		rotav1.Cluster_GetPlan_FullMethodName:        see,
		rotav1.Cluster_NotifySchedule_FullMethodName: operate,

		rotav1.Jobs_ListJobs_FullMethodName:   see,
		rotav1.Jobs_GetJob_FullMethodName:     see,
		rotav1.Jobs_WatchJobs_FullMethodName:  see,
		rotav1.Jobs_ReadOutput_FullMethodName: see,
		rotav1.Jobs_RunJob_FullMethodName:     submit,
		rotav1.Jobs_StopJob_FullMethodName:    submit,
		rotav1.Jobs_RetryJob_FullMethodName:   submit,
		rotav1.Jobs_DeleteJob_FullMethodName:  submit,

		rotav1.Programs_ListPrograms_FullMethodName:  see,
		rotav1.Programs_GetProgram_FullMethodName:    see,
		rotav1.Programs_StopProgram_FullMethodName:   {Role: auth.Submitter, Writes: true},
		rotav1.Programs_AttachProgram_FullMethodName: {Role: auth.Submitter, Worker: true, Writes: true},
		LinkMethod: {Role: auth.Submitter, Worker: true}, // scheduler functions, and the workers of their tasks

		rotav1.Sessions_Connect_FullMethodName:    worker,
		rotav1.Sessions_ReportExit_FullMethodName: {Worker: true, Writes: true},
		rotav1.JobWork_Connect_FullMethodName:     worker,
		rotav1.JobWork_PushOutput_FullMethodName:  worker,

		// An old worker shows no certificate and no token, so behind credentials
		// it can only register with a token that somebody gives to a proxy of it. No
		// certificate is good for this: it names a worker, and the call any address.
		jobschedulerv1.Scheduler_RegisterWorker_FullMethodName:   operate,
		jobschedulerv1.Scheduler_DeregisterWorker_FullMethodName: operate,
		jobscheduler.StartMethod:                                 submit,
		jobscheduler.StopMethod:                                  submit,
		jobscheduler.QueryMethod:                                 see,
		jobscheduler.StreamMethod:                                see,

		healthv1.Health_Check_FullMethodName:                                   {Public: true, Probe: true},
		healthv1.Health_List_FullMethodName:                                    {Public: true, Probe: true},
		healthv1.Health_Watch_FullMethodName:                                   see, // a stream is worth holding against somebody
		reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName:      see,
		reflectionv1alpha.ServerReflection_ServerReflectionInfo_FullMethodName: see,

		CallMethod:        {Role: auth.Submitter, Writes: true, Kind: auth.CallKind},
		api.MetricsMethod: see,
		api.ConsoleMethod: {Public: true}, // the page itself holds nothing; what it asks for is asked with a token
		api.OpenAPIMethod: {Public: true},
		api.AliveMethod:   {Public: true, Probe: true},
		api.ReadyMethod:   {Public: true, Probe: true},
	}
}
