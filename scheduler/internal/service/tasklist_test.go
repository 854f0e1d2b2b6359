package service_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/ownership"
)

// TestPages holds pages of every order and filter, put together, to what a plain walk
// over the tasks finds.
func TestPages(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		rnd := rand.New(rand.NewPCG(1, 2))
		var list []*rotav1.TaskDefinition
		for n := range 300 {
			list = append(list, &rotav1.TaskDefinition{
				Id: fmt.Sprintf("Task-%03d", n), Group: fmt.Sprint("g", n%5), Kind: []string{"", "feed", "Café"}[n%3],
				Weight: float64(1 + rnd.IntN(4)), Priority: float64(rnd.IntN(3)), Replicas: int64(1 + n%2),
			})
		}
		if _, err := b.svc.ApplyTasks(b.Context(), &rotav1.ApplyTasksRequest{Tasks: list}); err != nil {
			b.Fatal(err)
		}
		b.worker("w", false)
		b.worker("v", false)
		for n := range 80 {
			state := []ownership.State{ownership.Running, ownership.Starting, ownership.Backoff, ""}[n%4]
			b.grant([]string{"w", "v"}[n%2], fmt.Sprintf("Task-%03d", 3*n), n+1, false, state)
		}
		whole, err := b.svc.ListTasks(b.Context(), &rotav1.ListTasksRequest{PageSize: 10_000})
		if err != nil || whole.GetTotal() != 300 || len(whole.GetTasks()) != 300 || whole.GetNextPageToken() != "" {
			b.Fatal(whole.GetTotal(), err)
		}
		failing, err := b.svc.ListTasks(b.Context(), &rotav1.ListTasksRequest{State: "failing"})
		if err != nil || failing.GetTotal() == 0 {
			b.Fatal(failing, err)
		}
		if r, err := b.svc.ListTasks(b.Context(), &rotav1.ListTasksRequest{State: "backoff"}); err != nil || r.GetTotal() != failing.GetTotal() {
			b.Errorf("as clients of the earlier release ask: %d of %d, %v", r.GetTotal(), failing.GetTotal(), err)
		}
		first := func(m *rotav1.Task) *rotav1.Instance { return m.GetInstances()[0] }
		less := map[string]func(x, y *rotav1.Task) bool{
			"id":       func(x, y *rotav1.Task) bool { return x.GetId() < y.GetId() },
			"group":    func(x, y *rotav1.Task) bool { return x.GetGroup() < y.GetGroup() },
			"kind":     func(x, y *rotav1.Task) bool { return x.GetKind() < y.GetKind() },
			"weight":   func(x, y *rotav1.Task) bool { return x.GetWeight() < y.GetWeight() },
			"priority": func(x, y *rotav1.Task) bool { return x.GetPriority() < y.GetPriority() },
			"worker":   func(x, y *rotav1.Task) bool { return first(x).GetWorker() < first(y).GetWorker() },
			"state":    func(x, y *rotav1.Task) bool { return first(x).GetState() < first(y).GetState() },
			"since": func(x, y *rotav1.Task) bool {
				return first(x).GetSince().AsTime().UnixMilli() < first(y).GetSince().AsTime().UnixMilli()
			},
			"restarts": func(x, y *rotav1.Task) bool { return first(x).GetRestarts() < first(y).GetRestarts() },
		}
		if len(less) != 9 {
			b.Errorf("%d orders", len(less))
		}
		for _, filter := range []*rotav1.ListTasksRequest{
			{},
			{Group: "g2"},
			{Kind: "feed"},
			{Worker: "w"},
			{State: "waiting"},
			{Worker: "v", State: "running"},
			{State: "failing"},
			{Text: "SK-01"},
			{Text: "CAFÉ"},
			{IdPrefix: "Task-1"},
			{IdPrefix: "Task-1", Worker: "w"},
			{Text: "g3", Kind: "feed", State: "waiting"},
			{Worker: "nobody"},
			{Text: "nothing has this"},
		} {
			for by := range less {
				for _, down := range []bool{false, true} {
					want := slices.DeleteFunc(slices.Clone(whole.GetTasks()), func(m *rotav1.Task) bool { return !plainly(filter, m) })
					slices.SortStableFunc(want, func(x, y *rotav1.Task) int {
						if down {
							x, y = y, x
						}
						switch {
						case less[by](x, y):
							return -1
						case less[by](y, x):
							return 1
						}
						return 0
					})
					r := &rotav1.ListTasksRequest{
						Group: filter.GetGroup(), Kind: filter.GetKind(), Worker: filter.GetWorker(), State: filter.GetState(), Text: filter.GetText(), IdPrefix: filter.GetIdPrefix(),
						OrderBy: by, PageSize: int64(1 + rnd.IntN(97)),
					}
					if down {
						r.OrderBy = "-" + by
					}
					var got []string
					for {
						page, err := b.svc.ListTasks(b.Context(), r)
						if err != nil {
							b.Fatal(err)
						}
						if page.GetTotal() != int64(len(want)) || len(page.GetTasks()) > int(r.GetPageSize()) {
							b.Fatalf("%v: total %d of %d, %d on a page", r, page.GetTotal(), len(want), len(page.GetTasks()))
						}
						for _, m := range page.GetTasks() {
							got = append(got, m.GetId())
						}
						if r.PageToken = page.GetNextPageToken(); r.GetPageToken() == "" {
							break
						}
					}
					var ids []string
					for _, m := range want {
						ids = append(ids, m.GetId())
					}
					if !slices.Equal(got, ids) {
						b.Fatalf("%v:\n%v\nwant\n%v", r, got, ids)
					}
				}
			}
		}
	})
}

// plainly reports whether a task is one that is asked for.
func plainly(r *rotav1.ListTasksRequest, m *rotav1.Task) bool {
	has := false
	for _, s := range []string{m.GetId(), m.GetGroup(), m.GetKey(), m.GetKind()} {
		has = has || strings.Contains(strings.ToLower(s), strings.ToLower(r.GetText()))
	}
	return has && (r.GetGroup() == "" || m.GetGroup() == r.GetGroup()) && (r.GetKind() == "" || m.GetKind() == r.GetKind()) &&
		strings.HasPrefix(m.GetId(), r.GetIdPrefix()) &&
		(r.GetWorker()+r.GetState() == "" || slices.ContainsFunc(m.GetInstances(), func(i *rotav1.Instance) bool {
			return (r.GetWorker() == "" || i.GetWorker() == r.GetWorker()) && (r.GetState() == "" || i.GetState() == r.GetState())
		}))
}

// TestPagesThatAreNone: what cannot be asked for is refused by the name of its field.
func TestPagesThatAreNone(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.apply("a", "b", "c")
		page, err := b.svc.ListTasks(b.Context(), &rotav1.ListTasksRequest{PageSize: 1})
		if err != nil || page.GetNextPageToken() == "" {
			b.Fatal(err)
		}
		for _, c := range []struct {
			r     *rotav1.ListTasksRequest
			field string
		}{
			{&rotav1.ListTasksRequest{OrderBy: "colour"}, "order_by"},
			{&rotav1.ListTasksRequest{OrderBy: "--id"}, "order_by"},
			{&rotav1.ListTasksRequest{OrderBy: "-"}, "order_by"},
			{&rotav1.ListTasksRequest{State: "odd"}, "state"},
			{&rotav1.ListTasksRequest{PageToken: "a"}, "page_token"},
			{&rotav1.ListTasksRequest{PageToken: "%%%"}, "page_token"},
			{&rotav1.ListTasksRequest{PageToken: "bnVsbA"}, "page_token"},
			{&rotav1.ListTasksRequest{PageToken: page.GetNextPageToken(), OrderBy: "-id"}, "page_token"},
			{&rotav1.ListTasksRequest{PageToken: page.GetNextPageToken(), OrderBy: "group"}, "page_token"},
		} {
			_, err := b.svc.ListTasks(b.Context(), c.r)
			b.wants(err, codes.InvalidArgument, "want", c.field)
		}
		for _, r := range []*rotav1.ListWorkersRequest{{OrderBy: "x"}, {PageToken: "x"}, {PageSize: -1}} {
			if _, err := b.svc.ListWorkers(b.Context(), r); err == nil {
				b.Errorf("%v is taken", r)
			}
		}
	})
}

// TestPagesOfWorkers puts pages of workers together.
func TestPagesOfWorkers(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		for n := range 23 {
			b.worker(fmt.Sprintf("W%02d", n), false)
		}
		for _, c := range []struct {
			r    *rotav1.ListWorkersRequest
			want int
		}{
			{&rotav1.ListWorkersRequest{}, 23},
			{&rotav1.ListWorkersRequest{PageSize: 5}, 23},
			{&rotav1.ListWorkersRequest{PageSize: 4, OrderBy: "-name"}, 23},
			{&rotav1.ListWorkersRequest{PageSize: 3, Text: "w1"}, 10},
			{&rotav1.ListWorkersRequest{State: "ready", PageSize: 22, OrderBy: "state"}, 23},
			{&rotav1.ListWorkersRequest{State: "lost"}, 0},
			{&rotav1.ListWorkersRequest{Zone: "elsewhere"}, 0},
			{&rotav1.ListWorkersRequest{PageSize: 6, OrderBy: "-weight"}, 23},
		} {
			seen := map[string]bool{}
			last := ""
			for {
				page, err := b.svc.ListWorkers(b.Context(), c.r)
				if err != nil || page.GetTotal() != int64(c.want) {
					b.Fatalf("%v: %d %v", c.r, page.GetTotal(), err)
				}
				for _, w := range page.GetWorkers() {
					if seen[w.GetName()] || c.r.GetOrderBy() == "-name" && last != "" && w.GetName() > last {
						b.Errorf("%v: %s after %s", c.r, w.GetName(), last)
					}
					last, seen[w.GetName()] = w.GetName(), true
				}
				if c.r.PageToken = page.GetNextPageToken(); c.r.GetPageToken() == "" {
					break
				}
			}
			if len(seen) != c.want {
				b.Errorf("%v: %d", c.r, len(seen))
			}
		}
	})
}
