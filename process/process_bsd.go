//go:build darwin || freebsd

package process

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"github.com/rota-project/rota"
)

// Away from Linux there is neither a parent-death signal nor a way to adopt
// descendants, or to find them: the group is all that is kept together.

// Sweep finds nothing on this system.
func Sweep() int { return 0 }

var theHost host

type host struct{ keeps sync.Once }

func (h *host) enter(*Process) (err error) {
	h.keeps.Do(func() { err = keepFiles() })
	return err
}

func (*host) leave(*Process)   {}
func (*host) end(*Process) int { return 0 }
func (*host) ask(*Process)     {}

func (p *Process) spawn(spec Spec) error {
	if spec.Limits != (Limits{}) {
		return &rota.FieldError{Field: "limits", Value: "set", Want: "none on this system"}
	}
	attr := &syscall.SysProcAttr{Setpgid: true}
	if u := spec.User; u != nil && (int(u.UID) != os.Geteuid() || int(u.GID) != os.Getegid()) {
		attr.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	}
	p.cmd.SysProcAttr = attr
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.pid = p.cmd.Process.Pid
	return nil
}

// signalGroup sends sig to the group of pid.
func signalGroup(pid int, sig syscall.Signal) error { return syscall.Kill(-pid, sig) }

// resume lets a group go on that is stopped and cannot hear a signal.
func resume(pid int) { _ = syscall.Kill(-pid, syscall.SIGCONT) }

// Cgroup does not exist on this system.
type Cgroup struct{}

// OpenCgroup says so.
func OpenCgroup(string) (*Cgroup, error) { return nil, errors.ErrUnsupported }

func (c *Cgroup) keeps(string) bool { return false }

// Possible refuses limits: this system has no way to set those of a child.
func (l Limits) Possible(cgroup *Cgroup, u *User) error {
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
