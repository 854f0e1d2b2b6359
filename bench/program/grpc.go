package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// grpcStream opens one stream of bytes to a server whose side is handled by serve.
func grpcStream(serve func(grpc.ServerStream) error) (grpc.ClientStream, func(), error) {
	desc := grpc.StreamDesc{StreamName: "Talk", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error { return serve(s) }}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{ServiceName: "bench.Talk", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{desc}}, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	go func() { _ = server.Serve(l) }() // ends with Stop
	client, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		server.Stop()
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	stop := func() {
		cancel()
		_ = client.Close()
		server.Stop()
	}
	stream, err := client.NewStream(ctx, &desc, "/bench.Talk/Talk")
	if err != nil {
		stop()
		return nil, nil, err
	}
	return stream, stop, nil
}

func grpcOneWay(size, tasks, n int) (time.Duration, error) {
	done := make(chan error, 1)
	stream, stop, err := grpcStream(func(s grpc.ServerStream) error {
		for i := range n {
			if err := s.RecvMsg(new(wrapperspb.BytesValue)); err != nil {
				done <- fmt.Errorf("after %d messages: %w", i, err)
				return err
			}
		}
		done <- nil
		return nil
	})
	if err != nil {
		return 0, err
	}
	defer stop()
	var mu sync.Mutex // a stream takes one sender at a time
	errs := make(chan error, tasks)
	began := time.Now()
	for range tasks {
		go func() {
			m := wrapperspb.Bytes(make([]byte, size))
			for range n / tasks {
				mu.Lock()
				err := stream.SendMsg(m)
				mu.Unlock()
				if err != nil && !errors.Is(err, io.EOF) { // the server has all
					errs <- err
					return
				}
			}
		}()
	}
	select {
	case err = <-done:
	case err = <-errs:
	}
	return time.Since(began), err
}

func grpcRoundTrip(n int) ([]time.Duration, error) {
	stream, stop, err := grpcStream(func(s grpc.ServerStream) error {
		m := new(wrapperspb.BytesValue)
		for {
			if err := s.RecvMsg(m); err != nil {
				return err
			}
			if err := s.SendMsg(m); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return nil, err
	}
	defer stop()
	var took []time.Duration
	m := wrapperspb.Bytes(make([]byte, 16))
	for range n {
		began := time.Now()
		if err := stream.SendMsg(m); err != nil {
			return nil, err
		}
		if err := stream.RecvMsg(new(wrapperspb.BytesValue)); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}
