package gatewaycli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	admin "github.com/rota-project/rota/cmd/rota/internal/gatewayadmin"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/internal/userdir"
)

// routeFlags say which gateway to ask, and how to print.
type routeFlags struct{ addr, tokenFile, output string }

func (f *routeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.addr, "gateway", "localhost:9080", "`ADDRESS` of the gateway: host:port, https://host:port, or unix:PATH of its admin socket")
	cmd.Flags().StringVar(&f.tokenFile, "gateway-token-file", "", "`FILE` with the admin token, for a gateway on another machine or of another user")
	// The program may have the flag for all of its commands already.
	if cmd.InheritedFlags().Lookup("output") == nil {
		cmd.Flags().StringVarP(&f.output, "output", "o", "table", "table, json or jsonl")
	}
}

// ask asks the gateway's admin side.
func (f *routeFlags) ask(ctx context.Context, path string, to io.Writer) error {
	token := ""
	if f.tokenFile != "" {
		var err error
		if token, err = userdir.Secret(f.tokenFile); err != nil {
			return usagef("gateway-token-file: %w", err)
		}
	}
	g, err := admin.Find(f.addr, token)
	if err != nil {
		return &usageError{err}
	}
	return g.Ask(ctx, http.MethodGet, path, to)
}

func (f *routeFlags) format(cmd *cobra.Command) (string, error) {
	out := f.output
	if fl := cmd.Flags().Lookup("output"); fl != nil {
		out = fl.Value.String()
	}
	switch out {
	case "", "table":
		return "table", nil
	case "json", "jsonl":
		return out, nil
	}
	return "", usagef("output: %q: want table, json or jsonl", out)
}

func routeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "route",
		Short: "Show how a gateway routes function calls",
		Args: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("%s needs list, get or failures", cmd.CommandPath())
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	var lf, gf, ff routeFlags
	var function string
	list := &cobra.Command{
		Use: "list", Short: "List functions, their calls and latencies", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return routeList(cmd, &lf) },
	}
	get := &cobra.Command{
		Use: "get FUNCTION", Short: "Show which workers can take a call of a function, and why others cannot", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return routeGet(cmd, &gf, args[0]) },
	}
	failures := &cobra.Command{
		Use:   "failures [ID]",
		Short: "List calls that failed recently, or show each attempt of one",
		Long: "List, newest first, recent calls that failed through the fault of a worker or of the gateway, and each\n" +
			"function's last calls that failed through the fault of the client or that it answered with 500 or above.\n" +
			"With ID, the X-Request-Id of the failed answer or of the caller's request, show each attempt of that\n" +
			"call: its worker, the bytes sent and read, how it ended, and why no other worker was tried.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return routeFailures(cmd, &ff, function, args) },
	}
	lf.add(list)
	gf.add(get)
	ff.add(failures)
	failures.Flags().StringVar(&function, "function", "", "show only calls of the function `NAME`")
	cmd.AddCommand(list, get, failures)
	return cmd
}

func routeList(cmd *cobra.Command, f *routeFlags) error {
	format, err := f.format(cmd)
	if err != nil {
		return err
	}
	var body bytes.Buffer
	if err := f.ask(cmd.Context(), "/api/v1/routes", &body); err != nil {
		return err
	}
	var routes []gateway.RouteStatus
	if err := json.Unmarshal(body.Bytes(), &routes); err != nil {
		return fmt.Errorf("gateway at %s: its answer: %w", f.addr, err)
	}
	out := cmd.OutOrStdout()
	switch format {
	case "json":
		return printJSON(out, routes)
	case "jsonl":
		for _, r := range routes {
			if err := json.NewEncoder(out).Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	t := terminal.NewTable("FUNCTION", "BALANCER", ">WORKERS", ">CALLS", ">ERRORS", ">RETRIES", ">REFUSED", ">IN FLIGHT", ">WAITING", ">P50 MS", ">P99 MS")
	for _, r := range routes {
		may := 0
		for _, x := range r.Workers {
			if x.May {
				may++
			}
		}
		t.Add(r.Function, r.Balancer, fmt.Sprintf("%d/%d", may, len(r.Workers)), fmt.Sprint(r.Calls), fmt.Sprint(r.Errors), fmt.Sprint(r.Retries), fmt.Sprint(r.Refused),
			fmt.Sprint(r.InFlight), fmt.Sprint(r.Waiting), ms(r.P50MS), ms(r.P99MS))
	}
	return t.Write(out, nil)
}

func routeGet(cmd *cobra.Command, f *routeFlags, name string) error {
	format, err := f.format(cmd)
	if err != nil {
		return err
	}
	var body bytes.Buffer
	if err := f.ask(cmd.Context(), "/api/v1/routes/"+url.PathEscape(name), &body); err != nil {
		return err
	}
	var r gateway.RouteStatus
	if err := json.Unmarshal(body.Bytes(), &r); err != nil {
		return fmt.Errorf("gateway at %s: its answer: %w", f.addr, err)
	}
	out := cmd.OutOrStdout()
	switch format {
	case "json":
		return printJSON(out, r)
	case "jsonl":
		return json.NewEncoder(out).Encode(r)
	}
	next := r.Next
	if next == "" {
		next = "nobody"
	}
	lines := [][2]string{
		{"function", r.Function},
		{"balancer", r.Balancer},
		{"packages", strings.Join(r.Packages, " ")},
		{"paths", strings.Join(r.Paths, " ")},
		{"next", next},
	}
	if r.Guard != "" {
		lines = append(lines, [2]string{"guard", r.Guard})
	}
	if r.Split != nil {
		lines = append(lines, [2]string{"split", splitText(r.Split)})
	}
	if err := fields(out, lines...); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	t := terminal.NewTable("WORKER", "STATE", "MAY", ">IN FLIGHT", ">CALLS", ">FAILURES", "WHY NOT")
	for _, x := range r.Workers {
		may := "yes"
		if !x.May {
			may = "no"
		}
		t.Add(x.Name, x.State, may, fmt.Sprint(x.InFlight), fmt.Sprint(x.Calls), fmt.Sprint(x.Failures), x.Why)
	}
	if err := t.Write(out, nil); err != nil || len(r.Failures) == 0 {
		return err
	}
	if _, err := fmt.Fprint(out, "\nlast failures\n"); err != nil {
		return err
	}
	return failureTable(out, r.Failures)
}

// splitText says with what other function the calls are shared.
func splitText(s *gateway.SplitStatus) string {
	text := fmt.Sprintf("%g%% to %s, %d of %d calls until now", 100*s.Share, s.To, s.Sent, s.Calls)
	if s.Sticky != "" {
		text += ", by " + s.Sticky
	}
	return text
}

func ms(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }

// fields prints names and values.
func fields(out io.Writer, lines ...[2]string) error {
	for _, l := range lines {
		if _, err := fmt.Fprintf(out, "%-9s %s\n", l[0], terminal.Printable(l[1])); err != nil {
			return err
		}
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
