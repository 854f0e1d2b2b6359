package role

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/internal/ending"
	"github.com/rota-project/rota/internal/logs"
	"github.com/rota-project/rota/internal/process"
	"github.com/rota-project/rota/internal/worker/supervise"

	"google.golang.org/grpc"
)

// Kept reports whether this process is a worker that has a keeper.
func Kept() bool { return os.Getenv(supervise.KeptEnv) != "" }

// KeepWorker runs the same command as a child that it keeps, until ctx ends. An
// end of the worker that was not well is a *supervise.EndedError. What the worker
// writes goes past the keeper.
func KeepWorker(ctx context.Context, c *config.Worker, logTo io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	report, closeConns, err := exitReporter(c)
	if err != nil {
		return err
	}
	defer closeConns()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, passedOn...)
	defer signal.Stop(signals)
	defer ending.Left(func() string {
		process.KillAll()
		return "worker " + c.Name + " and all that it ran were killed"
	})()
	debug.SetGCPercent(keeperGC)
	forget := time.AfterFunc(startedAfter, func() {
		debug.FreeOSMemory()
		forgetStart()
	})
	defer forget.Stop()
	again := supervise.Never
	if c.Supervise {
		again = supervise.Always
	}
	return supervise.Run(ctx, supervise.Config{
		Name: c.Name, Argv: append([]string{self}, os.Args[1:]...), Env: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr, Restart: again,
		Exited: report, Grace: leaveTime(c) + stopTimeout, Logger: logger(c.Log, logTo), Signals: signals,
	})
}

// keeperGC keeps the heap of a keeper small: it has next to nothing on it.
const keeperGC = 20

// dieWithKeeper ends the worker when its keeper is gone. That is the worker's
// death: all that it has started is killed, nothing is handed over, jobs are lost.
func dieWithKeeper(link *supervise.Link, jobs *jobs, log *slog.Logger) {
	if link == nil {
		return
	}
	go func() {
		<-link.Lost()
		log.Error("the keeper is gone; the worker exits")
		logs.Last("rota: the keeper is gone; the worker exits") // the log's queue is not waited for
		jobs.die()
		process.KillAll()
		os.Exit(1)
	}()
}

// exitReporter tells whichever scheduler answers that a worker is dead.
func exitReporter(c *config.Worker) (report func(context.Context, string) error, done func(), err error) {
	to, err := newTowards(c)
	if err != nil {
		return nil, nil, err
	}
	name := c.Name
	var conns []*grpc.ClientConn
	done = func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	for _, address := range c.Schedulers {
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(to.credentials()))
		if err != nil {
			done()
			return nil, nil, fmt.Errorf("scheduler %s: %w", address, err)
		}
		conns = append(conns, conn)
	}
	return func(ctx context.Context, incarnation string) (err error) {
		for _, conn := range conns {
			one, cancel := context.WithTimeout(ctx, time.Second)
			_, e := rotav1.NewSessionsClient(conn).ReportExit(one, &rotav1.ReportExitRequest{Name: name, Incarnation: incarnation})
			cancel()
			if e == nil {
				return nil
			}
			err = errors.Join(err, e)
		}
		return err
	}, done, nil
}
