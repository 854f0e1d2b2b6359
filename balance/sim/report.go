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
		b.WriteString("| rule | mean ms | p50 ms | p80 ms | p99 ms | cold starts | unevenness | smart ahead in p80, p99 |\n|---|---|---|---|---|---|---|---|\n")
		cols := []func(Row) Stat{
			func(r Row) Stat { return r.Mean }, func(r Row) Stat { return r.P50 }, func(r Row) Stat { return r.P80 },
			func(r Row) Stat { return r.P99 }, func(r Row) Stat { return r.Cold }, func(r Row) Stat { return r.Uneven },
		}
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
			// Seeds differ more than rules do: compared seed by seed.
			p80, p99 := 0, 0
			for i, x := range r.Runs {
				first := rows[sc.Name][0].Runs[i]
				if first.P80 < x.P80 {
					p80++
				}
				if first.P99 < x.P99 {
					p99++
				}
			}
			if r.Picker == rows[sc.Name][0].Picker {
				b.WriteString(" |\n")
			} else {
				fmt.Fprintf(&b, " %d, %d of %d seeds |\n", p80, p99, len(r.Runs))
			}
		}
		b.WriteString("\n")
	}
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
