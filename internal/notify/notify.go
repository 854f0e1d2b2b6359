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

// Ready says that the role serves, and from then on, if the manager watches, that
// it is alive: until ctx ends or alive says no, after which the manager may start
// it anew. A worker is a child of its keeper, so its unit wants NotifyAccess=all.
func Ready(ctx context.Context, log *slog.Logger, alive func() bool) {
	if !say(log, daemon.SdNotifyReady) {
		return
	}
	context.AfterFunc(ctx, func() { say(log, daemon.SdNotifyStopping) })
	if os.Getenv("WATCHDOG_PID") == strconv.Itoa(os.Getppid()) {
		_ = os.Unsetenv("WATCHDOG_PID") // it is meant for this child of it
	}
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		if err != nil {
			log.Warn("the service manager's watchdog is off", "error", err)
		}
		return
	}
	go func() {
		tick := time.NewTicker(every / 2)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if alive() {
					say(log, daemon.SdNotifyWatchdog)
				}
			}
		}
	}()
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
