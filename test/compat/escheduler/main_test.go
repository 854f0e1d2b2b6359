package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rota-project/rota/internal/test/ports"
	"github.com/rota-project/rota/test/compat/internal/suite"
)

// checkout is a stand-in that we have written in the form of the old one: its tests are
// in its package, and expect an etcd at an address.
func checkout(t *testing.T, addr string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    "module github.com/stonever/escheduler\n\ngo 1.21\n",
		"master.go": "package escheduler\n",
		"path_test.go": `package escheduler

import "testing"

func TestPath(t *testing.T) { NewPathParser("x") }
`,
		"worker_test.go": strings.ReplaceAll(`package escheduler

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func node(root string) Node {
	return Node{
		EtcdConfig: clientv3.Config{Endpoints: []string{"ADDRESS"}, Username: "root", Password: "password", DialTimeout: 5 * time.Second},
		RootName: root, TTL: 5, MaxNumNodes: 2, Name: "w",
	}
}

func TestGiven(t *testing.T) {
	w, err := NewWorker(node("given"))
	if err != nil {
		t.Fatal(err)
	}
	go w.Start()
	m, err := NewMaster(MasterConfig{Interval: time.Minute, Timeout: time.Minute, Replicas: 10, Generator: func(context.Context) ([]Task, error) {
		return []Task{{ID: "a", Raw: []byte("raw")}}, nil
	}}, node("given"))
	if err != nil {
		t.Fatal(err)
	}
	go m.Start()
	e := <-w.WatchTask()
	if task, ok := e.CreatedTask(); !ok || task.ID != "a" || string(task.Raw) != "raw" {
		t.Error(e)
	}
	w.logger.Info("given", "event", e)
	w.Stop()
	m.Stop()
}

func TestLayout(t *testing.T) {
	c, err := clientv3.New(node("x").EtcdConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := c.Get(context.Background(), "/given/worker/", clientv3.WithPrefix())
	if err != nil || got.Count != 1 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestEnds(t *testing.T) {
	m, err := NewMaster(MasterConfig{Interval: time.Minute, Generator: func(context.Context) ([]Task, error) { return nil, nil }}, node("ends"))
	if err != nil {
		t.Fatal(err)
	}
	m.Start()
}
`, "ADDRESS", addr),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestStandIn(t *testing.T) {
	t.Parallel()
	addr := ports.Addr(t)
	var out, errs bytes.Buffer
	status := suite.Run(t.Context(), "escheduler", checkout(t, addr), `
unbuilt path_test.go tries names of keys
fails TestLayout looks for keys
=endless TestEnds waits for ever
`, try(addr), &out, &errs)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if status != 0 || len(lines) != 4 {
		t.Errorf("status %d: %s%s", status, &out, &errs)
	}
}

// TestNoEtcd: where the suite's etcd cannot be had it is not tried.
func TestNoEtcd(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var out, errs bytes.Buffer
	status := suite.Run(t.Context(), "escheduler", checkout(t, l.Addr().String()), "", try(l.Addr().String()), &out, &errs)
	if status != 2 || !strings.Contains(errs.String(), "the suite needs an etcd at "+l.Addr().String()) {
		t.Errorf("status %d: %s%s", status, &out, &errs)
	}
}

// TestKnown: the list of differences can be read.
func TestKnown(t *testing.T) {
	t.Parallel()
	if list, err := suite.ParseKnown(known); err != nil || len(list) == 0 {
		t.Errorf("%v, %v", list, err)
	}
}
