package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// natsPair is an embedded server and two connections to it.
func natsPair() (a, b *nats.Conn, stop func(), err error) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true})
	if err != nil {
		return nil, nil, nil, err
	}
	go s.Start()
	end := func() {
		s.Shutdown()
		s.WaitForShutdown()
	}
	if !s.ReadyForConnections(10 * time.Second) {
		end()
		return nil, nil, nil, errors.New("the server does not start")
	}
	if a, err = nats.Connect(s.ClientURL()); err == nil {
		b, err = nats.Connect(s.ClientURL())
	}
	if err != nil {
		end()
		return nil, nil, nil, err
	}
	return a, b, func() {
		a.Close()
		b.Close()
		end()
	}, nil
}

func natsOneWay(size, tasks, n int) (time.Duration, error) {
	pub, sub, stop, err := natsPair()
	if err != nil {
		return 0, err
	}
	defer stop()
	done := make(chan struct{})
	got := 0
	s, err := sub.Subscribe("in.*", func(*nats.Msg) {
		if got++; got == n {
			close(done)
		}
	})
	if err == nil {
		err = errors.Join(s.SetPendingLimits(-1, -1), sub.Flush())
	}
	if err != nil {
		return 0, err
	}
	errs := make(chan error, tasks)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range tasks {
		wg.Go(func() {
			data, subject := make([]byte, size), fmt.Sprintf("in.%d", i)
			for range n / tasks {
				if err := pub.Publish(subject, data); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	if err := pub.Flush(); err != nil {
		return 0, err
	}
	select {
	case <-done:
	case err := <-errs:
		return 0, err
	case <-time.After(time.Minute):
		return 0, fmt.Errorf("%d of %d messages came", got, n)
	}
	return time.Since(began), nil
}

func natsRoundTrip(n int) ([]time.Duration, error) {
	a, b, stop, err := natsPair()
	if err != nil {
		return nil, err
	}
	defer stop()
	if _, err := b.Subscribe("there", func(m *nats.Msg) { _ = b.Publish("back", m.Data) }); err != nil {
		return nil, err
	}
	back, err := a.SubscribeSync("back")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(a.Flush(), b.Flush()); err != nil {
		return nil, err
	}
	var took []time.Duration
	data := make([]byte, 16)
	for range n {
		began := time.Now()
		if err := a.Publish("there", data); err != nil {
			return nil, err
		}
		if _, err := back.NextMsg(10 * time.Second); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}
