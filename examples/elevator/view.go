package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/rota-project/rota/program"
)

// view draws the building each tick.
type view struct {
	w     io.Writer
	plain bool
	drawn bool
	last  string // event
}

func newView(w io.Writer, plain bool) *view { return &view{w: w, plain: plain} }

// terminal reports whether a picture that is drawn over itself makes sense.
func terminal() bool {
	info, err := os.Stdout.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func (v *view) event(e program.Event) {
	if v.plain && (e.Text != "" || e.Kind == program.TaskLaunched) {
		_, _ = fmt.Fprintln(v.w, e) // a terminal that is gone ends the program by its signal
	}
	v.last = e.String()
}

// arrows by direction -1, 0, 1.
var arrows = [...]string{"v", " ", "^"}

func (v *view) show(c *control) {
	if v.plain {
		var cars []string
		for i := range c.cars {
			car := &c.cars[i]
			cars = append(cars, fmt.Sprintf("%d→%d%s(%d)", car.Floor, car.Goal(), arrows[car.Dir+1], len(car.Aboard)))
		}
		_, _ = fmt.Fprintf(v.w, "%4d  %s  waiting %v\n", c.tick, strings.Join(cars, "  "), c.queue)
		return
	}
	var b strings.Builder
	if v.drawn {
		fmt.Fprintf(&b, "\x1b[%dA", c.o.floors+3)
	}
	v.drawn = true
	line := func(format string, args ...any) { fmt.Fprintf(&b, "\x1b[2K"+format+"\n", args...) }
	state := "open"
	if !c.open {
		state = "closing"
	}
	line("\x1b[1m%s\x1b[0m  %s  %d riders, %d arrived  (%s)", c.o.name, time.Duration(c.tick)*c.o.tick, c.next, c.sum.arrived, state)
	for f := c.o.floors - 1; f >= 0; f-- {
		var cells strings.Builder
		for i := range c.cars {
			car := &c.cars[i]
			switch {
			case car.Floor == f && c.seen[i]:
				fmt.Fprintf(&cells, " \x1b[7m[%s%2d]\x1b[0m ", arrows[car.Dir+1], len(car.Aboard))
			case car.Dir != 0 && car.Goal() == f:
				cells.WriteString("   ·   ")
			default:
				cells.WriteString("   |   ")
			}
		}
		line("%3d %s %s", f, cells.String(), strings.Repeat("o", min(c.queue[f], 30)))
	}
	line("")
	line("%.100s", v.last)
	_, _ = io.WriteString(v.w, b.String())
}

// summary counts riders; waits are in ticks.
type summary struct {
	tick             time.Duration
	in, arrived      int
	wait, waitMost   int
	total, totalMost int
}

func (s *summary) boarded(wait int) {
	s.in++
	s.wait += wait
	s.waitMost = max(s.waitMost, wait)
}

func (s *summary) left(total int) {
	s.arrived++
	s.total += total
	s.totalMost = max(s.totalMost, total)
}

func (s *summary) String() string {
	mean := func(sum, n int) time.Duration {
		if n == 0 {
			return 0
		}
		return (time.Duration(sum) * s.tick / time.Duration(n)).Round(s.tick / 10)
	}
	return fmt.Sprintf("%d riders let in, %d arrived; waited %s on average, %s at most; from call to goal %s on average, %s at most\n",
		s.in, s.arrived, mean(s.wait, s.in), time.Duration(s.waitMost)*s.tick, mean(s.total, s.arrived), time.Duration(s.totalMost)*s.tick)
}
