// Package gatewaycli holds the gateway's part of the command line: start and
// workers, as olscheduler had them, gateway and route.
//
// cmd/rota adds what Commands returns to its root. Errors that are the user's
// have a method ExitStatus that returns 2. It must never do more than read files
// and flags, run a gateway or ask one.
package gatewaycli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/rota-project/rota"
	admin "github.com/rota-project/rota/cmd/rota/internal/gatewayadmin"
	"github.com/rota-project/rota/cmd/rota/internal/gatewayfile"
	"github.com/rota-project/rota/compat/olscheduler"
	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/internal/listener"
	"github.com/rota-project/rota/internal/logs"
	"github.com/rota-project/rota/internal/notify"
	"github.com/rota-project/rota/internal/userdir"
)

// Commands returns start, workers, gateway and route.
func Commands() []*cobra.Command {
	return []*cobra.Command{startCommand(), workersCommand(), gatewayCommand(), routeCommand()}
}

// RunsPart is the annotation of commands that run something until they are asked
// to end: what they write must not depend on whether somebody reads it.
const RunsPart = "runs-part"

// usageError is a wrong use of the command line or of a file.
type usageError struct{ err error }

func (e *usageError) Error() string   { return e.err.Error() }
func (e *usageError) Unwrap() error   { return e.err }
func (e *usageError) ExitStatus() int { return 2 }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func fileFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", "olscheduler.json", "olscheduler configuration `FILE`")
}

func startCommand() *cobra.Command {
	var file, tokenFile string
	var strict bool
	var lf logFlags
	var tf traceFlags
	cmd := &cobra.Command{
		Use:         "start [-c FILE]",
		Annotations: map[string]string{RunsPart: "yes"},
		Short:       "Run a gateway from an olscheduler file",
		Long: "Run a gateway without a cluster, from an olscheduler's JSON configuration file.\n" +
			"It proxies /runLambda/<name> and /run/<name> to the workers that the file lists,\n" +
			"and answers /status. It answers /admin/workers/add and remove to programs of the\n" +
			"same user on this machine, and to callers with the admin token.\n" +
			"Unknown keys are ignored with a warning, or refused with --strict.\n" +
			"SIGHUP reloads the file.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := lf.logger(cmd)
			if err != nil {
				return err
			}
			admit, err := admission(tokenFile)
			if err != nil {
				return err
			}
			load := func() (gateway.Config, error) {
				cfg, err := loadOlscheduler(file, strict, log)
				admit(&cfg)
				return cfg, err
			}
			cfg, err := load()
			if err != nil {
				return err
			}
			spans, err := tf.open(cmd, &cfg)
			if err != nil {
				return err
			}
			defer spans.Close()
			g, err := gateway.New(cfg)
			if err != nil {
				return &olscheduler.FileError{File: file, Err: err}
			}
			defer g.Close()
			defer onHangup(log, func() {
				cfg, err := load()
				gatewayfile.Reload(file, g, cfg, err, log)
			})()
			return run(cmd, g, cfg)
		},
	}
	fileFlag(cmd, &file)
	cmd.Flags().BoolVar(&strict, "strict", false, "refuse a file that has unknown keys")
	cmd.Flags().StringVar(&tokenFile, "admin-token-file", "", "`FILE` with the admin token; the port then requires it to add or remove workers")
	lf.add(cmd)
	tf.add(cmd)
	return cmd
}

// loadOlscheduler reads an olscheduler file, and warns of keys that mean nothing.
func loadOlscheduler(file string, strict bool, log *slog.Logger) (gateway.Config, error) {
	c, err := olscheduler.Load(file)
	if err != nil {
		return gateway.Config{}, err
	}
	if strict {
		if err := c.Strict(file); err != nil {
			return gateway.Config{}, err
		}
	}
	for _, k := range c.Unknown {
		log.Warn("unknown key is ignored", "file", file, "key", k)
	}
	c.Logger = log
	cfg, err := c.Gateway()
	if err != nil {
		return cfg, &olscheduler.FileError{File: file, Err: err}
	}
	return cfg, nil
}

// onHangup calls do when the process is told to look at its files again (SIGHUP),
// until stop is called.
func onHangup(log *slog.Logger, do func()) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-hangups:
				notify.Reloading(log, do)
			case <-ended:
				return
			}
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(ended)
		<-done
	}
}

// logFlags say how the log is written.
type logFlags struct{ format string }

func (f *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.format, "log-format", "text", "format of the log on stderr, access log included: text or json")
}

func (f *logFlags) logger(cmd *cobra.Command) (*slog.Logger, error) {
	if f.format != "text" && f.format != "json" {
		return nil, usagef("log-format: %q: want text or json", f.format)
	}
	return logs.Standard(logs.Logger(cmd.ErrOrStderr(), slog.LevelInfo, f.format)), nil
}

// admission says who may use the admin side of a gateway that rota start runs:
// whoever has the token of the file, or, without one, whoever has a token that is
// made here, and programs of this user.
func admission(tokenFile string) (func(*gateway.Config), error) {
	if tokenFile == "" {
		token := rand.Text()
		return func(c *gateway.Config) { c.LocalAdmin, c.AdminToken = true, token }, nil
	}
	token, err := userdir.Secret(tokenFile)
	if err != nil {
		return nil, usagef("admin-token-file: %w", err)
	}
	return func(c *gateway.Config) { c.AdminToken = token }, nil
}

// run listens, says where, and serves until the command's context ends.
func run(cmd *cobra.Command, g *gateway.Gateway, cfg gateway.Config) error {
	ctx := cmd.Context()
	lns, err := g.Listen(ctx)
	if err != nil {
		return err
	}
	done, err := openAdmin(cmd, g, cfg, lns[0].Addr())
	defer done()
	if err != nil {
		for _, ln := range lns {
			_ = ln.Close()
		}
		return err
	}
	for _, ln := range lns {
		fmt.Fprintf(cmd.ErrOrStderr(), "gateway on http://%s\n", ln.Addr()) //nolint:errcheck // nothing to be done
	}
	if cfg.Logger != nil {
		defer notify.Run(ctx, cfg.Logger, func(context.Context) bool { return true }, func() bool { return true })()
	}
	return g.ServeAll(ctx, lns)
}

// openAdmin opens the ways to the admin side that the configuration asks for.
func openAdmin(cmd *cobra.Command, g *gateway.Gateway, cfg gateway.Config, at net.Addr) (done func(), err error) {
	var closers []func()
	done = func() {
		for _, c := range closers {
			c()
		}
	}
	_, port, err := net.SplitHostPort(at.String())
	if err != nil {
		return done, err
	}
	if cfg.AdminSocket != "none" {
		stop, err := admin.Socket(cmd.Context(), g, cfg.AdminSocket, port, cfg.Logger)
		if err != nil {
			return done, &usageError{err}
		}
		closers = append(closers, stop)
	}
	if cfg.LocalAdmin {
		remove, err := admin.Token(cfg.AdminToken, port)
		if err != nil {
			cfg.Logger.Warn("cannot write the file with the admin token", "error", err)
		} else {
			closers = append(closers, remove)
		}
	}
	for i, addr := range cfg.AdminListen {
		ln, err := listener.TCP(cmd.Context(), addr)
		if err != nil {
			return done, fmt.Errorf("admin.listen[%d]: %w", i, err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "admin on http://%s\n", ln.Addr()) //nolint:errcheck // nothing to be done
		go func() { _ = g.ServeAdmin(ln) }()
	}
	return done, nil
}

func workersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "workers",
		Short: "Add or remove workers of a gateway that runs from an olscheduler file",
		Args: func(cmd *cobra.Command, args []string) error {
			return fmt.Errorf("%s needs add or remove", cmd.CommandPath())
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	for _, verb := range []string{"add", "remove"} {
		var file string
		sub := &cobra.Command{
			Use:   verb + " [-c FILE] URL...",
			Short: strings.ToUpper(verb[:1]) + verb[1:] + " workers of the running gateway that this file configures",
			Args:  cobra.MinimumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				c, err := olscheduler.Load(file)
				if err != nil {
					return err
				}
				q := url.Values{}
				for _, a := range args {
					if _, err := gateway.WorkerURL(a); err != nil {
						return usagef("worker %q: want %w", a, err)
					}
					q.Add("workers", a)
				}
				g, err := admin.Find(address(c.Host, c.Port), "")
				if err != nil {
					return err
				}
				return g.Ask(cmd.Context(), http.MethodPost, "/admin/workers/"+verb+"?"+q.Encode(), nil)
			},
		}
		fileFlag(sub, &file)
		cmd.AddCommand(sub)
	}
	return cmd
}

// address is where to reach a gateway that listens on host.
func address(host string, port int) string {
	switch host {
	case "", "0.0.0.0", "::":
		host = "localhost"
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// fieldError says which key of a file is wrong.
func fieldError(file string, err error) error {
	var fe *rota.FieldError
	if errors.As(err, &fe) {
		return &olscheduler.FileError{File: file, Err: err}
	}
	return &usageError{fmt.Errorf("%s: %w", file, err)}
}
