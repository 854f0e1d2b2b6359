// Elevator is an elevator control system as a distributed program: floors raise
// pick-up requests, elevators move and report, and the scheduler function sends
// requests to elevators. It runs in one process, in several on this machine, or
// on the workers of a cluster, and does not know which.
//
//	go run ./examples/elevator
//	go run ./examples/elevator -local 3
//	go run ./examples/elevator -cluster 127.0.0.1:50000    # beside rota dev, whose workers offer the functions
//	ROTA_TOKEN=... go run ./examples/elevator -cluster rota.example:50000 -ca ca.crt -pool web   # on the workers of a pool
//
// With -worker NAME it is itself a worker of the cluster that offers them.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/auth/devcluster"
	"github.com/rota-project/rota/internal/program/demo/lift"
	"github.com/rota-project/rota/program"
	"github.com/rota-project/rota/worker"
)

// options are the flags.
type options struct {
	floors, cars int
	tick, lasts  time.Duration
	local        int
	name         string
	cluster      string
	ca, pool     string
	worker       string
	seed         uint64
	plain        bool
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
	flag.StringVar(&o.cluster, "cluster", "", "run on the workers of a cluster: a scheduler's gRPC address, or several with commas")
	flag.StringVar(&o.ca, "ca", "", "CA bundle that signs the schedulers' certificates (PEM); the token is that of ROTA_TOKEN or ROTA_TOKEN_FILE")
	flag.StringVar(&o.pool, "pool", "", "run on the workers of a pool only, whose command is \"rota worker --demo\"")
	flag.StringVar(&o.worker, "worker", "", "be a worker of the cluster, of this name")
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
	if err := lift.Register(&program.Default); err != nil {
		return err
	}
	program.ServeIfWorker()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	addresses := strings.Split(o.cluster, ",")
	where := program.InProcess()
	switch {
	case o.worker != "":
		return serve(ctx, o.worker, addresses)
	case o.cluster != "":
		var err error
		if where, err = cluster(addresses, o.ca); err != nil {
			return err
		}
	case o.local > 0:
		where = program.Local(o.local)
	}
	s, err := operate(ctx, o, where, newView(os.Stdout, o.plain))
	fmt.Print(s)
	return err
}

// cluster is the cluster at addresses. ca is the file of who signs their certificates; without
// it they are on this machine.
func cluster(addresses []string, ca string) (program.Place, error) {
	if ca == "" {
		return program.Cluster(addresses...), nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificates in it", ca)
	}
	token, err := auth.ClientToken("", os.LookupEnv)
	if err != nil {
		return nil, err
	}
	return program.ClusterWith(program.ClusterConfig{
		Addresses: addresses, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}, Token: token.Reveal(),
	}), nil
}

// serve is a worker of a cluster that offers elevators and floors.
func serve(ctx context.Context, name string, schedulers []string) error {
	c := worker.Config{Name: name, Schedulers: schedulers}
	src, err := devcluster.WorkerSource(os.LookupEnv, name, schedulers)
	if err != nil {
		return err
	}
	if src != nil {
		c.DialTLS = func() *tls.Config { return src.Client("", "h2") }
	}
	w, err := worker.New(c)
	if err != nil {
		return err
	}
	if err := lift.Register(w); err != nil {
		return err
	}
	return w.Run(ctx)
}

// operate runs the building at a place and sums up.
func operate(ctx context.Context, o options, where program.Place, v *view) (*summary, error) {
	p := program.New(o.name)
	var require []string
	if o.pool != "" {
		require = []string{"pool=" + o.pool}
	}
	args := []string{fmt.Sprint(o.floors), o.tick.String(), fmt.Sprint(o.seed)}
	err := p.SpawnTasks(
		program.Spec{Name: "elevator", Count: o.cars, Resources: program.Resources{CPUs: 0.1, MemMiB: 96}, Args: args, Require: require},
		program.Spec{Name: "floor", Count: o.floors, Resources: program.Resources{CPUs: 0.1, MemMiB: 32}, Args: args, Require: require},
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
