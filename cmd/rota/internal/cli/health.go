package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/rota-project/rota/cmd/rota/internal/terminal"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func (a *app) healthCommand() *cobra.Command {
	var worker string
	c := &cobra.Command{
		Use:   "health",
		Short: "check a scheduler or a worker, for probes",
		Long: "Ask the scheduler at --server whether it serves or, with --worker, ask a worker whether it is ready.\n" +
			"The exit status is 0 if so, and 1 if not or if there is no answer. No credentials are needed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if worker != "" {
				return a.workerHealth(cmd.Context(), worker)
			}
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				r, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
				if err != nil {
					return err
				}
				if s := r.GetStatus(); s != healthpb.HealthCheckResponse_SERVING {
					return fmt.Errorf("the scheduler at %s does not serve: %s", a.server, strings.ToLower(s.String()))
				}
				_, err = fmt.Fprintf(a.env.Stdout, "the scheduler at %s serves\n", a.server)
				return err
			})
		},
	}
	c.Flags().StringVar(&worker, "worker", "", "ask the worker with this --http address instead, host:port")
	return c
}

// maxReason is how much of a worker's answer is shown, in bytes.
const maxReason = 1 << 10

// workerHealth asks a worker whether it is ready.
func (a *app) workerHealth(ctx context.Context, address string) error {
	if strings.ContainsAny(address, "/?#@ ") {
		return usagef("--worker: %s: want host:port", address)
	}
	ctx, cancel := context.WithTimeout(ctx, a.client.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", http.NoBody)
	if err != nil {
		return usagef("--worker: %s: want host:port", address)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	said, err := io.ReadAll(io.LimitReader(res.Body, maxReason))
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	text := terminal.Printable(strings.TrimSpace(string(said)))
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the worker at %s is not ready: %s", address, text)
	}
	_, err = fmt.Fprintf(a.env.Stdout, "the worker at %s is %s\n", address, text)
	return err
}
