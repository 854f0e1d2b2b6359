//go:build linux

package engine_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/engine"

	"go.uber.org/goleak"
)

// TestMain is also a worker, when it is started as one.
func TestMain(m *testing.M) {
	switch os.Getenv("ROTA_NAME") {
	case "":
		goleak.VerifyTestMain(m)
	case "fails":
		fmt.Println("first")
		fmt.Println("it cannot be")
		os.Exit(3)
	default:
		file := os.Getenv("ROTA_JOIN_TOKEN_FILE")
		token, err := os.ReadFile(file)
		info, _ := os.Stat(file)
		fmt.Println("token", strings.TrimSpace(string(token)), err, info.Mode().Perm(), slices.Contains(os.Args, "secret"), os.Getenv("SECRET_OF_THE_SCHEDULER") == "")
		_, _ = io.Copy(io.Discard, os.Stdin)
		time.Sleep(time.Hour)
	}
}

// lines tells a test each write.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}
func (lines) Close() error { return nil }

// open opens the local engine, of which "rota" is this test.
func open(t *testing.T) (engine.Engine, lines) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	said := make(lines, 100)
	e, err := engine.Open(engine.Local, engine.Config{Self: self, Dir: t.TempDir(), Output: func(string) io.WriteCloser { return said }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return e, said
}

func order(worker string) engine.Order {
	return engine.Order{
		Cluster: "c", Pool: "web", Worker: worker, Argv: []string{"rota"}, Token: "secret", Env: map[string]string{"ROTA_NAME": worker},
	}
}

// ended waits until a copy has ended, and answers it.
func ended(t *testing.T, e engine.Engine, handle string) engine.Copy {
	t.Helper()
	for {
		list, err := e.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if c.Handle == handle && c.State == engine.Ended {
				return c
			}
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("it does not end")
		}
	}
}

func TestLocal(t *testing.T) { //nolint:paralleltest // it sets a variable
	t.Setenv("SECRET_OF_THE_SCHEDULER", "x")
	e, said := open(t)
	handle, err := e.Start(t.Context(), order("w"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := <-said, "token secret <nil> -rw------- false true\n"; got != want {
		t.Errorf("the worker says %q, want %q", got, want)
	}
	list, err := e.List(t.Context())
	if err != nil || len(list) != 1 || list[0].Worker != "w" || list[0].Pool != "web" || list[0].Cluster != "c" || list[0].Handle != handle || list[0].State != engine.Running || list[0].Began.IsZero() {
		t.Errorf("%+v, error %v", list, err)
	}
	if args, err := os.ReadFile(filepath.Join("/proc", handle, "cmdline")); err != nil || strings.Contains(string(args), "secret") {
		t.Errorf("arguments %q, error %v", args, err)
	}
	for range 2 { // twice is as good as once
		if err := e.Stop(t.Context(), handle); err != nil {
			t.Error(err)
		}
	}
	ended(t, e, handle)
	if err := e.Stop(t.Context(), handle); err != nil {
		t.Error(err)
	}
	if err := e.Stop(t.Context(), "none"); err != nil {
		t.Error(err)
	}
}

// TestLocalFails: how a worker ended is told with its last words.
func TestLocalFails(t *testing.T) {
	t.Parallel()
	e, _ := open(t)
	handle, err := e.Start(t.Context(), order("fails"))
	if err != nil {
		t.Fatal(err)
	}
	if c := ended(t, e, handle); c.Detail != "exit status 3: it cannot be" {
		t.Errorf("%q", c.Detail)
	}
	o := order("w")
	o.Argv = []string{"/no/such/program"}
	if _, err := e.Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("error %v", err)
	}
}

// TestLocalCloses: nothing lives longer than the engine, and nothing is started any more.
func TestLocalCloses(t *testing.T) {
	t.Parallel()
	e, said := open(t)
	handle, err := e.Start(t.Context(), order("w"))
	if err != nil {
		t.Fatal(err)
	}
	<-said
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join("/proc", handle)); err == nil {
		t.Error("a worker lives on")
	}
	if _, err := e.Start(t.Context(), order("w")); err == nil {
		t.Error("a closed engine starts something")
	}
}
