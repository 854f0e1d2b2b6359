// Package lift has the task functions of the elevator example, so that workers
// can offer them: elevators that move and report, and floors that raise pick-up
// requests.
package lift

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/rota-project/rota/internal/program/demo/building"
	"github.com/rota-project/rota/program"
)

// PickUp sends an elevator to a rider.
type PickUp struct {
	Rider building.Rider `json:"rider"`
}

// Report is what an elevator says each tick.
type Report struct {
	Floor  int              `json:"floor"`
	Goal   int              `json:"goal"`
	Dir    int              `json:"dir"` // 1 up, -1 down, 0 idle
	Aboard int              `json:"aboard"`
	In     []building.Rider `json:"in,omitempty"`
	Out    []building.Rider `json:"out,omitempty"`
}

// What elevators are sent, and what they send.
var (
	ToElevator   = program.Typed[PickUp, struct{}]{Encoding: program.JSON}
	FromElevator = program.Typed[Report, struct{}]{Encoding: program.JSON}
)

// Register offers the functions.
func Register(r program.Registrar) error {
	return errors.Join(r.RegisterTaskConn("elevator", elevator), r.RegisterTaskFunc("floor", floor))
}

// elevator moves one floor a tick and reports.
func elevator(ctx context.Context, c program.Conn) error {
	_, tick, _, err := settings(c.Args())
	if err != nil {
		return err
	}
	orders := make(chan building.Rider)
	failed := make(chan error, 1)
	go func() {
		defer close(orders)
		for {
			o, _, err := ToElevator.Recv(ctx, c)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					failed <- err
				}
				return
			}
			orders <- o.Rider
		}
	}()
	var car building.Car
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case r, ok := <-orders:
			if !ok {
				select {
				case err := <-failed:
					return err
				default:
					return nil
				}
			}
			car.Assign(r)
		case <-t.C:
			out, in := car.Step()
			r := Report{Floor: car.Floor, Goal: car.Goal(), Dir: car.Dir, Aboard: len(car.Aboard), In: in, Out: out}
			if err := FromElevator.Send(ctx, c, "", &r); err != nil {
				return err
			}
		}
	}
}

// floor raises pick-up requests at random, about one in five ticks, until it is
// told that the building closes. It is written with nothing but channels.
func floor(in <-chan program.Msg, out chan<- program.Msg, args []string, _ map[string]string) error {
	floors, tick, seed, err := settings(args[1:])
	if err != nil {
		return err
	}
	_, here, err := program.Index(args[0])
	if err != nil {
		return err
	}
	if _, ok := <-in; !ok { // the first message opens the building
		return nil
	}
	random := rand.New(rand.NewPCG(seed, uint64(here)))
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-in: // closing, or closed
			for range in {
			}
			return nil
		case <-t.C:
			if random.IntN(5) != 0 {
				continue
			}
			to := (here + 1 + random.IntN(floors-1)) % floors
			data, err := json.Marshal(building.Rider{From: here, To: to})
			if err != nil {
				return err
			}
			out <- program.Msg{Data: data}
		}
	}
}

// settings reads the arguments that all tasks are given.
func settings(args []string) (floors int, tick time.Duration, seed uint64, err error) {
	if len(args) != 3 {
		return 0, 0, 0, fmt.Errorf("want floors, tick and seed, not %q", args)
	}
	floors, err1 := strconv.Atoi(args[0])
	tick, err2 := time.ParseDuration(args[1])
	seed, err3 := strconv.ParseUint(args[2], 10, 64)
	return floors, tick, seed, errors.Join(err1, err2, err3)
}
