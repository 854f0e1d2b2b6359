// Command mesosgot builds the programs of a checkout of mesosgot with compat/mesosgot
// in the places of mesosgot and mesos-go, and runs them on a cluster that it starts.
// README.md says how; people and CI run it by test/compat/mesosgot/run.
package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/test/compat/internal/suite"
)

//go:embed known.txt
var known string

// limits bound a program that runs, and what follows its end.
type limits struct{ run, after time.Duration }

func main() {
	suite.Main("mesosgot", known, limits{run: 3 * time.Minute, after: 30 * time.Second}.try)
}

const (
	shims    = "test/compat/mesosgot/shim/"
	mesosGo  = "github.com/mesos/mesos-go"
	twoParts = "a folder with NAME_scheduler.go and NAME_executor.go, of package main, that import mesosgot"
)

// program is a program of the checkout: a folder with a scheduler's file, an
// executor's, and files of both.
type program struct {
	name                string
	scheduler, executor string   // files
	common              []string // files
	imports             map[string]bool
	dir                 string // in the temporary module
}

func (l limits) try(ctx context.Context, p suite.Place) (results []suite.Result, err error) {
	programs, err := find(p.Checkout)
	if err != nil {
		return nil, err
	}
	m, err := suite.NewModule(ctx, p)
	if err != nil {
		return nil, err
	}
	paths := map[string]bool{}
	for _, one := range programs {
		for path := range one.imports {
			if ours(path) {
				paths[path] = true
			}
		}
		one.dir = filepath.Join(m.Dir, "programs", filepath.FromSlash(one.name))
		if err := one.copyTo(); err != nil {
			return nil, err
		}
	}
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if err := m.Stand(path, shims+"got"); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(m.Stand(mesosGo, shims+"mesos-go"), m.Write("compat.test/programs")); err != nil {
		return nil, err
	}
	c, err := begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	for _, one := range programs {
		list, err := l.program(ctx, c, m, one)
		if err != nil {
			return nil, err
		}
		results = append(results, list...)
	}
	return results, nil
}

// ours reports whether an import path is mesosgot's, or that of a fork.
func ours(path string) bool { return strings.HasSuffix(path, "/mesosgot") }

// find finds the programs of a checkout.
func find(checkout string) (list []*program, err error) {
	err = filepath.WalkDir(checkout, func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); dir != checkout && (strings.HasPrefix(name, ".") || name == "vendor" || name == "testdata") {
			return filepath.SkipDir
		}
		one, err := read(dir)
		if one != nil {
			rel, relErr := filepath.Rel(checkout, dir)
			one.name, err = filepath.ToSlash(rel), errors.Join(err, relErr)
			list = append(list, one)
		}
		return err
	})
	if err == nil && len(list) == 0 {
		err = suite.Unusable("%s: no checkout of mesosgot: it has no program: want %s", checkout, twoParts)
	}
	return list, err
}

// read reads the program in a folder; nil if there is none.
func read(dir string) (*program, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	one := &program{imports: map[string]bool{}}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil || f.Name.Name != "main" || strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, i := range f.Imports {
			if path, err := strconv.Unquote(i.Path.Value); err == nil {
				one.imports[path] = true
			}
		}
		switch {
		case strings.HasSuffix(file, "_scheduler.go"):
			one.scheduler = file
		case strings.HasSuffix(file, "_executor.go"):
			one.executor = file
		default:
			one.common = append(one.common, file)
		}
	}
	for path := range one.imports {
		if ours(path) && one.scheduler != "" && one.executor != "" {
			return one, nil
		}
	}
	return nil, nil
}

// copyTo copies the program's files into the temporary module.
func (p *program) copyTo() error {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	for _, file := range append([]string{p.scheduler, p.executor}, p.common...) {
		raw, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(filepath.Join(p.dir, filepath.Base(file)), raw, 0o600) //nolint:gosec // a temporary folder
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cluster is a scheduler in this process.
type cluster struct {
	s       *server.Server
	address string
	conn    *grpc.ClientConn
}

func begin(ctx context.Context) (*cluster, error) {
	var ls [2]net.Listener
	for i := range ls {
		var err error
		if ls[i], err = new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
			return nil, err
		}
	}
	c := &cluster{address: ls[0].Addr().String()}
	var err error
	c.s, err = server.Start(server.Config{
		Scheduler: scheduler.Config{Store: memory.New(), Name: "s1"},
		GRPC:      ls[0], HTTP: ls[1],
	})
	if err != nil {
		return nil, err
	}
	if err := c.s.Ready(ctx); err != nil {
		return nil, errors.Join(err, c.end())
	}
	if c.conn, err = grpc.NewClient(c.address, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return nil, errors.Join(err, c.end())
	}
	return c, nil
}

func (c *cluster) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var err error
	if c.conn != nil {
		err = c.conn.Close()
	}
	return errors.Join(err, c.s.Stop(ctx))
}

// executors is how many executors a program gets.
const executors = 2

// program builds and runs one program, and answers what came of each step.
func (l limits) program(ctx context.Context, c *cluster, m *suite.Module, one *program) (list []suite.Result, err error) {
	say := func(what string, outcome suite.Outcome, why string) {
		list = append(list, suite.Result{Name: one.name + ":" + what, Outcome: outcome, Why: why})
	}
	exe := map[string]string{}
	for what, file := range map[string]string{"scheduler": one.scheduler, "executor": one.executor} {
		exe[what] = filepath.Join(one.dir, what+".exe")
		files := []string{filepath.Base(file)}
		for _, f := range one.common {
			files = append(files, filepath.Base(f))
		}
		if err := m.Build(ctx, one.dir, exe[what], files...); err != nil {
			say(what, suite.Unbuilt, err.Error())
		}
	}
	if len(list) > 0 {
		return list, nil
	}
	env := []string{"TMPDIR=" + one.dir, "ROTA_SCHEDULERS=" + c.address} // glog writes into TMPDIR
	var workers []*suite.Process
	defer func() {
		for _, w := range workers {
			w.Kill()
		}
	}()
	for n := range executors {
		w, err := suite.Start(ctx, one.dir, append(env, fmt.Sprintf("ROTA_NAME=%s-%d", strings.ReplaceAll(one.name, "/", "-"), n)), exe["executor"])
		if err != nil {
			return nil, err
		}
		workers = append(workers, w)
	}
	args := []string{"-master", c.address}
	if one.imports["github.com/golang/glog"] {
		args = append(args, "-logtostderr=true")
	}
	s, err := suite.Start(ctx, one.dir, env, exe["scheduler"], args...)
	if err != nil {
		return nil, err
	}
	defer s.Kill()
	switch ended, err := s.Wait(ctx, l.run); {
	case !ended:
		say("runs", suite.Endless, cmp.Or(s.Said(), "it said nothing"))
	case err != nil || strings.Contains(s.Said(), "Framework stopped with status"): // as both programs of the old checkout say it
		say("runs", suite.Fails, fmt.Sprintf("%v: %s", err, s.Said()))
	default:
		say("runs", suite.Passes, "")
	}
	for n, w := range workers {
		if ended, err := w.Wait(ctx, 0); ended {
			say("executor-"+strconv.Itoa(n), suite.Fails, fmt.Sprintf("it ended: %v: %s", err, w.Said()))
		}
	}
	left, err := c.left(ctx, l.after)
	if err != nil {
		return nil, err
	}
	if left == "" {
		say("leaves-nothing", suite.Passes, "")
	} else {
		say("leaves-nothing", suite.Fails, left)
	}
	return list, nil
}

// left names a task that the cluster still has after a while.
func (c *cluster) left(ctx context.Context, d time.Duration) (string, error) {
	for end := time.Now().Add(d); ; {
		m, err := rotav1.NewTasksClient(c.conn).ListTasks(ctx, &rotav1.ListTasksRequest{PageSize: 1})
		if err != nil || len(m.GetTasks()) == 0 {
			return "", err
		}
		if time.Now().After(end) {
			return "the cluster still has " + m.GetTasks()[0].String(), nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
