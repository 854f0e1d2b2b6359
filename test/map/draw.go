package main

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"slices"
	"strings"
)

// Sizes, in pixels.
const (
	boxWidth = 190
	gap      = 24 // between boxes
	lane     = 64 // between rows, where the arrows run
	line     = 15 // of text
	margin   = 24
	head     = 26 // of a box
)

// box is where a house stands.
type box struct {
	*house
	x, y, width, height int
	text                []string
}

// draw is the SVG of houses: a row for each rank, the highest on top, and below all
// of them what everything stands on.
func draw(list []*house) []byte {
	var rows [][]*box
	var ground []*box
	at := map[*house]*box{}
	for _, h := range list {
		b := &box{house: h, width: boxWidth, text: wrap(strings.Join(h.rooms, ", "), 30)}
		if len(h.rooms) == 0 {
			b.text = wrap(h.about, 30)
		}
		at[h] = b
		if h.name == words || h.name == tools {
			ground = append(ground, b)
			continue
		}
		for len(rows) <= h.rank {
			rows = append(rows, nil)
		}
		rows[h.rank] = append(rows[h.rank], b)
	}
	rows = slices.DeleteFunc(rows, func(row []*box) bool { return len(row) == 0 })
	slices.Reverse(rows)
	links := arrows(list)
	untangle(rows, links, at)

	width := 0
	for _, row := range rows {
		width = max(width, len(row)*(boxWidth+gap)-gap)
	}
	width += 2 * margin
	y := margin
	for _, row := range rows {
		y = stand(row, y, width) + lane
	}
	for _, b := range ground {
		b.width = width - 2*margin
		letters := b.width * 30 / boxWidth
		b.text = wrap(strings.Join(b.rooms, ", "), letters)
		if len(b.rooms) == 0 {
			b.text = wrap(b.about, letters)
		}
		b.x, b.y, b.height = margin, y, head+line*len(b.text)+8
		y += b.height + gap
	}

	var w bytes.Buffer
	fmt.Fprintf(&w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", width, y, width, y)
	fmt.Fprintln(&w, "<title>The houses of rota, and who imports whom</title>")
	fmt.Fprintln(&w, `<defs>`+marker("down", "#555")+marker("up", "#c00")+`</defs>`)
	fmt.Fprintf(&w, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, y)
	for _, l := range links {
		l.draw(&w, at[l.from], at[l.to])
	}
	for _, h := range list {
		at[h].draw(&w)
	}
	fmt.Fprintln(&w, "</svg>")
	return w.Bytes()
}

func marker(id, colour string) string {
	return `<marker id="` + id + `" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="` + colour + `"/></marker>`
}

// stand places a row at a height, in the middle, and returns where it ends.
func stand(row []*box, y, width int) int {
	x, most := (width-len(row)*(boxWidth+gap)+gap)/2, 0
	for _, b := range row {
		b.height = head + line*len(b.text) + 8
		b.x, b.y = x, y
		x += boxWidth + gap
		most = max(most, b.height)
	}
	return y + most
}

// untangle orders each row by where the arrows of its boxes go and come from.
func untangle(rows [][]*box, links []arrow, at map[*house]*box) {
	place := map[*box]float64{}
	number := func() {
		for _, row := range rows {
			for i, b := range row {
				place[b] = float64(2*i-len(row)+1) / 2
			}
		}
	}
	number()
	for range 24 {
		for _, row := range rows {
			weight := map[*box]float64{}
			for _, b := range row {
				sum, n := place[b]/4, 0.25
				for _, l := range links {
					switch {
					case at[l.from] == b:
						sum, n = sum+place[at[l.to]], n+1
					case at[l.to] == b:
						sum, n = sum+place[at[l.from]], n+1
					}
				}
				weight[b] = sum / n
			}
			slices.SortStableFunc(row, func(a, b *box) int { return cmp.Compare(weight[a], weight[b]) })
		}
		number()
	}
}

func (b *box) draw(w *bytes.Buffer) {
	fmt.Fprintf(w, `<rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="#f4f6fa" stroke="#334"/>`+"\n", b.x, b.y, b.width, b.height)
	fmt.Fprintf(w, `<text x="%d" y="%d" font-weight="bold" font-size="14">%s</text>`+"\n", b.x+10, b.y+19, html.EscapeString(b.name))
	for i, t := range b.text {
		fmt.Fprintf(w, `<text x="%d" y="%d" fill="#445">%s</text>`+"\n", b.x+10, b.y+head+line*i+10, html.EscapeString(t))
	}
}

func (l arrow) draw(w *bytes.Buffer, from, to *box) {
	id, colour := "down", "#555"
	if l.up {
		id, colour = "up", "#c00"
	}
	x1, y1, x2, y2 := from.x+from.width/2, from.y+from.height, to.x+to.width/2, to.y
	bend := max((y2-y1)/2, lane/2)
	fmt.Fprintf(w, `<path d="M%d %dC%d %d %d %d %d %d" fill="none" stroke="%s" marker-end="url(#%s)"/>`+"\n",
		x1, y1, x1, y1+bend, x2, y2-bend, x2, y2, colour, id)
}

// wrap breaks a text into lines of at most so many characters, at spaces.
func wrap(text string, most int) (lines []string) {
	now := ""
	for _, word := range strings.Fields(text) {
		if now != "" && len(now)+1+len(word) > most {
			lines, now = append(lines, now), ""
		}
		now = strings.TrimPrefix(now+" "+word, " ")
	}
	if now != "" {
		lines = append(lines, now)
	}
	return lines
}
