package gatewaycli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rota-project/rota/cmd/rota/internal/terminal"
	"github.com/rota-project/rota/gateway"
)

// routeFailures prints the calls that failed lately, of a function if it has a name,
// or the attempts of the one whose id is in args.
func routeFailures(cmd *cobra.Command, f *routeFlags, function string, args []string) error {
	format, err := f.format(cmd)
	if err != nil {
		return err
	}
	q := url.Values{}
	if function != "" {
		q.Set("function", function)
	}
	if len(args) > 0 {
		if args[0] == "" {
			return usagef("id: empty: want the X-Request-Id of a failed call")
		}
		q.Set("id", args[0])
	}
	var body bytes.Buffer
	if err := f.ask(cmd.Context(), "/api/v1/failures?"+q.Encode(), &body); err != nil {
		return err
	}
	var failures []gateway.Failure
	if err := json.Unmarshal(body.Bytes(), &failures); err != nil {
		return fmt.Errorf("gateway at %s: its answer: %w", f.addr, err)
	}
	if len(args) > 0 && len(failures) == 0 {
		return fmt.Errorf("gateway at %s: id: %q: no failed call with that id is known", f.addr, args[0])
	}
	out := cmd.OutOrStdout()
	switch {
	case format == "json":
		return printJSON(out, failures)
	case format == "jsonl":
		for _, x := range failures {
			if err := json.NewEncoder(out).Encode(x); err != nil {
				return err
			}
		}
		return nil
	case len(args) == 0:
		return failureTable(out, failures)
	}
	for i, x := range failures {
		if err := failure(out, x, i > 0); err != nil {
			return err
		}
	}
	return nil
}

func failureTable(out io.Writer, failures []gateway.Failure) error {
	t := terminal.NewTable("TIME", "ID", "FUNCTION", "CALL", ">STATUS", "CAUSE", "BLAME", ">TOOK MS", "WORKERS", "ERROR")
	for _, x := range failures {
		var workers []string
		for _, a := range x.Attempts {
			workers = append(workers, a.Worker)
		}
		t.Add(x.Time.Format(time.RFC3339), x.ID, x.Function, x.Method+" "+x.Target, strconv.Itoa(x.Status), causeText(x.Cause), x.Blame, ms(x.TookMS),
			strings.Join(workers, " "), x.Error)
	}
	return t.Write(out, nil)
}

// causeText is how a call or an attempt among the failed ones ended: what ended well, the
// function has itself answered with an error.
func causeText(cause string) string {
	if cause == "ok" {
		return "own answer"
	}
	return cause
}

// failure prints one call with its attempts.
func failure(out io.Writer, x gateway.Failure, more bool) error {
	if more {
		if _, err := fmt.Fprintln(out); err != nil {
			return err
		}
	}
	cause := causeText(x.Cause)
	if x.Blame != "" {
		cause += " (" + x.Blame + ")"
	}
	lines := [][2]string{
		{"id", x.ID},
		{"time", x.Time.Format(time.RFC3339Nano)},
		{"function", x.Function},
		{"client", x.Client},
		{"call", x.Method + " " + x.Target},
		{"status", strconv.Itoa(x.Status)},
		{"cause", cause},
		{"took", ms(x.TookMS) + " ms"},
	}
	for _, more := range [][2]string{{"trace", x.Trace}, {"error", x.Error}} {
		if more[1] != "" {
			lines = append(lines, more)
		}
	}
	if len(x.Attempts) == 0 {
		return fields(out, append(lines, [2]string{"attempts", "none: the call went to no worker"})...)
	}
	if err := fields(out, lines...); err != nil {
		return err
	}
	t := terminal.NewTable("WORKER", ">AFTER MS", ">TOOK MS", ">SENT", ">READ", "REUSED", ">STATUS", "CAUSE", "VERDICT", "ERROR")
	for _, a := range x.Attempts {
		reused, status := "no", "-"
		if a.Reused {
			reused = "yes"
		}
		if a.Status != 0 {
			status = strconv.Itoa(a.Status)
		}
		t.Add(a.Worker, ms(a.AfterMS), ms(a.TookMS), strconv.FormatInt(a.Sent, 10), strconv.FormatInt(a.Read, 10), reused, status, causeText(a.Cause), a.Verdict, a.Error)
	}
	return t.Write(out, nil)
}
