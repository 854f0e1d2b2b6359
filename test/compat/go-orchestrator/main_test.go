package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rota-project/rota/test/compat/internal/suite"
)

// TestStandIn runs a checkout that we have written in the form of the old one.
func TestStandIn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":          "module github.com/poy/go-orchestrator\n\ngo 1.15\n",
		"orchestrator.go": "package orchestrator\n",
		"stand_in_test.go": `package orchestrator_test

import (
	"context"
	"log"
	"os"
	"reflect"
	"sync"
	"testing"
	"time"

	orchestrator "github.com/poy/go-orchestrator"
)

type workers struct {
	mu  sync.Mutex
	has map[interface{}][]interface{}
}

func (w *workers) List(_ context.Context, worker interface{}) ([]interface{}, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.has[worker], nil
}

func (w *workers) Add(_ context.Context, worker, task interface{}) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.has[worker] = append(w.has[worker], task)
	return nil
}

func (w *workers) Remove(context.Context, interface{}, interface{}) error { return nil }

func TestTerm(t *testing.T) {
	var _ orchestrator.Communicator = &workers{}
	w, answered := &workers{has: map[interface{}][]interface{}{}}, 0
	options := []orchestrator.OrchestratorOption{
		orchestrator.WithLogger(log.New(os.Stderr, "", 0)),
		orchestrator.WithStats(func(s orchestrator.TermStats) { answered = s.WorkerCount }),
		orchestrator.WithCommunicatorTimeout(time.Minute),
	}
	var o *orchestrator.Orchestrator = orchestrator.New(w, options...)
	o.UpdateWorkers([]interface{}{"a", "b", "c"})
	o.UpdateTasks([]orchestrator.Task{{Name: "x", Instances: 3}, {Name: 7, Instances: 1}})
	o.RemoveTask(7)
	o.AddTask("y", orchestrator.WithTaskInstances(2))
	o.RemoveWorker("c")
	o.NextTerm(context.Background())
	if answered != 2 || len(w.has["a"]) != 2 || len(w.has["b"]) != 2 {
		t.Errorf("%d answered, have %v", answered, w.has)
	}
	var last []orchestrator.WorkerState = o.LastActual()
	if len(last) != 2 {
		t.Errorf("last %v", last)
	}
	in := map[interface{}][]interface{}{"a": {"x"}, "b": {}}
	add, remove := o.Rebalance(map[interface{}]int{"x": 0}, in, map[interface{}][]interface{}{"b": {"x"}, "a": {}})
	if !reflect.DeepEqual(remove, in) || !reflect.DeepEqual(add, map[interface{}]int{"x": 0}) {
		t.Errorf("nothing has to move, but %v and %v", add, remove)
	}
}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out, errs bytes.Buffer
	if status := suite.Run(t.Context(), "go-orchestrator", dir, known, library.Try, &out, &errs); status != 0 || strings.TrimSpace(out.String()) != "ok  TestTerm" {
		t.Errorf("status %d: %s%s", status, &out, &errs)
	}
}
