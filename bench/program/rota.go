package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rota-project/rota/program"
)

// place is one process, with the messages over loopback TCP and a relay or not.
func place(fs *program.Functions, loopback bool) program.Place {
	if loopback {
		return program.InProcess(program.WithFunctions(fs), program.WithLoopback())
	}
	return program.InProcess(program.WithFunctions(fs))
}

// rotaChannels has tasks of the channel form send n messages in all.
func rotaChannels(loopback bool) func(size, tasks, n int) (time.Duration, error) {
	return func(size, tasks, n int) (took time.Duration, err error) {
		var fs program.Functions
		err = fs.RegisterTaskFunc("send", func(in <-chan program.Msg, out chan<- program.Msg, _ []string, _ map[string]string) error {
			data := make([]byte, size)
			<-in
			for range n / tasks {
				out <- program.Msg{Data: data}
			}
			return nil
		})
		p := program.New("bench")
		err = errors.Join(err, p.SpawnTask("send", tasks, program.Resources{}), p.RegisterSchedFunc(
			func(in <-chan program.Msg, out chan<- program.Msg, events <-chan program.Event) {
				running(events, tasks)
				began := time.Now()
				for i := range tasks {
					out <- program.Msg{Task: fmt.Sprintf("send-%d", i)}
				}
				for range n {
					<-in
				}
				took = time.Since(began)
			}))
		if err != nil {
			return 0, err
		}
		return took, p.Run(context.Background(), place(&fs, loopback))
	}
}

// rotaConn does the same in the form with contexts.
func rotaConn(loopback bool) func(size, tasks, n int) (time.Duration, error) {
	return func(size, tasks, n int) (took time.Duration, err error) {
		var fs program.Functions
		err = fs.RegisterTaskConn("send", func(ctx context.Context, c program.Conn) error {
			data := make([]byte, size)
			if _, err := c.Recv(ctx); err != nil {
				return err
			}
			for range n / tasks {
				if err := c.Send(ctx, program.Msg{Data: data}); err != nil {
					return err
				}
			}
			return nil
		})
		p := program.New("bench")
		err = errors.Join(err, p.SpawnTask("send", tasks, program.Resources{}), p.RegisterSchedConn(
			func(ctx context.Context, c program.Conn) error {
				running(c.Events(), tasks)
				began := time.Now()
				if err := c.Broadcast(ctx, "send", nil); err != nil {
					return err
				}
				for range n {
					if _, err := c.Recv(ctx); err != nil {
						return err
					}
				}
				took = time.Since(began)
				return nil
			}))
		if err != nil {
			return 0, err
		}
		return took, p.Run(context.Background(), place(&fs, loopback))
	}
}

// running waits until all tasks run.
func running(events <-chan program.Event, tasks int) {
	for e := range events {
		if e.Kind == program.TaskRunning {
			if tasks--; tasks == 0 {
				return
			}
		}
	}
}

func echo(ctx context.Context, c program.Conn) error {
	for {
		m, err := c.Recv(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = c.Send(ctx, m.Reply(m.Data))
		}
		if err != nil {
			return err
		}
	}
}

func roundTrips(n int, once func(ctx context.Context, c program.Conn, data []byte) error) (took []time.Duration, err error) {
	var fs program.Functions
	p := program.New("bench")
	err = errors.Join(fs.RegisterTaskConn("echo", echo), p.SpawnTask("echo", 1, program.Resources{}), p.RegisterSchedConn(
		func(ctx context.Context, c program.Conn) error {
			running(c.Events(), 1)
			data := make([]byte, 16)
			for range n {
				began := time.Now()
				if err := once(ctx, c, data); err != nil {
					return err
				}
				took = append(took, time.Since(began))
			}
			return nil
		}))
	if err != nil {
		return nil, err
	}
	err = p.Run(context.Background(), place(&fs, true))
	return took, err
}

func rotaRoundTrip(n int) ([]time.Duration, error) {
	return roundTrips(n, func(ctx context.Context, c program.Conn, data []byte) error {
		if err := c.Send(ctx, program.Msg{Task: "echo-0", Data: data}); err != nil {
			return err
		}
		_, err := c.Recv(ctx)
		return err
	})
}

func rotaRequest(n int) ([]time.Duration, error) {
	return roundTrips(n, func(ctx context.Context, c program.Conn, data []byte) error {
		_, err := c.Request(ctx, program.Msg{Task: "echo-0", Data: data})
		return err
	})
}
