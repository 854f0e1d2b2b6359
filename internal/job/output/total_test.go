package output

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rota-project/rota"
)

func newTotal(t *testing.T, bytes int64) *Total {
	t.Helper()
	sum, err := NewTotal(bytes)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// onDisk is how many bytes the logs below dir take, but for the words that are
// left of dropped ones.
func onDisk(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	logs, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	for _, l := range logs {
		segments, err := find(filepath.Join(dir, l.Name()))
		if err != nil {
			t.Error(err)
		}
		if len(segments) == 1 && segments[0].size == headerSize {
			continue
		}
		for _, s := range segments {
			bytes += s.size
		}
	}
	return bytes
}

// told reads all of a log and returns how many bytes came and how many were
// told as missed.
func told(t *testing.T, l *Log) (got, missed int64) {
	t.Helper()
	r, err := l.Reader(0, false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	for {
		c, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return got, missed
		}
		if err != nil {
			t.Fatal(err)
		}
		got += int64(len(c.Data))
		missed += c.Missed
		if c.Offset+int64(len(c.Data)) != got+missed {
			t.Errorf("%d bytes came and %d were missed before offset %d", got, missed, c.Offset)
		}
	}
}

// TestTotal writes logs of random sizes, several at once, ends, removes and
// takes them over in random order: they never exceed the total, the ones that
// ended last are whole, and of all others each byte is told as missed.
func TestTotal(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		dir := t.TempDir()
		most := MinMaxBytes + rnd.Int64N(2*MinMaxBytes)
		sum := newTotal(t, most)
		type kept struct {
			dir     string
			size    int64 // of its data
			cut     bool  // lost some while it was written
			removed bool
		}
		var ended []kept
		var writing []*Log
		text := strings.Repeat("x", maxRecord)
		end := func(i int) {
			l := writing[i]
			writing = slices.Delete(writing, i, i+1)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			ended = append(ended, kept{dir: l.dir, size: l.Size(), cut: l.First() > 0})
		}
		for step := range 600 {
			switch n := rnd.IntN(20); {
			case len(writing) == 0 || n == 0 && len(writing) < 5:
				l, err := Create(filepath.Join(dir, fmt.Sprint(step)), Options{MaxBytes: MinMaxBytes, MaxRate: -1, Total: sum})
				if err != nil {
					t.Fatal(err)
				}
				writing = append(writing, l)
			case n <= 2:
				end(rnd.IntN(len(writing)))
			case n == 3 && len(ended) > 0:
				k := &ended[rnd.IntN(len(ended))]
				k.removed = true
				if err := sum.Remove(k.dir); err != nil {
					t.Fatal(err)
				}
			case n == 4 && rnd.IntN(4) == 0: // another worker takes over
				for len(writing) > 0 {
					end(0)
				}
				sum = newTotal(t, most)
				for _, k := range ended {
					if err := sum.Add(k.dir); err != nil {
						t.Fatal(err)
					}
				}
			default:
				l := writing[rnd.IntN(len(writing))]
				write(t, l, Stream(1+rnd.IntN(2)), text[:rnd.IntN(len(text))])
			}
			if bytes := onDisk(t, dir); bytes > most {
				t.Fatalf("seed %d, step %d: %d bytes of %d", seed, step, bytes, most)
			}
		}
		for len(writing) > 0 {
			end(0)
		}
		dropped, bytes := false, int64(0)
		for _, k := range slices.Backward(ended) {
			if k.removed || k.size == 0 {
				continue
			}
			l, err := openLog(k.dir)
			if err != nil {
				t.Fatal(err)
			}
			got, missed := told(t, l)
			if got+missed != k.size {
				t.Errorf("seed %d: %d and %d of %d", seed, got, missed, k.size)
			}
			switch gone := got == 0 && l.Disk() == headerSize; {
			case gone:
				dropped = true
			case dropped:
				t.Errorf("seed %d: one that ended before one that was dropped is kept", seed)
			case !k.cut && missed > 0:
				t.Errorf("seed %d: %d bytes are missed of one that was not dropped", seed, missed)
			}
			bytes += l.Disk()
		}
		if !dropped {
			t.Errorf("seed %d: none was dropped", seed)
		}
		if used := sum.used.Load(); used > bytes {
			t.Errorf("seed %d: %d counted, %d on disk", seed, used, bytes)
		}
	}
}

// TestTotalOfWriters has logs that exceed the total alone, written at once and
// followed: each keeps its newest bytes, and its follower gets or misses all.
func TestTotalOfWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sum := newTotal(t, MinMaxBytes)
	old, err := Create(filepath.Join(dir, "old"), Options{Total: sum})
	if err != nil {
		t.Fatal(err)
	}
	write(t, old, Stdout, "old")
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	quiet, err := Create(filepath.Join(dir, "quiet"), Options{Total: sum})
	if err != nil {
		t.Fatal(err)
	}
	write(t, quiet, Stdout, "quiet")
	const writers, size, piece = 4, 3 * MinMaxBytes, 8 << 10
	var logs [writers]*Log
	var wg sync.WaitGroup
	for i := range logs {
		if logs[i], err = Create(filepath.Join(dir, fmt.Sprint(i)), Options{MaxRate: -1, Total: sum}); err != nil {
			t.Fatal(err)
		}
		r, err := logs[i].Reader(0, true)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for range size / piece {
				write(t, logs[i], Stdout, strings.Repeat("x", piece))
				sum.mu.Lock() // nothing is dropped while we count
				bytes := onDisk(t, dir)
				sum.mu.Unlock()
				if bytes > MinMaxBytes+writers*(piece+headerSize) {
					t.Errorf("%d bytes", bytes)
				}
			}
			if disk := logs[i].Disk(); disk == 0 {
				t.Error("the newest bytes are gone")
			}
			if err := logs[i].Close(); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			defer func() { _ = r.Close() }()
			var all int64
			for {
				c, err := r.Next(t.Context())
				if err != nil {
					if !errors.Is(err, io.EOF) || all != size {
						t.Errorf("followed %d of %d: %v", all, size, err)
					}
					return
				}
				all += c.Missed + int64(len(c.Data))
			}
		})
	}
	wg.Wait()
	if got := read(t, quiet, 0); got != "1:quiet" {
		t.Errorf("one that wrote little lost it to others: %q", got)
	}
	if err := quiet.Close(); err != nil {
		t.Fatal(err)
	}
	late, err := openLog(old.dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, late, 0); got != "-3 0:" {
		t.Errorf("of one that ended before: %q", got)
	}
}

// TestDroppedWhileRead drops ended logs under their readers.
func TestDroppedWhileRead(t *testing.T) {
	t.Parallel()
	sum := newTotal(t, MinMaxBytes)
	l, err := Create(filepath.Join(t.TempDir(), "log"), Options{MaxBytes: MinMaxBytes, Total: sum})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		write(t, l, Stdout, strings.Repeat("y", 60_000))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	opened, err := openLog(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	sum.reserve(MinMaxBytes)
	for name, of := range map[string]*Log{"written": l, "opened": opened} {
		if got, missed := told(t, of); got != 0 || missed != 600_000 {
			t.Errorf("%s: %d, missed %d", name, got, missed)
		}
	}
}

// TestDroppedAtCrash is killed between the word of a dropped log and its removal.
func TestDroppedAtCrash(t *testing.T) {
	t.Parallel()
	l := create(t, Options{})
	write(t, l, Stdout, "hello")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.leaveWord(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := empty(l.dir); err != nil {
			t.Fatal(err)
		}
		again, err := openLog(l.dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, again, 0); got != "-5 0:" || again.Disk() != headerSize {
			t.Errorf("%q, %d bytes", got, again.Disk())
		}
	}
}

func TestBadTotal(t *testing.T) {
	t.Parallel()
	for _, bytes := range []int64{-1, 1, MinMaxBytes - 1} {
		var fe *rota.FieldError
		if _, err := NewTotal(bytes); !errors.As(err, &fe) || fe.Field != "max_total" {
			t.Errorf("%d: %v", bytes, err)
		}
	}
	if sum := newTotal(t, 0); sum.max != DefaultMaxTotal {
		t.Errorf("zero is %d", sum.max)
	}
}
