//go:build darwin || freebsd

package process

import (
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
