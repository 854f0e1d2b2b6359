package service

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/api/paging"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/record"
)

const (
	defaultPage = 1000
	maxPage     = 10_000
	// lookedAt is how many tasks are looked at while the picture stands still.
	lookedAt = 4096
	// scans is how many lists may walk over all tasks at once.
	scans = 2
)

// taskStates are those of instances that tasks may be asked for by.
var taskStates = []string{
	stateWaiting, stateHeld, stateGranted, string(ownership.Starting), string(ownership.Running), stateFailing,
	string(ownership.Stopping), string(ownership.Stuck),
}

// taskOrders are the orders of lists of tasks, and whether they look at instances.
var taskOrders = map[string]bool{
	"id": false, "group": false, "kind": false, "weight": false, "priority": false, "worker": true, "state": true, "since": true, "restarts": true,
}

// ListTasks lists a page of tasks. One in order of id costs what is on the page, unless
// the filter passes over many; any other walks over all tasks, and keeps a page of them.
func (s *Service) ListTasks(ctx context.Context, r *rotav1.ListTasksRequest) (*rotav1.ListTasksResponse, error) {
	q, err := newTaskQuery(s, r)
	if err != nil {
		return nil, err
	}
	if q.plain() {
		return q.next(), nil
	}
	select {
	case s.scanning <- struct{}{}:
		defer func() { <-s.scanning }()
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	return q.walk(ctx)
}

// taskQuery is a request for a page of tasks.
type taskQuery struct {
	s     *Service
	r     *rotav1.ListTasksRequest
	size  int
	order paging.Order
	after *paging.Place // where the last page ended; nil for the first
	text  paging.Text
}

func newTaskQuery(s *Service, r *rotav1.ListTasksRequest) (*taskQuery, error) {
	if r.GetState() == string(ownership.Backoff) { // as clients of the earlier release ask
		r = proto.CloneOf(r)
		r.State = stateFailing
	}
	q := &taskQuery{s: s, r: r, text: paging.NewText(r.GetText())}
	var err error
	if q.size, err = paging.Size(r.GetPageSize(), defaultPage, maxPage); err != nil {
		return nil, err
	}
	if q.order, err = paging.ParseOrder(r.GetOrderBy(), "id", taskOrders); err != nil {
		return nil, err
	}
	if q.after, err = q.order.After(r.GetPageToken()); err != nil {
		return nil, err
	}
	if state := r.GetState(); state != "" && !slices.Contains(taskStates, state) {
		return nil, convert.FieldStatus("state", fmt.Sprintf("state: %.40q: want %s", state, strings.Join(taskStates, ", ")))
	}
	return q, nil
}

// plain reports whether the page is a run of the table, and its total known.
func (q *taskQuery) plain() bool {
	return q.order.By == "id" && !q.order.Down && q.r.GetIdPrefix() == "" && q.r.GetGroup() == "" && q.r.GetKind() == "" &&
		q.r.GetWorker() == "" && q.r.GetState() == "" && q.r.GetText() == ""
}

// next is a page of the table.
func (q *taskQuery) next() *rotav1.ListTasksResponse {
	out := &rotav1.ListTasksResponse{}
	v := q.s.cfg.View
	v.Read(func() {
		out.Total = int64(v.Tasks.Len())
		from := ""
		if q.after != nil {
			from = q.after.ID
		}
		for t := range v.Tasks.From(from) {
			if q.after != nil && t.ID == q.after.ID {
				continue
			}
			if len(out.GetTasks()) == q.size {
				out.NextPageToken = q.order.Token(paging.Place{ID: out.GetTasks()[q.size-1].GetId()})
				break
			}
			out.Tasks = append(out.Tasks, q.s.task(t))
		}
	})
	return out
}

// walk looks at all tasks that may be meant, and keeps the first of those after the
// last page. The picture moves on meanwhile.
func (q *taskQuery) walk(ctx context.Context) (*rotav1.ListTasksResponse, error) {
	out := &rotav1.ListTasksResponse{}
	found := &firstTasks{order: q.order, most: q.size}
	later, from, v := 0, q.r.GetIdPrefix(), q.s.cfg.View
	for over := false; !over; {
		if err := ctx.Err(); err != nil {
			return nil, status.FromContextError(err).Err()
		}
		v.Read(func() {
			over = true
			n := 0
			for t := range q.candidates(from) {
				if n++; n > lookedAt {
					from, over = t.ID, false
					return
				}
				if !strings.HasPrefix(t.ID, q.r.GetIdPrefix()) {
					return
				}
				if !q.meant(t) {
					continue
				}
				out.Total++
				place := q.place(t)
				if q.after != nil && q.order.Compare(place, *q.after) <= 0 {
					continue
				}
				later++
				found.offer(place)
			}
		})
	}
	slices.SortFunc(found.places, q.order.Compare)
	v.Read(func() {
		for _, p := range found.places {
			if t, ok := v.Tasks.Get(p.ID); ok { // it may have gone meanwhile
				out.Tasks = append(out.Tasks, q.s.task(t))
			}
		}
	})
	if n := len(found.places); later > n && n > 0 {
		out.NextPageToken = q.order.Token(found.places[n-1])
	}
	return out, nil
}

// candidates are the tasks from an id on that may be meant: those that a worker has
// grants of, or all. The view stands still.
func (q *taskQuery) candidates(from string) iter.Seq[*record.Task] {
	v := q.s.cfg.View
	if q.r.GetWorker() == "" {
		return v.Tasks.From(from)
	}
	grants := v.Grants[q.r.GetWorker()]
	if grants == nil {
		return func(func(*record.Task) bool) {}
	}
	return func(yield func(*record.Task) bool) {
		last := ""
		for g := range grants.From(from) {
			if g.Instance.Task == last {
				continue
			}
			last = g.Instance.Task
			if t, ok := v.Tasks.Get(last); ok && !yield(t) {
				return
			}
		}
	}
}

// meant reports whether a task is one of those that are asked for; the view stands still.
func (q *taskQuery) meant(t *record.Task) bool {
	if g := q.r.GetGroup(); g != "" && t.Group != g {
		return false
	}
	if k := q.r.GetKind(); k != "" && t.Kind != k {
		return false
	}
	if !q.text.In(t.ID) && !q.text.In(t.Group) && !q.text.In(t.Key) && !q.text.In(t.Kind) {
		return false
	}
	worker, state := q.r.GetWorker(), q.r.GetState()
	if worker == "" && state == "" {
		return true
	}
	for n := range max(t.Replicas, 1) {
		at := q.s.where(t, rota.Instance{Task: t.ID, Index: n})
		if (worker == "" || at.worker == worker) && (state == "" || at.state == state) {
			return true
		}
	}
	return false
}

// place is where a task stands in the order; the view stands still.
func (q *taskQuery) place(t *record.Task) paging.Place {
	p := paging.Place{ID: t.ID}
	switch q.order.By {
	case "group":
		p.Text = t.Group
	case "kind":
		p.Text = t.Kind
	case "weight":
		p.Number = t.Weight
	case "priority":
		p.Number = t.Priority
	}
	if !taskOrders[q.order.By] {
		return p
	}
	at := q.s.where(t, rota.Instance{Task: t.ID})
	switch q.order.By {
	case "worker":
		p.Text = at.worker
	case "state":
		p.Text = at.state
	case "since":
		p.Number = float64(at.since)
	case "restarts":
		p.Number = float64(at.restarts)
	}
	return p
}

// firstTasks keeps the first places of an order: a heap with the last of them on top.
type firstTasks struct {
	order  paging.Order
	most   int
	places []paging.Place
}

func (f *firstTasks) offer(p paging.Place) {
	switch {
	case len(f.places) < f.most:
		heap.Push(f, p)
	case f.order.Compare(p, f.places[0]) < 0:
		f.places[0] = p
		heap.Fix(f, 0)
	}
}

func (f *firstTasks) Len() int           { return len(f.places) }
func (f *firstTasks) Less(i, j int) bool { return f.order.Compare(f.places[i], f.places[j]) > 0 }
func (f *firstTasks) Swap(i, j int)      { f.places[i], f.places[j] = f.places[j], f.places[i] }
func (f *firstTasks) Push(p any)         { f.places = append(f.places, p.(paging.Place)) } //nolint:forcetypeassert // offer pushes nothing else
func (f *firstTasks) Pop() any {
	last := len(f.places) - 1
	p := f.places[last]
	f.places = f.places[:last]
	return p
}

// workerOrders are the orders of lists of workers.
var workerOrders = map[string]bool{"name": false, "state": false, "zone": false, "instances": false, "weight": false}

// pageOfWorkers is the page that is asked for of all workers.
func pageOfWorkers(r *rotav1.ListWorkersRequest, all []*rotav1.Worker) (*rotav1.ListWorkersResponse, error) {
	size, err := paging.Size(r.GetPageSize(), max(len(all), 1), max(len(all), maxPage))
	if err != nil {
		return nil, err
	}
	order, err := paging.ParseOrder(r.GetOrderBy(), "name", workerOrders)
	if err != nil {
		return nil, err
	}
	after, err := order.After(r.GetPageToken())
	if err != nil {
		return nil, err
	}
	text := paging.NewText(r.GetText())
	place := func(w *rotav1.Worker) paging.Place {
		p := paging.Place{ID: w.GetName()}
		switch order.By {
		case "state":
			p.Text = w.GetState()
		case "zone":
			p.Text = w.GetZone()
		case "instances":
			p.Number = float64(w.GetInstances())
		case "weight":
			p.Number = w.GetWeight()
		}
		return p
	}
	all = slices.DeleteFunc(all, func(w *rotav1.Worker) bool {
		return cmp.Or(r.GetState(), w.GetState()) != w.GetState() || cmp.Or(r.GetZone(), w.GetZone()) != w.GetZone() || !named(text, w)
	})
	out := &rotav1.ListWorkersResponse{Total: int64(len(all))}
	slices.SortStableFunc(all, func(a, b *rotav1.Worker) int { return order.Compare(place(a), place(b)) })
	if after != nil {
		all = slices.DeleteFunc(all, func(w *rotav1.Worker) bool { return order.Compare(place(w), *after) <= 0 })
	}
	if len(all) > size {
		all = all[:size]
		out.NextPageToken = order.Token(place(all[size-1]))
	}
	out.Workers = all
	return out, nil
}

func named(text paging.Text, w *rotav1.Worker) bool {
	if text.In(w.GetName()) || text.In(w.GetHost()) || text.In(w.GetVersion()) || text.In(w.GetZone()) {
		return true
	}
	for name, value := range w.GetLabels() {
		if text.In(name + "=" + value) {
			return true
		}
	}
	return false
}
