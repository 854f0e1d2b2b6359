package nomad

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/nomad/api"
)

// double answers as much of Nomad's API as the engine asks of it. TestContract holds both
// to the same.
type double struct {
	mu      sync.Mutex
	index   uint64
	asked   []string // requests, as "METHOD path"
	vars    map[string]*api.Variable
	jobs    map[string]*api.Job
	stopped map[string]bool
	allocs  []*api.AllocationListStub
	nodes   []*api.Node
	// fails answers a request by itself, if it is not 0.
	fails func(r *http.Request) (status int, text string)
}

// maxMemory is what the double's one node has, in MiB.
const maxMemory = 4096

func newDouble(t *testing.T) (*double, *Engine) {
	t.Helper()
	d := &double{vars: map[string]*api.Variable{}, jobs: map[string]*api.Job{}, stopped: map[string]bool{}}
	return d, against(t, newServer(t, d), "")
}

func newServer(t *testing.T, d *double) string {
	t.Helper()
	s := httptest.NewServer(d)
	t.Cleanup(s.Close)
	return s.URL
}

// against is an engine for the Nomad at an address.
func against(t *testing.T, address, tokenFile string) *Engine {
	t.Helper()
	e, err := open(Config{Self: "/opt/rota", TokenFile: tokenFile}, &api.Config{Address: address, TLSConfig: &api.TLSConfig{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(t.Context()) })
	return e
}

func (d *double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, r.Method+" "+r.URL.Path)
	if d.fails != nil {
		if status, text := d.fails(r); status != 0 {
			http.Error(w, text, status)
			return
		}
	}
	d.index++
	w.Header().Set("X-Nomad-Index", strconv.FormatUint(d.index, 10))
	namespace := r.URL.Query().Get("namespace")
	if namespace == "" {
		namespace = "default"
	}
	if namespace != "default" && namespace != "*" {
		http.Error(w, fmt.Sprintf("namespace %q is nonexistent", namespace), http.StatusInternalServerError)
		return
	}
	answer := func(v any) { reply(w, v) }
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/v1/var/"):
		d.variable(w, r, strings.TrimPrefix(path, "/v1/var/"))
	case path == "/v1/vars":
		out := []api.VariableMetadata{}
		for _, v := range d.vars {
			if strings.HasPrefix(v.Path, r.URL.Query().Get("prefix")) {
				out = append(out, api.VariableMetadata{Namespace: "default", Path: v.Path})
			}
		}
		answer(out)
	case path == "/v1/jobs" && r.Method == http.MethodPut:
		d.register(w, r)
	case path == "/v1/jobs":
		out := []api.JobListStub{}
		for id, j := range d.jobs {
			s := api.JobListStub{ID: id, Name: *j.Name, Namespace: "default", Status: "pending", Stop: d.stopped[id]}
			if s.Stop {
				s.Status = "dead"
			}
			if r.URL.Query().Get("meta") != "" {
				s.Meta = j.Meta
			}
			out = append(out, s)
		}
		answer(out)
	case strings.HasPrefix(path, "/v1/job/") && r.Method == http.MethodDelete:
		id := strings.TrimPrefix(path, "/v1/job/")
		if d.jobs[id] != nil {
			d.stopped[id] = true
		}
		answer(map[string]any{"EvalID": "e"})
	case path == "/v1/allocations":
		answer(d.allocs)
	case path == "/v1/evaluations":
		d.evaluations(answer)
	case path == "/v1/nodes" && r.URL.Query().Get("filter") != `SchedulingEligibility == "ineligible"`:
		http.Error(w, "the double knows no such filter", http.StatusBadRequest)
	case path == "/v1/nodes":
		out := []api.NodeListStub{}
		for _, n := range d.nodes {
			out = append(out, api.NodeListStub{ID: n.ID, Name: n.Name, Drain: n.Drain})
		}
		answer(out)
	case strings.HasPrefix(path, "/v1/node/"):
		for _, n := range d.nodes {
			if n.ID == strings.TrimPrefix(path, "/v1/node/") {
				answer(n)
			}
		}
	case strings.HasSuffix(path, "/signal"):
		answer(map[string]any{})
	default:
		http.Error(w, "Invalid URL", http.StatusNotFound)
	}
}

func reply(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (d *double) variable(w http.ResponseWriter, r *http.Request, path string) {
	switch {
	case r.Method == http.MethodDelete:
		delete(d.vars, path)
		w.WriteHeader(http.StatusNoContent)
	case d.vars[path] != nil:
		w.WriteHeader(http.StatusConflict)
		reply(w, d.vars[path])
	default:
		v := &api.Variable{}
		if err := json.NewDecoder(r.Body).Decode(v); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		v.Path = path
		d.vars[path] = v
		reply(w, v)
	}
}

func (d *double) register(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Job            *api.Job
		EnforceIndex   bool
		JobModifyIndex uint64
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch j := req.Job; {
	case j.NodePool != nil && *j.NodePool != "default":
		http.Error(w, fmt.Sprintf("job %q is in nonexistent node pool %q", *j.ID, *j.NodePool), http.StatusInternalServerError)
	case d.jobs[*j.ID] != nil && req.EnforceIndex && req.JobModifyIndex == 0:
		http.Error(w, "Enforcing job modify index 0: job already exists", http.StatusInternalServerError)
	default:
		d.jobs[*j.ID] = j
		reply(w, api.JobRegisterResponse{EvalID: "e"})
	}
}

// evaluations has one for each job that its node has no memory for.
func (d *double) evaluations(answer func(any)) {
	out := []api.Evaluation{}
	for id, j := range d.jobs {
		if m := j.TaskGroups[0].Tasks[0].Resources.MemoryMB; m != nil && *m > maxMemory {
			out = append(out, api.Evaluation{JobID: id, Namespace: "default", Status: "blocked", FailedTGAllocs: map[string]*api.AllocationMetric{
				groupName: {NodesEvaluated: 1, NodesExhausted: 1, DimensionExhausted: map[string]int{"memory": 1}},
			}})
		}
	}
	answer(out)
}
