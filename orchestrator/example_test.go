package orchestrator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"

	"github.com/rota-project/rota/orchestrator"
)

// overHTTP reaches workers that answer GET, PUT and DELETE under /tasks. A
// worker is its base URL, a task its name.
type overHTTP struct{ *http.Client }

func (c overHTTP) List(ctx context.Context, worker string) (tasks []string, err error) {
	err = c.call(ctx, http.MethodGet, worker+"/tasks", &tasks)
	return tasks, err
}

func (c overHTTP) Add(ctx context.Context, worker, task string) error {
	return c.call(ctx, http.MethodPut, worker+"/tasks/"+task, nil)
}

func (c overHTTP) Remove(ctx context.Context, worker, task string) error {
	return c.call(ctx, http.MethodDelete, worker+"/tasks/"+task, nil)
}

func (c overHTTP) call(ctx context.Context, method, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", method, url, resp.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// Your own workers, over your own HTTP.
func Example_http() {
	var workers []string
	for range 3 {
		server := httptest.NewServer(new(httpWorker).handler())
		defer server.Close()
		workers = append(workers, server.URL)
	}
	comm := overHTTP{http.DefaultClient}
	o := orchestrator.New[string, string](comm)
	o.UpdateWorkers(workers[:2])
	for _, feed := range []string{"ams", "ber", "cdg", "dub", "edi", "fra"} {
		o.AddTask(feed)
	}
	report := func() {
		if err := o.NextTerm(context.Background()); err != nil {
			fmt.Println(err)
		}
		for i, w := range workers {
			tasks, _ := comm.List(context.Background(), w)
			fmt.Println("worker", i, "does", len(tasks))
		}
	}
	report()
	o.AddWorker(workers[2])
	report()
	// Output:
	// worker 0 does 3
	// worker 1 does 3
	// worker 2 does 0
	// worker 0 does 2
	// worker 1 does 2
	// worker 2 does 2
}

// httpWorker is the other end: a worker that only keeps a list.
type httpWorker struct {
	mu    sync.Mutex
	tasks map[string]bool
}

func (w *httpWorker) handler() http.Handler {
	w.tasks = map[string]bool{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /tasks", func(rw http.ResponseWriter, _ *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		_ = json.NewEncoder(rw).Encode(slices.Sorted(maps.Keys(w.tasks)))
	})
	mux.HandleFunc("PUT /tasks/{task}", func(_ http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.tasks[r.PathValue("task")] = true
	})
	mux.HandleFunc("DELETE /tasks/{task}", func(_ http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.tasks, r.PathValue("task"))
	})
	return mux
}
