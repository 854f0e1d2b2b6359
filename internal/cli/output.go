package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"
	"google.golang.org/protobuf/proto"

	"github.com/rota-project/rota/api/jsonpb"
)

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

// cells counts the columns of a terminal that a text takes: two for an ideogram
// or an emoji, none for an accent that joins the letter before it.
var cells = &runewidth.Condition{StrictEmojiNeutral: true}

// table gathers rows and writes them in columns.
type table struct {
	rows  [][]string
	right []bool // columns that are numbers
	// headless leaves the names of the columns away.
	headless bool
}

// newTable takes the names of the columns; those that begin with ">" are
// numbers and stand to the right.
func newTable(columns ...string) *table {
	t := &table{right: make([]bool, len(columns))}
	head := make([]string, len(columns))
	for i, c := range columns {
		head[i], t.right[i] = strings.CutPrefix(c, ">")
	}
	t.rows = append(t.rows, head)
	return t
}

func (t *table) add(row ...string) {
	for i, c := range row {
		row[i] = printable(c)
	}
	t.rows = append(t.rows, row)
}

// write writes the rows. paint, if not nil, colours a cell after it was padded.
func (t *table) write(w io.Writer, paint func(column, text, padded string) string) error {
	widths := make([]int, len(t.right))
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], cells.StringWidth(c))
		}
	}
	var b strings.Builder
	for n, row := range t.rows {
		if n == 0 && t.headless {
			continue
		}
		for i, c := range row {
			pad := strings.Repeat(" ", widths[i]-cells.StringWidth(c))
			text := c + pad
			switch {
			case t.right[i]:
				text = pad + c
			case i == len(row)-1:
				text = c
			}
			if i > 0 {
				b.WriteString("  ")
			}
			if paint != nil && n > 0 {
				text = paint(t.rows[0][i], c, text)
			}
			b.WriteString(text)
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// paint colours states on a terminal, unless NO_COLOR is set.
func (a *app) paint() func(column, text, padded string) string {
	if v, there := a.env.Lookup("NO_COLOR"); !a.env.Terminal || (there && v != "") {
		return nil
	}
	return func(column, text, padded string) string {
		if column != "STATE" {
			return padded
		}
		switch text {
		case "ready", "running":
			return "\x1b[32m" + padded + "\x1b[0m"
		case "lost", "stuck", "backoff":
			return "\x1b[31m" + padded + "\x1b[0m"
		case "cordoned", "draining", "waiting", "stopping", "starting", "granted":
			return "\x1b[33m" + padded + "\x1b[0m"
		}
		return padded
	}
}

// joiners hold the parts of one sign together, as of a family or a conjunct.
const joiners = "\u200c\u200d"

// printable replaces what a terminal would obey instead of show.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || unicode.IsPrint(r) || strings.ContainsRune(joiners, r) {
			return r
		}
		if unicode.IsSpace(r) {
			return ' '
		}
		return '\ufffd'
	}, s)
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

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
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
