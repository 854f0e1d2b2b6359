package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/rota-project/rota/internal/program/demo/building"
	"github.com/rota-project/rota/internal/program/demo/lift"
	"github.com/rota-project/rota/program"
)

// control is the scheduler function: it knows where the cars are by their
// reports and sends each rider the one that is there first.
type control struct {
	o     options
	view  *view
	cars  []building.Car
	seen  []bool // the car has reported
	tick  int
	next  int // rider id
	open  bool
	sum   summary
	queue []int // riders who wait, by floor
}

func newControl(o options, v *view) *control {
	return &control{
		o: o, view: v, open: true, cars: make([]building.Car, o.cars), seen: make([]bool, o.cars),
		queue: make([]int, o.floors), sum: summary{tick: o.tick},
	}
}

// grace is how many ticks riders on their way have when the building closes.
const grace = 120

func (c *control) run(ctx context.Context, conn program.Conn) error {
	messages, failed := make(chan program.Msg), make(chan error, 1)
	go func() {
		for {
			m, err := conn.Recv(ctx)
			if err != nil {
				failed <- err
				return
			}
			select {
			case messages <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	events := conn.Events()
	if err := conn.Broadcast(ctx, "floor", []byte("open")); err != nil {
		return err
	}
	t := time.NewTicker(c.o.tick)
	defer t.Stop()
	closing := time.NewTimer(c.o.lasts)
	defer closing.Stop()
	closed := 0
	for {
		select {
		case m := <-messages:
			if err := c.take(ctx, conn, m); err != nil {
				return err
			}
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			c.view.event(e)
		case <-t.C:
			c.tick++
			c.view.show(c)
			if !c.open {
				if closed++; c.done() || closed > grace {
					return nil
				}
			}
		case <-closing.C:
			c.open = false
			if err := conn.Broadcast(ctx, "floor", []byte("closing")); err != nil {
				return err
			}
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// done reports whether nobody is under way.
func (c *control) done() bool { return c.sum.arrived == c.next }

func (c *control) take(ctx context.Context, conn program.Conn, m program.Msg) error {
	kind, number, _ := strings.Cut(m.Task, "-")
	i, err := strconv.Atoi(number)
	switch {
	case err != nil:
		return fmt.Errorf("a message from %q: %w", m.Task, err)
	case kind == "floor":
		r := building.Rider{}
		if err := json.Unmarshal(m.Data, &r); err != nil {
			return fmt.Errorf("a request from %s: %w", m.Task, err)
		}
		r.ID, r.Called = c.next, c.tick
		c.next++
		c.queue[i]++
		car := building.Choose(c.cars, r)
		c.cars[car].Assign(r) // so that the next choice knows
		return lift.ToElevator.Send(ctx, conn, fmt.Sprintf("elevator-%d", car), &lift.PickUp{Rider: r})
	default:
		var r lift.Report
		if err := json.Unmarshal(m.Data, &r); err != nil {
			return fmt.Errorf("a report from %s: %w", m.Task, err)
		}
		c.report(i, &r)
		return nil
	}
}

// report brings the picture of a car up to date.
func (c *control) report(i int, r *lift.Report) {
	car := &c.cars[i]
	c.seen[i] = true
	car.Floor, car.Dir = r.Floor, r.Dir
	for _, in := range r.In {
		car.Waiting = without(car.Waiting, in.ID)
		car.Aboard = append(car.Aboard, in)
		c.queue[in.From]--
		c.sum.boarded(c.tick - in.Called)
	}
	for _, out := range r.Out {
		car.Aboard = without(car.Aboard, out.ID)
		c.sum.left(c.tick - out.Called)
	}
}

func without(riders []building.Rider, id int) []building.Rider {
	for i := range riders {
		if riders[i].ID == id {
			return append(riders[:i:i], riders[i+1:]...)
		}
	}
	return riders
}
