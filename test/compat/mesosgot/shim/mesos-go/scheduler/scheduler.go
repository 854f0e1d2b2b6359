// Package scheduler stands in the place of mesos-go's when programs of a user's
// checkout are tried unchanged: it has the driver of compat/mesosgot.
package scheduler

import "github.com/rota-project/rota/compat/mesosgot"

type (
	// DriverConfig is mesosgot.SchedulerConfig.
	DriverConfig = mesosgot.SchedulerConfig
	// MesosSchedulerDriver is mesosgot.SchedulerDriver.
	MesosSchedulerDriver = mesosgot.SchedulerDriver
)

// NewMesosSchedulerDriver returns the driver of a program.
func NewMesosSchedulerDriver(c DriverConfig) (*MesosSchedulerDriver, error) {
	return mesosgot.NewMesosSchedulerDriver(c)
}
