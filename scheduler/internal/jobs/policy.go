package jobs

import (
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
)

// Policy is who may call the methods of jobs.
func Policy() auth.Policy {
	see, worker := auth.Rule{Role: auth.Viewer}, auth.Rule{Worker: true}
	submit := auth.Rule{Role: auth.Submitter, Writes: true, Kind: auth.JobKind}
	return auth.Policy{
		rotav1.Jobs_ListJobs_FullMethodName:  see,
		rotav1.Jobs_GetJob_FullMethodName:    see,
		rotav1.Jobs_WatchJobs_FullMethodName: see,
		// It is for those who may run them.
		rotav1.Jobs_ListCommands_FullMethodName: {Role: auth.Submitter, Kind: auth.JobKind},
		// A scheduler that has let somebody in asks the one that has the worker.
		rotav1.Jobs_ReadOutput_FullMethodName: {Role: auth.Viewer, Scheduler: true},
		rotav1.Jobs_RunJob_FullMethodName:     submit,
		rotav1.Jobs_StopJob_FullMethodName:    submit,
		rotav1.Jobs_RetryJob_FullMethodName:   submit,
		rotav1.Jobs_DeleteJob_FullMethodName:  submit,

		// Whoever may run a job may have it run again and again.
		rotav1.JobSchedules_ListJobSchedules_FullMethodName:  see,
		rotav1.JobSchedules_GetJobSchedule_FullMethodName:    see,
		rotav1.JobSchedules_ApplyJobSchedules_FullMethodName: submit,
		rotav1.JobSchedules_PauseJobSchedule_FullMethodName:  submit,
		rotav1.JobSchedules_ResumeJobSchedule_FullMethodName: submit,
		rotav1.JobSchedules_RunJobSchedule_FullMethodName:    submit,
		rotav1.JobSchedules_DeleteJobSchedule_FullMethodName: submit,

		rotav1.JobWork_Connect_FullMethodName:    worker,
		rotav1.JobWork_PushOutput_FullMethodName: worker,
	}
}
