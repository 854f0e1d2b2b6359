package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/wholefile"
	"github.com/rota-project/rota/store/etcd"
)

func (a *app) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "copy the whole store into a file, for rota restore; admins only",
		Long: "Write a consistent copy of the whole store to a file that only its owner can read. rota restore reads it.\n\n" +
			"An existing FILE is replaced only when the copy is complete. The copy includes the payloads and arguments of tasks and jobs.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			size, err := a.backup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			a.say("backup of %d bytes in %s", size, args[0])
			return nil
		},
	}
}

// backup writes the store into a file, whole or not at all. It takes the time that it
// takes.
func (a *app) backup(ctx context.Context, file string) (size int64, err error) {
	conn, err := a.connect(ctx)
	if err != nil {
		return 0, err
	}
	stream, err := rotav1.NewMembersClient(conn).Backup(ctx, &rotav1.BackupRequest{})
	if err != nil {
		return 0, err
	}
	err = wholefile.Write(file, true, func(to *os.File) error {
		for {
			piece, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			n, err := to.Write(piece.GetData())
			if err != nil {
				return err
			}
			size += int64(n)
		}
		if err := etcd.CheckSnapshot(to.Name()); err != nil {
			return fmt.Errorf("the scheduler sent an incomplete backup; %s is unchanged: %w", file, err)
		}
		return nil
	})
	return size, err
}

func (a *app) restoreCommand() *cobra.Command {
	var cfg etcd.RestoreConfig
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "make a scheduler's data directory from a backup",
		Long: "Make a scheduler's data directory from a backup (rota backup, or etcdctl snapshot save).\n\n" +
			"Stop all schedulers of the old store first. With --name and --peer the scheduler becomes the first member of a new\n" +
			"cluster: start it with --cluster, and the others with empty data directories and --join. New generations and revisions\n" +
			"are greater than all earlier ones. The first start waits for one lease, so that all work from before has stopped.",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if (cfg.Name == "") != (cfg.Address == "") {
				return usagef("want both --name and --peer, or neither")
			}
			if cfg.Secure && cfg.Name == "" {
				return usagef("--tls: want --name and --peer too")
			}
			cfg.File = args[0]
			if err := etcd.Restore(cfg, time.Now()); err != nil {
				return err
			}
			a.say("%s is restored into %s", args[0], cfg.DataDir)
			return nil
		},
	}
	c.Flags().StringVar(&cfg.DataDir, "data-dir", "rota-data", "data directory to make; it must be empty or absent")
	c.Flags().StringVar(&cfg.Name, "name", "", "name of the scheduler, the first member of a cluster")
	c.Flags().StringVar(&cfg.Address, "peer", "", "peer address of the scheduler in --cluster, HOST:PORT")
	c.Flags().BoolVar(&cfg.Secure, "tls", false, "the cluster uses --tls")
	return c
}
