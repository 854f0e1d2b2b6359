package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/gateway/admin"
	"github.com/rota-project/rota/internal/userdir"
)

// routeFlags say which gateway to ask, and how to print.
type routeFlags struct{ addr, tokenFile, output string }

func (f *routeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.addr, "gateway", "localhost:9080", "`ADDRESS` of the gateway: host:port, https://host:port, or unix:PATH of its admin socket")
	cmd.Flags().StringVar(&f.tokenFile, "gateway-token-file", "", "a `FILE` with the admin token, for a gateway of another machine or user")
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
		Short: "Say how a gateway routes the calls of functions",
		Args: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("%s needs list or get", cmd.CommandPath())
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	var lf, gf routeFlags
	list := &cobra.Command{
		Use: "list", Short: "List the functions, their calls and times", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return routeList(cmd, &lf) },
	}
	get := &cobra.Command{
		Use: "get FUNCTION", Short: "Say which worker would get a call of a function, which may not and why", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return routeGet(cmd, &gf, args[0]) },
	}
	lf.add(list)
	gf.add(get)
	cmd.AddCommand(list, get)
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
	return table(out, func(w io.Writer) {
		fmt.Fprintln(w, "FUNCTION\tBALANCER\tWORKERS\tCALLS\tERRORS\tRETRIES\tREFUSED\tIN FLIGHT\tWAITING\tP50 MS\tP99 MS") //nolint:errcheck // checked at Flush
		for _, r := range routes {
			may := 0
			for _, x := range r.Workers {
				if x.May {
					may++
				}
			}
			fmt.Fprintf(w, "%s\t%s\t%d/%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.2f\t%.2f\n", r.Function, r.Balancer, may, len(r.Workers), //nolint:errcheck // checked at Flush
				r.Calls, r.Errors, r.Retries, r.Refused, r.InFlight, r.Waiting, r.P50MS, r.P99MS)
		}
	})
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
	if _, err := fmt.Fprintf(out, "function  %s\nbalancer  %s\npackages  %s\npaths     %s\nnext      %s\n\n",
		r.Function, r.Balancer, strings.Join(r.Packages, " "), strings.Join(r.Paths, " "), next); err != nil {
		return err
	}
	if err := table(out, func(w io.Writer) {
		fmt.Fprintln(w, "WORKER\tSTATE\tMAY\tIN FLIGHT\tCALLS\tFAILURES\tWHY NOT") //nolint:errcheck // checked at Flush
		for _, x := range r.Workers {
			may := "yes"
			if !x.May {
				may = "no"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\n", x.Name, x.State, may, x.InFlight, x.Calls, x.Failures, x.Why) //nolint:errcheck // checked at Flush
		}
	}); err != nil || len(r.Failures) == 0 {
		return err
	}
	if _, err := fmt.Fprint(out, "\nlast failures\n"); err != nil {
		return err
	}
	return table(out, func(w io.Writer) {
		fmt.Fprintln(w, "TIME\tCALL\tSTATUS\tCAUSE\tBLAME\tWORKERS\tERROR") //nolint:errcheck // checked at Flush
		for _, x := range r.Failures {
			var workers []string
			for _, a := range x.Attempts {
				workers = append(workers, a.Worker)
			}
			fmt.Fprintf(w, "%s\t%s %s\t%d\t%s\t%s\t%s\t%s\n", x.Time.Format(time.RFC3339), x.Method, x.Target, x.Status, x.Cause, x.Blame, //nolint:errcheck // checked at Flush
				strings.Join(workers, " "), x.Error)
		}
	})
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func table(out io.Writer, rows func(io.Writer)) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	rows(w)
	return w.Flush()
}
