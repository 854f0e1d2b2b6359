package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawn starts p.cmd.
func (p *Process) spawn(spec Spec) error {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if spec.Host {
		attr.Pdeathsig = syscall.SIGCONT
	}
	if u := spec.User; u.switches() {
		attr.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	}
	if p.cgroup != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(p.cgroup.dir.Fd())
	}
	limits := spec.Limits.rlimits()
	// A traced child stops at its exec, before its first instruction: that is
	// when its limits can be set and nothing has escaped them.
	attr.Ptrace = len(limits) > 0
	p.cmd.SysProcAttr = attr

	return theHost.spawn(p, !spec.Host && !spec.NewPrivileges, func() (int, error) {
		if err := p.cmd.Start(); err != nil {
			return 0, err
		}
		pid := p.cmd.Process.Pid
		if attr.Ptrace {
			if err := limitTraced(pid, limits); err != nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				_ = p.cmd.Wait()
				return 0, err
			}
		}
		return pid, nil
	})
}

// limitTraced sets the limits of a child that stopped at its exec and lets it go.
func limitTraced(pid int, limits []rlimit) error {
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &ws, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for exec: %w", err)
		}
		break
	}
	if !ws.Stopped() {
		return fmt.Errorf("ended before its limits were set: %v", ws)
	}
	for _, l := range limits {
		lim := unix.Rlimit{Cur: l.value, Max: l.value}
		if l.resource == unix.RLIMIT_CPU {
			lim.Max++ // SIGXCPU at the soft limit, SIGKILL a second later
		}
		if err := unix.Prlimit(pid, l.resource, &lim, nil); err != nil {
			return fmt.Errorf("set limit %d to %d: %w", l.resource, l.value, err)
		}
	}
	if err := syscall.PtraceDetach(pid); err != nil {
		return fmt.Errorf("let go: %w", err)
	}
	return nil
}

// waitExit returns when pid has ended, without reaping it. Thousands of
// processes wait on the poller; only where the kernel is too old for that does
// each take a thread.
func waitExit(pid int) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err == nil {
		f := os.NewFile(uintptr(fd), "pidfd")
		defer func() { _ = f.Close() }()
		if waitPoll(f) == nil {
			return
		}
	}
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func waitPoll(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = conn.Read(func(fd uintptr) bool {
		for {
			var info unix.Siginfo
			err := unix.Waitid(unix.P_PIDFD, int(fd), &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			result = err
			return err != nil || info.Signo != 0 // all zero while it runs
		}
	})
	if err != nil {
		return err
	}
	return result
}

// signalGroup sends sig to the group of pid.
func signalGroup(pid int, sig syscall.Signal) error { return syscall.Kill(-pid, sig) }

// resume lets a group go on that is stopped and cannot hear a signal.
func resume(pid int) { _ = syscall.Kill(-pid, syscall.SIGCONT) }
