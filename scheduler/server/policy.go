package server

import (
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/rest"
	jobschedulerv1 "github.com/rota-project/rota/internal/compat/jobscheduler/v1"
	"github.com/rota-project/rota/internal/compat/schedulerworker"
	"github.com/rota-project/rota/scheduler/internal/jobs"
	"github.com/rota-project/rota/scheduler/internal/kind"
	"github.com/rota-project/rota/scheduler/internal/signin"

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
// no gRPC method, under a name of its own. What is not here nobody may call. Kinds of
// work bring their own part of it.
func Policy() auth.Policy {
	p, err := policyWith(kind.Kind{Policy: jobs.Policy()})
	if err != nil {
		return nil // nobody may call anything
	}
	return p
}

// policyWith is the policy of a scheduler with kinds of work. No kind changes who may call
// what is not its own.
func policyWith(kinds ...kind.Kind) (auth.Policy, error) {
	tables := []auth.Policy{ownPolicy()}
	for _, k := range kinds {
		tables = append(tables, k.Policy)
	}
	return auth.Merge(tables...)
}

func ownPolicy() auth.Policy {
	see, worker := auth.Rule{Role: auth.Viewer}, auth.Rule{Worker: true}
	relayed := auth.Rule{Role: auth.Viewer, Scheduler: true} // one that has let somebody in asks the one that has the worker
	submit := auth.Rule{Role: auth.Submitter, Writes: true, Kind: auth.JobKind}
	declare := auth.Rule{Role: auth.Operator, Writes: true} // the service asks about each task
	operate := auth.Rule{Role: auth.Operator, Writes: true, Kind: auth.AllKinds}
	return auth.Policy{
		rotav1.Tasks_ListTasks_FullMethodName:    see,
		rotav1.Tasks_GetTask_FullMethodName:      see,
		rotav1.Tasks_Why_FullMethodName:          see,
		rotav1.Tasks_WatchTasks_FullMethodName:   see,
		rotav1.Tasks_ReadTaskLogs_FullMethodName: relayed,
		rotav1.Tasks_ReadTasks_FullMethodName:    see, // it tells what was sent
		rotav1.Tasks_ApplyTasks_FullMethodName:   declare,
		rotav1.Tasks_DeleteTasks_FullMethodName:  declare,
		rotav1.Tasks_ReleaseTask_FullMethodName:  declare,

		rotav1.Workers_ListWorkers_FullMethodName:   see,
		rotav1.Workers_GetWorker_FullMethodName:     see,
		rotav1.Workers_GetStoppable_FullMethodName:  see,
		rotav1.Workers_WatchWorkers_FullMethodName:  see,
		rotav1.Workers_CordonWorker_FullMethodName:  operate,
		rotav1.Workers_DrainWorker_FullMethodName:   operate,
		rotav1.Workers_UndrainWorker_FullMethodName: operate,
		rotav1.Workers_ForgetWorker_FullMethodName:  operate,

		rotav1.Cluster_GetStatus_FullMethodName:      see,
		rotav1.Cluster_GetPlan_FullMethodName:        see,
		rotav1.Cluster_NotifySchedule_FullMethodName: operate,
		rotav1.Cluster_ConfirmList_FullMethodName:    operate,

		rotav1.Members_ListMembers_FullMethodName:  see,
		rotav1.Members_Backup_FullMethodName:       {Role: auth.Admin, Writes: true, Kind: auth.AllKinds}, // it changes nothing, and is audited
		rotav1.Members_RemoveMember_FullMethodName: {Role: auth.Admin, Writes: true, Kind: auth.AllKinds},

		rotav1.Events_ListEvents_FullMethodName:  see,
		rotav1.Events_WatchEvents_FullMethodName: see,

		rotav1.Programs_ListPrograms_FullMethodName:  see,
		rotav1.Programs_GetProgram_FullMethodName:    see,
		rotav1.Programs_StopProgram_FullMethodName:   {Role: auth.Submitter, Writes: true},
		rotav1.Programs_AttachProgram_FullMethodName: {Role: auth.Submitter, Worker: true, Writes: true},
		LinkMethod: {Role: auth.Submitter, Worker: true}, // scheduler functions, and the workers of their tasks

		// An engine starts programs: on this machine, or as the user that this process is.
		rotav1.Functions_ListFunctions_FullMethodName: see,
		rotav1.Functions_GetFunction_FullMethodName:   see,

		rotav1.Pools_ListPools_FullMethodName:  see,
		rotav1.Pools_GetPool_FullMethodName:    see,
		rotav1.Pools_ApplyPools_FullMethodName: {Role: auth.Admin, Writes: true, Kind: auth.AllKinds},
		rotav1.Pools_ScalePool_FullMethodName:  operate,
		rotav1.Pools_DeletePool_FullMethodName: operate,

		// Whoever has a join token has no other credentials yet.
		rotav1.PoolJoin_JoinWorker_FullMethodName:  {Public: true, Unrated: true, Writes: true},
		rotav1.PoolJoin_RenewWorker_FullMethodName: {Worker: true, Writes: true},

		rotav1.Sessions_Connect_FullMethodName:    worker,
		rotav1.Sessions_ReportExit_FullMethodName: {Worker: true, Writes: true},

		// An old worker shows no certificate and no token, so behind credentials
		// it can only register with a token that somebody gives to a proxy of it. No
		// certificate is good for this: it names a worker, and the call any address.
		jobschedulerv1.Scheduler_RegisterWorker_FullMethodName:   operate,
		jobschedulerv1.Scheduler_DeregisterWorker_FullMethodName: operate,
		schedulerworker.StartMethod:                              submit,
		schedulerworker.StopMethod:                               submit,
		schedulerworker.QueryMethod:                              see,
		schedulerworker.StreamMethod:                             see,

		healthv1.Health_Check_FullMethodName:                                   {Public: true, Unrated: true},
		healthv1.Health_List_FullMethodName:                                    {Public: true, Unrated: true},
		healthv1.Health_Watch_FullMethodName:                                   see, // a stream is worth holding against somebody
		reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName:      see,
		reflectionv1alpha.ServerReflection_ServerReflectionInfo_FullMethodName: see,

		CallMethod:         {Role: auth.Submitter, Writes: true, Kind: auth.CallKind},
		rest.MetricsMethod: see,
		// Profiles show what is in memory and may slow the process down; logs say who did what.
		rest.DebugMethod:   {Role: auth.Admin},
		rest.ConsoleMethod: {Public: true}, // the page itself holds nothing; what it asks for is asked with a token
		rest.OpenAPIMethod: {Public: true},

		// Signing in is what one shows credentials for; a code and an issuer's answer are
		// some, of which nobody but the handler knows. Signing out ends only what the
		// request itself brings.
		signin.WaysMethod:                              {Public: true},
		signin.SignInMethod:                            {Role: auth.Viewer, Writes: true},
		signin.ByCodeMethod:                            {Public: true},
		signin.ByOIDCMethod:                            {Public: true},
		signin.SignOutMethod:                           {Public: true},
		signin.WhoAmIMethod:                            see,
		rotav1.SignIns_CreateSignInCode_FullMethodName: see, // it audits itself

		rest.AliveMethod: {Public: true, Unrated: true},
		rest.ReadyMethod: {Public: true, Unrated: true},
	}
}
