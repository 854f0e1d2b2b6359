// Package notify tells a service manager how a role of the rota binary is, by
// sd_notify(3): ready, alive, reloading, stopping. Without a manager that listens
// (no NOTIFY_SOCKET) it does nothing.
package notify

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Run says that the role serves once ready says so, from then on, if the manager
// watches, that it is alive, for as long as alive says so, after which the manager may
// start it anew, and that it stops once ctx ends or stop is called. Stop returns when
// the manager has been told: who ends the process calls it before. A worker is a child
// of its keeper, so its unit wants NotifyAccess=all.
func Run(ctx context.Context, log *slog.Logger, ready func(context.Context) bool, alive func() bool) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if ready(ctx) && say(log, daemon.SdNotifyReady) {
			watch(ctx, log, alive)
			say(log, daemon.SdNotifyStopping)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// watch says that the role is alive until ctx ends.
func watch(ctx context.Context, log *slog.Logger, alive func() bool) {
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
	for {
		select {
		case <-ctx.Done():
			return
		case <-due:
			if alive() {
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

// say sends a state, and reports whether somebody listens.
func say(log *slog.Logger, state string) bool {
	sent, err := daemon.SdNotify(false, state)
	if err != nil {
		log.Warn("the service manager was not told", "state", state, "error", err)
	}
	return sent
}
