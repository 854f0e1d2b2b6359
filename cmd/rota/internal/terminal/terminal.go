// Package terminal writes what people read: tables whose columns stand straight, and
// texts of others without what a terminal would obey.
package terminal

import (
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// cells counts the columns of a terminal that a text takes: two for an ideogram
// or an emoji, none for an accent that joins the letter before it.
var cells = &runewidth.Condition{StrictEmojiNeutral: true}

// Table gathers rows and writes them in columns.
type Table struct {
	rows  [][]string
	right []bool // columns that are numbers
	// Headless leaves the names of the columns away.
	Headless bool
}

// NewTable takes the names of the columns; those that begin with ">" are
// numbers and stand to the right.
func NewTable(columns ...string) *Table {
	t := &Table{right: make([]bool, len(columns))}
	head := make([]string, len(columns))
	for i, c := range columns {
		head[i], t.right[i] = strings.CutPrefix(c, ">")
	}
	t.rows = append(t.rows, head)
	return t
}

// Add adds a row, a text for each column.
func (t *Table) Add(row ...string) {
	for i, c := range row {
		row[i] = Printable(c)
	}
	t.rows = append(t.rows, row)
}

// Write writes the rows. paint, if not nil, colours a cell after it was padded.
func (t *Table) Write(w io.Writer, paint func(column, text, padded string) string) error {
	all := t.Cells()
	var b strings.Builder
	for n, row := range all {
		if n == 0 && t.Headless {
			continue
		}
		for i, text := range row {
			if i > 0 {
				b.WriteString("  ")
			}
			if paint != nil && n > 0 {
				text = paint(t.rows[0][i], t.rows[n][i], text)
			}
			b.WriteString(text)
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Cells are the rows, the names of the columns first, with every cell padded to the
// width of its column.
func (t *Table) Cells() [][]string {
	widths := make([]int, len(t.right))
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], Width(c))
		}
	}
	out := make([][]string, len(t.rows))
	for n, row := range t.rows {
		out[n] = make([]string, len(row))
		for i, c := range row {
			pad := strings.Repeat(" ", widths[i]-Width(c))
			switch {
			case t.right[i]:
				out[n][i] = pad + c
			case i == len(row)-1:
				out[n][i] = c
			default:
				out[n][i] = c + pad
			}
		}
	}
	return out
}

// Column is where the column of a name is; -1 if there is none.
func (t *Table) Column(name string) int { return slices.Index(t.rows[0], name) }

// Text is the text of a cell: row 0 has the names of the columns.
func (t *Table) Text(row, column int) string { return t.rows[row][column] }

// Width is how many columns of a terminal a text takes.
func Width(s string) int { return cells.StringWidth(s) }

// Fit is a text in exactly so many columns: padded, or cut with a mark.
func Fit(s string, width int) string {
	if width <= 0 {
		return ""
	}
	if Width(s) > width {
		s = cells.Truncate(s, width, "…")
	}
	return s + strings.Repeat(" ", max(0, width-Width(s)))
}

// Wrap is a text in lines of at most so many columns, each without what a terminal
// would obey.
func Wrap(text string, width int) (lines []string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		line = Printable(strings.TrimSuffix(line, "\r"))
		if width > 0 && Width(line) > width {
			lines = append(lines, strings.Split(cells.Wrap(line, width), "\n")...)
			continue
		}
		lines = append(lines, line)
	}
	return lines
}

// joiners hold the parts of one sign together, as of a family or a conjunct.
const joiners = "\u200c\u200d"

// Printable replaces what a terminal would obey instead of show.
func Printable(s string) string {
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
