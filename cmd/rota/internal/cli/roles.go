package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/cmd/rota/internal/role"
	"github.com/rota-project/rota/internal/worker/supervise"
)

func (a *app) schedulerCommand() *cobra.Command {
	c, opts := config.NewScheduler()
	return a.role(&cobra.Command{
		Use:   "scheduler",
		Short: "run a scheduler",
		Long: "Run a scheduler: it serves workers, the API and the console, and leads if it is elected.\n" +
			"Without --etcd and --cluster it runs an embedded etcd and is a cluster of one.",
	}, opts, func(ctx context.Context) error {
		c.AnyGateway = opts.Source("gateway") == config.FromDefault
		return role.Scheduler(ctx, c, opts, a.env.Stderr)
	})
}

func (a *app) workerRole(noun *cobra.Command) *cobra.Command {
	c, opts := config.NewWorker()
	noun.Long = "Run a worker: it runs the tasks that it is granted, as processes (--exec). " +
		"The subcommands show and control workers."
	return a.role(noun, opts, func(ctx context.Context) error {
		if !role.Kept() { // whoever keeps it has joined
			left, err := role.Join(ctx, c, opts.Source("name") != config.FromDefault, a.env.Stderr)
			if err != nil {
				return err
			}
			defer left()
		}
		if !a.env.Real || role.Kept() {
			return role.Worker(ctx, c, a.env.Stderr)
		}
		err := role.KeepWorker(ctx, c, a.env.Stderr)
		if ended := (*supervise.EndedError)(nil); errors.As(err, &ended) && ended.Said() {
			return &exitError{ended.ExitStatus()}
		}
		return err
	})
}

func (a *app) devCommand() *cobra.Command {
	c, opts := config.NewDev()
	return a.role(&cobra.Command{
		Use:   "dev",
		Short: "run a whole cluster on this machine, to try rota",
		Long: "Run an embedded etcd, a scheduler and workers on loopback. The tasks are 5,366 flight routes unless\n" +
			"--tasks names another list. The state is deleted at the end unless --data-dir keeps it.\n" +
			"--schedulers 3 runs a cluster of three schedulers. Each is a process of its own: kill one, and the\n" +
			"others go on.",
	}, opts, func(ctx context.Context) error {
		c.AnyHTTP = opts.Source("http") == config.FromDefault
		c.AnyGRPC = opts.Source("grpc") == config.FromDefault
		c.AnyGateway = opts.Source("gateway") == config.FromDefault
		c.ShowToken = a.env.Discreet
		return role.Dev(ctx, c, a.env.Stdout, a.env.Stderr)
	})
}
