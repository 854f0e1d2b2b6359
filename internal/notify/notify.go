package role

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notify tells a service manager that listens for it (sd_notify, Type=notify)
// that the role is ready, and from then on, if it watches, that it is alive:
// until ctx ends or alive says no, after which the manager may start it anew.
// Without a manager it does nothing. A worker is a child of its keeper or
// supervisor, so its unit wants NotifyAccess=all.
func notify(ctx context.Context, log *slog.Logger, alive func() bool) {
	say := func(state string) bool {
		sent, err := daemon.SdNotify(false, state)
		if err != nil {
			log.Warn("the service manager was not told", "state", state, "error", err)
		}
		return sent
	}
	if !say(daemon.SdNotifyReady) {
		return
	}
	context.AfterFunc(ctx, func() { say(daemon.SdNotifyStopping) })
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
					say(daemon.SdNotifyWatchdog)
				}
			}
		}
	}()
}
