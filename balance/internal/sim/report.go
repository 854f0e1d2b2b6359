package sim

import (
	"fmt"
	"strings"
)

// Report is the comparison as a Markdown table a scenario. In each column the
// best is bold, and so is what its confidence interval does not tell from it.
func Report(scs []Scenario, rows map[string][]Row, seeds int) string {
	var b strings.Builder
	for _, sc := range scs {
		fmt.Fprintf(&b, "### %s\n\n%s. %d calls, %d seeds; ± is the 95%% confidence interval of the mean over seeds.\n\n",
			strings.ToUpper(sc.Name[:1])+sc.Name[1:], sc.ByOption, sc.Calls, seeds)
		b.WriteString("| rule | mean ms | p50 ms | p80 ms | p99 ms | cold starts | unevenness | smart ahead in p80, p99, cold starts, evenness |\n|---|---|---|---|---|---|---|---|\n")
		cols := []func(Row) Stat{
			func(r Row) Stat { return r.Mean }, func(r Row) Stat { return r.P50 }, func(r Row) Stat { return r.P80 },
			func(r Row) Stat { return r.P99 }, func(r Row) Stat { return r.Cold }, func(r Row) Stat { return r.Uneven },
		}
		smart := &rows[sc.Name][0]
		for _, r := range rows[sc.Name] {
			fmt.Fprintf(&b, "| %s |", r.Picker)
			for i, col := range cols {
				best := col(rows[sc.Name][0])
				for _, o := range rows[sc.Name] {
					if col(o).Mean < best.Mean {
						best = col(o)
					}
				}
				s := col(r)
				var text string
				switch i {
				case 4:
					text = fmt.Sprintf("%.2f%% ± %.2f", 100*s.Mean, 100*s.CI)
				case 5:
					text = fmt.Sprintf("%.3f ± %.3f", s.Mean, s.CI)
				default:
					text = fmt.Sprintf("%.1f ± %.1f", s.Mean, s.CI)
				}
				if s.Mean-best.Mean <= best.CI {
					text = "**" + text + "**"
				}
				fmt.Fprintf(&b, " %s |", text)
			}
			if r.Picker == smart.Picker {
				b.WriteString(" |\n")
				continue
			}
			// Seeds differ more than rules do: compared seed by seed.
			n := smart.Ahead(&r)
			fmt.Fprintf(&b, " %d, %d, %d, %d of %d |\n", n[0], n[1], n[2], n[3], len(r.Runs))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Check is a Markdown table of how often the first picker is ahead of the others,
// seed by seed; its own row has its mean p80, p99, cold starts and unevenness.
func Check(scs []Scenario, rows map[string][]Row, first uint64, seeds int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| seeds %d–%d |", first, first+uint64(seeds)-1)
	for _, sc := range scs {
		fmt.Fprintf(&b, " %s |", sc.Name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(scs)) + "\n")
	for i, r := range rows[scs[0].Name] {
		fmt.Fprintf(&b, "| %s |", r.Picker)
		for _, sc := range scs {
			smart, o := &rows[sc.Name][0], &rows[sc.Name][i]
			if i == 0 {
				fmt.Fprintf(&b, " %.1f, %.1f, %.2f%%, %.3f |", o.P80.Mean, o.P99.Mean, 100*o.Cold.Mean, o.Uneven.Mean)
				continue
			}
			n := smart.Ahead(o)
			fmt.Fprintf(&b, " %d, %d, %d, %d |", n[0], n[1], n[2], n[3])
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	return b.String()
}

// Picture draws the 99th percentile of each rule in each scenario, as a multiple
// of smart's, with its confidence interval.
func Picture(scs []Scenario, rows map[string][]Row) string {
	const left, width, bar, gap, most = 150, 460, 13, 30, 4.0
	var b strings.Builder
	y := 30
	var body strings.Builder
	for _, sc := range scs {
		fmt.Fprintf(&body, "<text x=\"10\" y=\"%d\" font-weight=\"bold\">%s</text>\n", y, sc.Name)
		y += 8
		base := rows[sc.Name][0].P99.Mean
		for _, r := range rows[sc.Name] {
			v := r.P99.Mean / base
			w := min(v, most) / most * width
			colour := "#9aa5b1"
			if r.Picker == rows[sc.Name][0].Picker {
				colour = "#2f6fed"
			} else if strings.Contains(r.Picker, "twin") {
				colour = "#d08b2c"
			}
			fmt.Fprintf(&body, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>", left-6, y+bar-3, r.Picker)
			fmt.Fprintf(&body, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>", left, y, w, bar-3, colour)
			ci := min(r.P99.CI/base, most) / most * width
			if v < most {
				fmt.Fprintf(&body, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"#333\"/>", left+w-ci, left+w+ci, y+5, y+5)
			}
			fmt.Fprintf(&body, "<text x=\"%.1f\" y=\"%d\">%.2f×</text>\n", left+w+ci+6, y+bar-3, v)
			y += bar
		}
		y += gap
	}
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"%d\" font-family=\"sans-serif\" font-size=\"11\">\n", y)
	b.WriteString("<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"10\" y=\"14\">99th percentile, as a multiple of smart's; bars end at 4×</text>\n")
	b.WriteString(body.String())
	b.WriteString("</svg>\n")
	return b.String()
}
