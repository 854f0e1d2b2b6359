//go:build unix

package orchestrator

import (
	"context"
	"syscall"
	"testing"
	"time"
)

// still answers with what it was told to, and takes orders by noting them.
type still struct{ does map[int]map[int]bool }

func (s still) List(_ context.Context, w int) ([]int, error) {
	list := make([]int, 0, len(s.does[w]))
	for t := range s.does[w] {
		list = append(list, t)
	}
	return list, nil
}
func (still) Add(context.Context, int, int) error    { return nil }
func (still) Remove(context.Context, int, int) error { return nil }

// processor is the processor time that the process has used: on a machine that
// others use too, it says more than a clock.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTerm measures what a term works out for 10,000 tasks on 50 workers,
// without its calls: the first term, one in which nothing changed, and one
// with a worker more and then one less.
func BenchmarkTerm(b *testing.B) {
	var tasks []Task[int]
	for k := range 10_000 {
		tasks = append(tasks, Task[int]{Name: k})
	}
	states := func(n int) (list []WorkerState[int, int]) {
		for w := range n {
			list = append(list, WorkerState[int, int]{Name: w})
		}
		return list
	}
	carry := func(actual []WorkerState[int, int], remove, add []order[int, int]) {
		for _, x := range remove {
			l := &actual[x.worker].Tasks
			for k, t := range *l {
				if t == x.task {
					(*l)[k] = (*l)[len(*l)-1]
					*l = (*l)[:len(*l)-1]
					break
				}
			}
		}
		for _, x := range add {
			actual[x.worker].Tasks = append(actual[x.worker].Tasks, x.task)
		}
	}
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		start := processor()
		for b.Loop() {
			_, add, err := newDesk[int, int]().plan(tasks, states(50))
			if err != nil || len(add) != 10_000 {
				b.Fatal(len(add), err)
			}
		}
		b.ReportMetric(float64(processor()-start)/float64(b.N), "cpu-ns/op")
	})
	b.Run("still", func(b *testing.B) {
		d, actual := newDesk[int, int](), states(50)
		_, add, _ := d.plan(tasks, actual)
		carry(actual, nil, add)
		b.ReportAllocs()
		for b.Loop() {
			if remove, add, err := d.plan(tasks, actual); err != nil || len(remove)+len(add) != 0 {
				b.Fatal(len(remove), len(add), err)
			}
		}
	})
	b.Run("join", func(b *testing.B) {
		d, actual := newDesk[int, int](), states(51)
		_, add, _ := d.plan(tasks, actual[:50])
		carry(actual, nil, add)
		b.ReportAllocs()
		for b.Loop() {
			remove, add, err := d.plan(tasks, actual)
			if err != nil || len(add) != 196 || len(remove) != 196 {
				b.Fatal(len(remove), len(add), err)
			}
			b.StopTimer()
			carry(actual, remove, add)
			actual[50].Tasks = nil
			_, add, _ = d.plan(tasks, actual[:50])
			carry(actual, nil, add)
			b.StartTimer()
		}
	})
}

// BenchmarkNextTerm measures a whole term in memory, calls and all.
func BenchmarkNextTerm(b *testing.B) {
	s := still{map[int]map[int]bool{}}
	o := New[int, int](s)
	for w := range 50 {
		o.AddWorker(w)
		s.does[w] = map[int]bool{}
	}
	for k := range 10_000 {
		o.AddTask(k)
		s.does[k%50][k] = true
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := o.NextTerm(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
