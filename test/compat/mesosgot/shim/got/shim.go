package mesosgot

import "github.com/rota-project/rota/compat/mesosgot"

type (
	// AppSchedulerFunc is mesosgot.AppSchedulerFunc.
	AppSchedulerFunc = mesosgot.AppSchedulerFunc
	// AppSchedulerTask is mesosgot.AppSchedulerTask.
	AppSchedulerTask = mesosgot.AppSchedulerTask
	// AppTask is mesosgot.AppTask.
	AppTask = mesosgot.AppTask
	// AppTaskExecutor is mesosgot.AppTaskExecutor.
	AppTaskExecutor = mesosgot.AppTaskExecutor
	// AppTaskFunc is mesosgot.AppTaskFunc.
	AppTaskFunc = mesosgot.AppTaskFunc
	// AppTaskResourceInfo is mesosgot.AppTaskResourceInfo.
	AppTaskResourceInfo = mesosgot.AppTaskResourceInfo
	// AppTaskScheduler is mesosgot.AppTaskScheduler.
	AppTaskScheduler = mesosgot.AppTaskScheduler
	// DefAppTaskExecutor is mesosgot.DefAppTaskExecutor.
	DefAppTaskExecutor = mesosgot.DefAppTaskExecutor
	// DefAppTaskScheduler is mesosgot.DefAppTaskScheduler.
	DefAppTaskScheduler = mesosgot.DefAppTaskScheduler
	// GoTaskExecutor is mesosgot.GoTaskExecutor.
	GoTaskExecutor = mesosgot.GoTaskExecutor
	// GoTaskMsg is mesosgot.GoTaskMsg.
	GoTaskMsg = mesosgot.GoTaskMsg
	// GoTaskSchedConfig is mesosgot.GoTaskSchedConfig.
	GoTaskSchedConfig = mesosgot.GoTaskSchedConfig
	// GoTaskScheduler is mesosgot.GoTaskScheduler.
	GoTaskScheduler = mesosgot.GoTaskScheduler
	// SchedEvent is mesosgot.SchedEvent.
	SchedEvent = mesosgot.SchedEvent
	// SchedEventType is mesosgot.SchedEventType.
	SchedEventType = mesosgot.SchedEventType
)

// DefTaskChanLen is the length of the channels between functions and the program.
const DefTaskChanLen = mesosgot.DefTaskChanLen

// The types of event.
const (
	Registered         = mesosgot.Registered
	Reregistered       = mesosgot.Reregistered
	Disconnected       = mesosgot.Disconnected
	TaskLaunched       = mesosgot.TaskLaunched
	TaskRunning        = mesosgot.TaskRunning
	TaskFinished       = mesosgot.TaskFinished
	TaskFailed         = mesosgot.TaskFailed
	TaskKilled         = mesosgot.TaskKilled
	TaskLost           = mesosgot.TaskLost
	OfferRescinded     = mesosgot.OfferRescinded
	SlaveLost          = mesosgot.SlaveLost
	ExecutorLost       = mesosgot.ExecutorLost
	Shutdown           = mesosgot.Shutdown
	Error              = mesosgot.Error
	NumSchedEventTypes = mesosgot.NumSchedEventTypes
)

// EncodeMsg writes a message as text.
func EncodeMsg(m GoTaskMsg) (string, error) { return mesosgot.EncodeMsg(m) }

// DecodeMsg reads what EncodeMsg has written.
func DecodeMsg(s string) (GoTaskMsg, error) { return mesosgot.DecodeMsg(s) }

// LoadSchedulerConfig reads the command line's flags.
func LoadSchedulerConfig() *GoTaskSchedConfig { return mesosgot.LoadSchedulerConfig() }

// NewDefAppTaskExecutor returns one without tasks.
func NewDefAppTaskExecutor() *DefAppTaskExecutor { return mesosgot.NewDefAppTaskExecutor() }

// NewDefAppTaskScheduler returns one without tasks.
func NewDefAppTaskScheduler() *DefAppTaskScheduler { return mesosgot.NewDefAppTaskScheduler() }

// NewGoTaskExecutor returns an executor that runs tasks by e.
func NewGoTaskExecutor(e AppTaskExecutor) *GoTaskExecutor { return mesosgot.NewGoTaskExecutor(e) }

// NewGoTaskScheduler returns a program of s.
func NewGoTaskScheduler(user string, conf *GoTaskSchedConfig, s AppTaskScheduler) *GoTaskScheduler {
	return mesosgot.NewGoTaskScheduler(user, conf, s)
}
