// Package notify tells a service manager how a role of the rota binary is, by
// sd_notify(3): ready, alive, reloading, stopping. Without a manager (no
// NOTIFY_SOCKET) it does nothing; one that does not read holds nobody up.
package notify

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

const (
	// patience is how long a manager that does not read is waited for.
	patience = time.Second
	// again is when a manager that was not told that the role serves is told again.
	again = time.Second
)

// Run says that the role serves once ready says so, from then on, if the manager
// watches, that it is alive, for as long as alive says so, after which the manager may
// start it anew, and that it stops once ctx ends or stop is called. Stop returns when
// the manager has been told, or does not read: who ends the process calls it before. A
// worker is a child of its keeper, so its unit wants NotifyAccess=all.
func Run(ctx context.Context, log *slog.Logger, ready func(context.Context) bool, alive func() bool) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if os.Getenv(socketEnv) != "" && ready(ctx) {
			watch(ctx, log, say(log, daemon.SdNotifyReady), alive)
			say(log, daemon.SdNotifyStopping)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// watch says until ctx ends that the role serves, if the manager was not told, and that
// it is alive.
func watch(ctx context.Context, log *slog.Logger, told bool, alive func() bool) {
	if os.Getenv("WATCHDOG_PID") == strconv.Itoa(os.Getppid()) {
		_ = os.Unsetenv("WATCHDOG_PID") // it is meant for this child of it
	}
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the service manager's watchdog is off", "error", err)
	}
	var due <-chan time.Time // never, without a watchdog
	if err == nil && every > 0 {
		tick := time.NewTicker(every / 2)
		defer tick.Stop()
		due = tick.C
	}
	retry := time.NewTicker(again)
	defer retry.Stop()
	for {
		if told {
			retry.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-retry.C:
			told = say(slog.New(slog.DiscardHandler), daemon.SdNotifyReady) // the log has the first refusal
		case <-due:
			if told && alive() {
				say(log, daemon.SdNotifyWatchdog)
			}
		}
	}
}

// Reloading says that the role reads its configuration again while do does.
func Reloading(log *slog.Logger, do func()) {
	say(log, daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec())
	do()
	say(log, daemon.SdNotifyReady)
}

// socketEnv is where the manager listens: a path, or @ and an abstract name.
const socketEnv = "NOTIFY_SOCKET"

// say sends a state, and reports whether the manager has it.
func say(log *slog.Logger, state string) bool {
	to := os.Getenv(socketEnv)
	if to == "" {
		return false
	}
	err := send(to, state)
	if err != nil {
		log.Warn("the service manager was not told", "state", state, "error", err)
	}
	return err == nil
}

// send sends a state to a socket. It waits for a reader for no longer than patience.
func send(to, state string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: to, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return err
}
