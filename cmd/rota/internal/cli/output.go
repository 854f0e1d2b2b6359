package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rota-project/rota/cmd/rota/internal/terminal"
	"github.com/rota-project/rota/internal/api/jsonpb"
)

// each calls f with all that comes on a stream, until it ends.
func each[M any](stream interface{ Recv() (M, error) }, f func(M) error) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = f(m)
		}
		if err != nil {
			return err
		}
	}
}

// pass writes what a process wrote where it wrote it: to stderr, or to stdout.
func (a *app) pass(stream string, data []byte) error {
	to := a.env.Stdout
	if stream == "stderr" {
		to = a.env.Stderr
	}
	_, err := to.Write(data)
	return err
}

// print writes one message: as JSON, or as table writes it.
func (a *app) print(m proto.Message, table func(io.Writer) error) error {
	if a.output == "table" {
		return table(a.env.Stdout)
	}
	line, err := jsonpb.Marshal(m)
	if err != nil {
		return err
	}
	return a.printJSON(line)
}

// printJSON writes a value indented (json) or on one line (jsonl).
func (a *app) printJSON(line []byte) error {
	if a.output == "jsonl" {
		_, err := a.env.Stdout.Write(append(line, '\n'))
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, line, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := a.env.Stdout.Write(b.Bytes())
	return err
}

// printList writes messages: as an array (json), a line each (jsonl), or as
// table writes them.
func printList[M proto.Message](a *app, list []M, table func(io.Writer) error) error {
	if a.output == "table" {
		return table(a.env.Stdout)
	}
	var b []byte
	var err error
	if a.output == "json" {
		b = append(b, '[')
	}
	for i, m := range list {
		if a.output == "json" && i > 0 {
			b = append(b, ',')
		}
		if b, err = jsonpb.Append(b, m); err != nil {
			return err
		}
		if a.output == "jsonl" {
			b = append(b, '\n')
		}
	}
	if a.output == "json" {
		return a.printJSON(append(b, ']'))
	}
	_, err = a.env.Stdout.Write(b)
	return err
}

// tableOf is a table with the rows of a list.
func tableOf[M any](columns []string, add func(*terminal.Table, M), list []M) *terminal.Table {
	t := terminal.NewTable(columns...)
	for _, m := range list {
		add(t, m)
	}
	return t
}

// noColor says that the user wants no colours.
func (a *app) noColor() bool {
	v, there := a.env.Lookup("NO_COLOR")
	return there && v != ""
}

// paint colours states on a terminal, unless NO_COLOR is set.
func (a *app) paint() func(column, text, padded string) string {
	if !a.env.Terminal || a.noColor() {
		return nil
	}
	return func(column, text, padded string) string {
		if column != "STATE" {
			return padded
		}
		switch text {
		case "ready", "running":
			return "\x1b[32m" + padded + "\x1b[0m"
		case "lost", "stuck", "failing":
			return "\x1b[31m" + padded + "\x1b[0m"
		case "cordoned", "draining", "waiting", "stopping", "starting", "granted":
			return "\x1b[33m" + padded + "\x1b[0m"
		}
		return padded
	}
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// ratio is a number near 1 to three digits.
func ratio(f float64) string { return strconv.FormatFloat(f, 'f', 3, 64) }

// rounded is an amount that was added up.
func rounded(f float64) string {
	return strconv.FormatFloat(f, 'f', -1, 32)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// age is how long ago t was, in the unit that says most.
func age(t time.Time) string {
	if t.IsZero() || t.Unix() <= 0 {
		return "-"
	}
	d := time.Since(t)
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
