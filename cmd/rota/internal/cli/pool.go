package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/internal/wholefile"
)

func poolsOf(conn *grpc.ClientConn) rotav1.PoolsClient { return rotav1.NewPoolsClient(conn) }

// poolCommand is the noun.
func (a *app) poolCommand() *cobra.Command {
	return group("pool", "pools of workers that an engine starts", a.poolApply(), a.poolList(), a.poolGet(), a.poolScale(), a.poolDelete())
}

func (a *app) poolApply() *cobra.Command {
	var files []string
	req := &rotav1.ApplyPoolsRequest{}
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "declare or change the pools of a file",
		Long: "Declare the pools of files (YAML or JSON; - for stdin), and change those already declared.\n" +
			"If one pool is invalid, nothing changes. docs/pools.md describes the fields.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(files) == 0 {
				return usagef("-f: want a file, or - for standard input")
			}
			for _, name := range files {
				pools, err := a.readPools(name)
				if err != nil {
					return err
				}
				for _, p := range pools {
					req.Pools = append(req.Pools, convert.PoolToProto(p))
				}
			}
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				resp, err := poolsOf(conn).ApplyPools(ctx, req)
				if err != nil {
					return err
				}
				return a.print(resp, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%d created, %d changed, %d unchanged%s\n", resp.GetCreated(), resp.GetChanged(), resp.GetUnchanged(), dryRunText(req.GetDryRun()))
					return err
				})
			})
		},
	}
	fs := c.Flags()
	fs.StringArrayVarP(&files, "file", "f", nil, "file of pools; - for stdin; repeatable")
	fs.BoolVar(&req.DryRun, "dry-run", false, "check the pools without declaring them")
	return c
}

func dryRunText(dry bool) string {
	if dry {
		return " (dry run: nothing was done)"
	}
	return ""
}

func (a *app) readPools(name string) ([]engine.Pool, error) {
	if name == "-" {
		data, err := io.ReadAll(io.LimitReader(a.env.Stdin, engine.MaxFile+1))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", stdinName, err)
		}
		return engine.Read(stdinName, data)
	}
	data, err := wholefile.Read(name, engine.MaxFile)
	if err != nil {
		return nil, err
	}
	return engine.Read(name, data)
}

func (a *app) poolList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list pools, their sizes and their states",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				resp, err := poolsOf(conn).ListPools(ctx, &rotav1.ListPoolsRequest{})
				if err != nil {
					return err
				}
				return printList(a, resp.GetPools(), func(w io.Writer) error {
					t := terminal.NewTable("POOL", "STATE", "ENGINE", "SIZE", ">DESIRED", ">STARTED", ">JOINED", "ERROR")
					for _, p := range resp.GetPools() {
						t.Add(p.GetDefinition().GetName(), p.GetState(), p.GetDefinition().GetEngine(), sizeText(p.GetDefinition().GetSize()),
							fmt.Sprint(p.GetDesired()), fmt.Sprint(p.GetStarted()), fmt.Sprint(p.GetJoined()), dash(p.GetError()))
					}
					return t.Write(w, a.paint())
				})
			})
		},
	}
}

func sizeText(s *rotav1.PoolSize) string {
	return engine.Size{From: int(s.GetFrom()), To: int(s.GetTo())}.String()
}

func (a *app) poolGet() *cobra.Command {
	return get(a, "get POOL", "show a pool: its definition, its workers and what is wrong", a.completePools, a.poolDetail, func(ctx context.Context, conn *grpc.ClientConn, name string) (*rotav1.Pool, error) {
		return poolsOf(conn).GetPool(ctx, &rotav1.GetPoolRequest{Name: name})
	})
}

func (a *app) poolDetail(w io.Writer, p *rotav1.Pool) error {
	t := terminal.NewTable("FIELD", "VALUE")
	for _, row := range fieldRows(p.GetDefinition().ProtoReflect()) {
		t.Add(row[0], row[1])
	}
	t.Add("state", p.GetState())
	t.Add("desired", fmt.Sprint(p.GetDesired()))
	t.Add("started", fmt.Sprint(p.GetStarted()))
	t.Add("joined", fmt.Sprint(p.GetJoined()))
	if p.GetError() != "" {
		t.Add("error", fmt.Sprintf("%s (%s ago, %s in a row)", p.GetError(), age(p.GetErrorTime().AsTime()), text.Count(p.GetFailures(), "failure", "failures")))
	}
	if p.GetState() == "failing" {
		t.Add("next try", p.GetRetryTime().AsTime().Local().Format("15:04:05"))
	}
	for _, note := range p.GetNotes() {
		t.Add("note", note)
	}
	if err := t.Write(w, nil); err != nil || len(p.GetWorkers()) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	list := terminal.NewTable("WORKER", "STATE", ">INSTANCES", "STARTED", "HANDLE", "ENDS", "DETAIL")
	for _, m := range p.GetWorkers() {
		ends := "-"
		if m.GetEnds() != nil {
			ends = m.GetEnds().AsTime().Local().Format("2006-01-02 15:04:05")
		}
		detail := m.GetWhy()
		if detail == "" {
			detail = m.GetDetail()
		}
		list.Add(m.GetName(), m.GetState(), fmt.Sprint(m.GetInstances()), age(m.GetAsked().AsTime()), dash(m.GetHandle()), ends, dash(detail))
	}
	return list.Write(w, a.paint())
}

func (a *app) poolScale() *cobra.Command {
	return &cobra.Command{
		Use:   "scale POOL SIZE",
		Short: "change the size of a pool",
		Long:  "Set the size of a pool: a number, or a range such as 2-10 within which the size follows the load.",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			size, err := parseSize(args[1])
			if err != nil {
				return err
			}
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				p, err := poolsOf(conn).ScalePool(ctx, &rotav1.ScalePoolRequest{Name: args[0], Size: size})
				if err != nil {
					return err
				}
				return a.print(p, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "pool %s: %s workers wanted, %d joined\n", terminal.Printable(args[0]), sizeText(p.GetDefinition().GetSize()), p.GetJoined())
					return err
				})
			})
		},
		ValidArgsFunction: a.completePools,
	}
}

// parseSize reads "3" and "2-10".
func parseSize(s string) (*rotav1.PoolSize, error) {
	from, to, ranged := strings.Cut(s, "-")
	if !ranged {
		to = from
	}
	f, err := strconv.ParseUint(from, 10, 31)
	t, err2 := strconv.ParseUint(to, 10, 31)
	if err != nil || err2 != nil {
		return nil, usagef("SIZE: %q: want a number such as 3, or a range such as 2-10", s)
	}
	return &rotav1.PoolSize{From: int64(f), To: int64(t)}, nil
}

func (a *app) poolDelete() *cobra.Command {
	return &cobra.Command{
		Use:   "delete POOL",
		Short: "drain and stop the workers of a pool, and delete it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				p, err := poolsOf(conn).DeletePool(ctx, &rotav1.DeletePoolRequest{Name: args[0]})
				if err != nil {
					return err
				}
				return a.print(p, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "pool %s is being deleted; %s to drain and stop\n", terminal.Printable(args[0]), text.Count(len(p.GetWorkers()), "worker", "workers"))
					return err
				})
			})
		},
		ValidArgsFunction: a.completePools,
	}
}

// completePools offers the names of pools to the shell.
func (a *app) completePools(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || a.globals(cmd.Root(), cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []string
	err := a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := poolsOf(conn).ListPools(ctx, &rotav1.ListPoolsRequest{})
		for _, p := range resp.GetPools() {
			if name := p.GetDefinition().GetName(); strings.HasPrefix(name, prefix) {
				found = append(found, name)
			}
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}
