//go:build !linux

package process

import (
	"errors"

	"github.com/rota-project/rota"
)

// Cgroup does not exist on this system.
type Cgroup struct{}

// OpenCgroup says so.
func OpenCgroup(string) (*Cgroup, error) { return nil, errors.ErrUnsupported }

func (c *Cgroup) keeps(string) bool { return false }

// Possible refuses limits: this system has no way to set those of a child.
func (l Limits) Possible(*Cgroup, *User) error {
	if l != (Limits{}) {
		return &rota.FieldError{Field: "limits", Value: "set", Want: "none on this system"}
	}
	return nil
}

// Close does nothing.
func (c *Cgroup) Close() error { return nil }

type cgroupChild struct{}

func (c *Cgroup) child(uint64, Limits) (*cgroupChild, error) { return nil, errors.ErrUnsupported }
func (c *cgroupChild) kill()                                 {}
func (c *cgroupChild) remove()                               {}
