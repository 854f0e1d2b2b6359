// Command peer is a service of three replicas that share a list of feeds, with
// nothing beside them but an etcd: each feed is read by exactly one replica.
//
//	go run ./examples/peer
//
// runs an embedded etcd and three replicas in one process. For three processes,
// say which etcd they share, in three terminals:
//
//	go run ./examples/peer -etcd 127.0.0.1:2379 -http 127.0.0.1:8081
//	go run ./examples/peer -etcd 127.0.0.1:2379 -http 127.0.0.1:8082
//	go run ./examples/peer -etcd 127.0.0.1:2379 -http 127.0.0.1:8083
//
// Ctrl-C one and see its feeds go to the others. GET /readyz?scope=cluster is the
// readiness probe for rolling updates: it answers 200 when every feed is known to be
// read. A fourth terminal looks into the cluster:
//
//	rota --etcd 127.0.0.1:2379 --root example task list
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/peer"
	"github.com/rota-project/rota/store/etcd"
	"github.com/rota-project/rota/worker"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

const feeds = 12

// generate is the service's own list: from its database, say.
func generate(context.Context) ([]rota.Task, error) {
	out := make([]rota.Task, feeds)
	for i := range out {
		out[i] = rota.Task{ID: fmt.Sprintf("feed-%02d", i), Payload: fmt.Appendf(nil, "https://feeds.example/%d", i)}
	}
	return out, nil
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("peer", flag.ContinueOnError)
	endpoints := flags.String("etcd", "", "the etcd that replicas share, ADDR,...; without it one comes along, with three replicas")
	name := flags.String("name", "", "the replica's name; {ip}-{pid} without")
	address := flags.String("http", "127.0.0.1:0", "where /readyz listens")
	once := flags.Bool("once", false, "end as soon as all feeds are read")
	if err := flags.Parse(args); err != nil {
		return err
	}
	said := &lines{w: out}
	if *endpoints != "" {
		return replica(ctx, said, strings.Split(*endpoints, ","), *name, *address, *once)
	}
	dir, err := os.MkdirTemp("", "rota-peer-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	node, err := etcd.Embed(ctx, etcd.EmbedConfig{DataDir: dir, NoSync: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Stop()) }()
	const replicas = 3
	var group sync.WaitGroup
	errs := make([]error, replicas)
	for n := range replicas {
		group.Go(func() {
			errs[n] = replica(ctx, said, node.Endpoints(), fmt.Sprintf("replica-%d", n+1), "127.0.0.1:0", *once)
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// replica is what each replica of the service does.
func replica(ctx context.Context, out *lines, endpoints []string, name, address string, once bool) error {
	n, err := peer.New(peer.Config{
		Etcd: etcd.Config{Endpoints: endpoints}, Root: "example", Name: name,
		Generator: generate, Gather: 3, GatherWait: 3 * time.Second,
	})
	if err != nil {
		return err
	}
	if err := n.HandleTask("", func(ctx context.Context, a worker.Assigned) error {
		out.say("%s reads %s from %s", n.Name(), a.ID(), a.Task.Payload)
		<-ctx.Done()
		out.say("%s leaves %s", n.Name(), a.ID())
		return nil
	}); err != nil {
		return err
	}
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /readyz", n.ReadyHandler())
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = srv.Serve(l) }()
	defer func() { _ = srv.Close() }()
	out.say("%s: http://%s/readyz?scope=cluster", n.Name(), l.Addr())

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		if n.TryLeaveBarrier(time.Minute) {
			out.say("%s: all %d feeds are read, %d of them here", n.Name(), feeds, len(n.Tasks()))
			if once {
				cancel()
			}
		}
	}()
	return n.Run(ctx)
}

// lines keeps lines of several replicas apart.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = fmt.Fprintf(l.w, format+"\n", args...)
}
