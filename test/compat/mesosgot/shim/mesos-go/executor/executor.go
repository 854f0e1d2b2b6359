// Package executor stands in the place of mesos-go's when programs of a user's checkout
// are tried unchanged: it has the driver of compat/mesosgot.
package executor

import "github.com/rota-project/rota/compat/mesosgot"

type (
	// DriverConfig is mesosgot.ExecutorConfig.
	DriverConfig = mesosgot.ExecutorConfig
	// MesosExecutorDriver is mesosgot.ExecutorDriver.
	MesosExecutorDriver = mesosgot.ExecutorDriver
)

// NewMesosExecutorDriver returns the driver of an executor.
func NewMesosExecutorDriver(c DriverConfig) (*MesosExecutorDriver, error) {
	return mesosgot.NewMesosExecutorDriver(c)
}
