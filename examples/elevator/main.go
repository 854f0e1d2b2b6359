// Elevator is an elevator control system as a distributed program: floors raise
// pick-up requests, elevators move and report, and the scheduler function sends
// requests to elevators. It runs in one process, in several on this machine, or
// on the workers of a cluster, and does not know which.
//
//	go run ./examples/elevator
//	go run ./examples/elevator -local 3
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rota-project/rota/program"
)

// options are the flags.
type options struct {
	floors, cars  int
	tick, lasts   time.Duration
	local         int
	name, cluster string
	seed          uint64
	plain         bool
}

func main() {
	var o options
	flag.IntVar(&o.floors, "floors", 8, "floors of the building")
	flag.IntVar(&o.cars, "cars", 4, "elevators")
	flag.DurationVar(&o.tick, "tick", time.Second, "how long an elevator takes from floor to floor")
	flag.DurationVar(&o.lasts, "time", 30*time.Second, "how long riders come")
	flag.Uint64Var(&o.seed, "seed", 1, "of the riders")
	flag.BoolVar(&o.plain, "plain", !terminal(), "print lines instead of a picture")
	flag.StringVar(&o.name, "name", "building-7", "of the program")
	flag.IntVar(&o.local, "local", 0, "run in so many worker processes on this machine")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "elevator:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	if o.floors < 2 || o.cars < 1 || o.tick <= 0 || o.local < 0 {
		return errors.New("want at least 2 floors, 1 elevator, a tick above zero and no negative number of processes")
	}
	if err := errors.Join(program.RegisterTaskConn("elevator", elevator), program.RegisterTaskFunc("floor", floor)); err != nil {
		return err
	}
	program.ServeIfWorker()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	where := program.InProcess()
	if o.local > 0 {
		where = program.Local(o.local)
	}
	s, err := operate(ctx, o, where, newView(os.Stdout, o.plain))
	fmt.Print(s)
	return err
}

// operate runs the building at a place and sums up.
func operate(ctx context.Context, o options, where program.Place, v *view) (*summary, error) {
	p := program.New(o.name)
	args := []string{fmt.Sprint(o.floors), o.tick.String(), fmt.Sprint(o.seed)}
	err := p.SpawnTasks(
		program.Spec{Name: "elevator", Count: o.cars, Resources: program.Resources{CPUs: 0.1, MemMiB: 96}, Args: args},
		program.Spec{Name: "floor", Count: o.floors, Resources: program.Resources{CPUs: 0.1, MemMiB: 32}, Args: args},
	)
	if err != nil {
		return &summary{}, err
	}
	c := newControl(o, v)
	if err := p.RegisterSchedConn(c.run); err != nil {
		return &summary{}, err
	}
	return &c.sum, p.Run(ctx, where)
}
