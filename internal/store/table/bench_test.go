package table

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/rota-project/rota/store/memory"
)

// million is a table of a million small records.
func million(b *testing.B) (*Table[rec], *memory.Store) {
	b.Helper()
	const n = 1_000_000
	s := memory.New()
	s.KeepHistory(1)
	set := make([]rec, n)
	for i := range set {
		set[i] = rec{fmt.Sprintf("task-%07d", i), 1, 20}
	}
	t := New("t/", 8<<10, codec)
	commitAll(b, s, t, set)
	if t.Len() != n {
		b.Fatalf("%d records", t.Len())
	}
	return t, s
}

// BenchmarkLoad lists a million records; heap-B/record is what the view keeps of
// each, its key's bytes among it.
func BenchmarkLoad(b *testing.B) {
	t, s := million(b)
	defer s.Close()
	n := t.Len()
	for b.Loop() {
		var before, after runtime.MemStats
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.StartTimer()
		fresh := New("t/", 8<<10, codec)
		if changes := list(b, s, fresh); len(changes) != n {
			b.Fatal(len(changes))
		}
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "heap-B/record")
		runtime.KeepAlive(fresh)
		b.StartTimer()
	}
}

// BenchmarkChange stages, commits and applies one record of a million.
func BenchmarkChange(b *testing.B) {
	t, s := million(b)
	defer s.Close()
	i := 0
	for b.Loop() {
		i++
		r := rec{fmt.Sprintf("task-%07d", i*7919%1_000_000), uint16(2 + i/1_000_000), 20}
		if changes := commitAll(b, s, t, []rec{r}); len(changes) != 1 {
			b.Fatal(len(changes))
		}
	}
}

// BenchmarkGet gets records of a million from all over the table.
func BenchmarkGet(b *testing.B) {
	t, s := million(b)
	defer s.Close()
	i := 0
	keys := make([]string, 1<<16)
	for i := range keys {
		keys[i] = fmt.Sprintf("task-%07d", i*999_983%1_000_000)
	}
	for b.Loop() {
		i++
		if _, ok := t.Get(keys[i&(1<<16-1)]); !ok {
			b.Fatal("not there")
		}
	}
}
