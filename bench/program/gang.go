package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/rota-project/rota/program"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/etcd"
	"github.com/rota-project/rota/worker"
)

// gang is how long a program of so many tasks takes until all run, on a cluster
// of one scheduler with embedded etcd and so many workers.
func gang(tasks, workers int) (took time.Duration, err error) {
	ctx := context.Background()
	quiet := slog.New(slog.DiscardHandler)
	dir, err := os.MkdirTemp("", "bench-program-*")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	e, err := etcd.Embed(ctx, etcd.EmbedConfig{DataDir: dir, Logger: quiet})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, e.Stop()) }()
	st, err := etcd.Open(ctx, etcd.Config{Endpoints: e.Endpoints(), Root: "bench/", Logger: quiet})
	if err != nil {
		return 0, err
	}
	defer st.Close()
	var ls [2]net.Listener
	for i := range ls {
		if ls[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return 0, err
		}
	}
	s, err := server.Start(server.Config{Scheduler: scheduler.Config{Store: st, Name: "bench"}, GRPC: ls[0], HTTP: ls[1]})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Stop(ctx)) }()
	if err := s.Ready(ctx); err != nil {
		return 0, err
	}
	address := ls[0].Addr().String()
	for i := range workers {
		w, err := worker.New(worker.Config{Name: fmt.Sprintf("w%d", i), Schedulers: []string{address}})
		if err != nil {
			return 0, err
		}
		if err := w.RegisterTaskConn("member", member); err != nil {
			return 0, err
		}
		w.Start()
		defer func() { err = errors.Join(err, w.Stop(ctx)) }()
		for w.Status() == worker.StatusNew {
			time.Sleep(time.Millisecond)
		}
	}
	p := program.New("gang")
	began := time.Now()
	err = errors.Join(p.SpawnTask("member", tasks, program.Resources{CPUs: 0.01}), p.RegisterSchedConn(
		func(ctx context.Context, c program.Conn) error {
			running(c.Events(), tasks)
			took = time.Since(began)
			return nil
		}))
	if err != nil {
		return 0, err
	}
	return took, p.Run(ctx, program.Cluster(address))
}

func member(ctx context.Context, c program.Conn) error {
	for {
		if _, err := c.Recv(ctx); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
