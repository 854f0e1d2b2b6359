package output

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
)

func create(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Create(filepath.Join(t.TempDir(), "log"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func write(t testing.TB, l *Log, s Stream, text string) {
	t.Helper()
	if n, err := io.WriteString(l.Writer(s), text); n != len(text) || err != nil {
		t.Fatalf("wrote %d of %d: %v", n, len(text), err)
	}
}

// read returns all that is there: "1:out 2:err", with "-n" before what follows n missed bytes.
func read(t testing.TB, l *Log, offset int64) string {
	t.Helper()
	r, err := l.Reader(offset, false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	var out []string
	for {
		c, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return strings.Join(out, " ")
		}
		if err != nil {
			t.Fatal(err)
		}
		if c.Missed > 0 {
			out = append(out, fmt.Sprintf("-%d", c.Missed))
		}
		out = append(out, fmt.Sprintf("%d:%s", c.Stream, c.Data))
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	l := create(t, Options{})
	write(t, l, Stdout, "a\x00\xff")
	write(t, l, Stderr, "err")
	write(t, l, Stdout, "b")
	check := func(l *Log) {
		t.Helper()
		for offset, want := range map[int64]string{
			0: "1:a\x00\xff 2:err 1:b", 1: "1:\x00\xff 2:err 1:b", 3: "2:err 1:b", 5: "2:r 1:b", 7: "", -1: "1:b", -2: "2:r 1:b", -100: "1:a\x00\xff 2:err 1:b",
		} {
			if got := read(t, l, offset); got != want {
				t.Errorf("from %d: %q, want %q", offset, got, want)
			}
		}
		if l.Size() != 7 || l.First() != 0 {
			t.Errorf("size %d, first %d", l.Size(), l.First())
		}
		var fe *rota.FieldError
		if _, err := l.Reader(8, false); !errors.As(err, &fe) || fe.Field != "offset" {
			t.Errorf("past the end: %v", err)
		}
	}
	check(l)
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	check(l)
	if _, err := l.Reader(8, true); err == nil {
		t.Error("past the end of a closed log")
	}
	if _, err := l.Writer(Stdout).Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	again, err := openLog(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	check(again)
	if _, err := Create(l.dir, Options{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("created over another: %v", err)
	}
	if _, err := openLog(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("opened nothing: %v", err)
	}
	if _, err := Create(t.TempDir(), Options{MaxBytes: 1}); err == nil {
		t.Error("a bound of 1")
	}
}

// TestFollowers has many readers, from many offsets, beside the writers.
func TestFollowers(t *testing.T) {
	t.Parallel()
	l := create(t, Options{})
	var want bytes.Buffer
	var wg sync.WaitGroup
	results := make([][]byte, 16)
	offsets := make([]int64, len(results))
	for i := range results {
		offsets[i] = int64(i * i * 100)
		r, err := l.Reader(offsets[i], true)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer func() { _ = r.Close() }()
			at := offsets[i]
			for {
				c, err := r.Next(t.Context())
				if errors.Is(err, io.EOF) {
					return
				}
				if err != nil || c.Missed != 0 || c.Offset != at {
					t.Errorf("follower %d at %d: %+v, %v", i, at, c, err)
					return
				}
				results[i] = append(results[i], c.Data...)
				at += int64(len(c.Data))
			}
		})
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 3000 {
		text := strings.Repeat(fmt.Sprintf("%d,", i), 1+rnd.IntN(200))
		want.WriteString(text)
		write(t, l, Stream(1+i%2), text)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	for i, got := range results {
		if !bytes.Equal(got, want.Bytes()[offsets[i]:]) {
			t.Errorf("follower %d got %d bytes, want %d, or others", i, len(got), want.Len()-int(offsets[i]))
		}
	}
}

func TestBound(t *testing.T) {
	t.Parallel()
	l := create(t, Options{MaxBytes: MinMaxBytes})
	slow, err := l.Reader(0, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Close() }()
	write(t, l, Stdout, "first")
	if c, err := slow.Next(t.Context()); err != nil || string(c.Data) != "first" {
		t.Fatalf("%q, %v", c.Data, err)
	}
	line := strings.Repeat("x", 999) + "\n"
	for range 5000 {
		write(t, l, Stdout, line)
		if l.Disk() > MinMaxBytes {
			t.Fatalf("takes %d bytes", l.Disk())
		}
	}
	var onDisk int64
	segments, err := find(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range segments {
		onDisk += s.size
	}
	if onDisk != l.Disk() || onDisk < MinMaxBytes/2 {
		t.Errorf("%d bytes on disk, %d counted", onDisk, l.Disk())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// One that comes too late, one that fell behind: all is either read or missed.
	late, err := l.Reader(0, false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = late.Close() }()
	for name, r := range map[string]*Reader{"late": late, "slow": slow} {
		var at, missed int64
		if name == "slow" {
			at = 5
		}
		for {
			c, err := r.Next(t.Context())
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || c.Offset != at+c.Missed {
				t.Fatalf("%s at %d: offset %d, missed %d, %v", name, at, c.Offset, c.Missed, err)
			}
			missed += c.Missed
			at = c.Offset + int64(len(c.Data))
		}
		if at != l.Size() || missed == 0 {
			t.Errorf("%s ended at %d of %d, missed %d", name, at, l.Size(), missed)
		}
	}
	if late.want-l.First() <= 0 || l.First() == 0 {
		t.Errorf("first is %d", l.First())
	}
}

func TestTornTail(t *testing.T) {
	t.Parallel()
	l := create(t, Options{})
	write(t, l, Stdout, "whole")
	write(t, l, Stderr, "torn")
	path := l.segments[0].path
	full, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := headerSize + len("whole")
	for cut := first; cut <= len(full); cut++ {
		if err := os.WriteFile(path, full[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := openLog(l.dir)
		if err != nil {
			t.Fatal(err)
		}
		want := "1:whole"
		if cut == len(full) {
			want += " 2:torn"
		}
		if got := read(t, again, 0); got != want {
			t.Errorf("cut at %d: %q", cut, got)
		}
		if fi, err := os.Stat(path); err != nil || cut < len(full) && fi.Size() != int64(first) {
			t.Errorf("cut at %d: left %v, %v", cut, fi.Size(), err)
		}
	}
	for at := range full {
		broken := bytes.Clone(full)
		broken[at] ^= 0x40
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := openLog(l.dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, again, 0); got != "" && got != "1:whole" {
			t.Errorf("broken at %d: %q", at, got)
		}
	}
}

// TestLostInTheMiddle breaks a segment that is not the last.
func TestLostInTheMiddle(t *testing.T) {
	t.Parallel()
	l := create(t, Options{MaxBytes: MinMaxBytes})
	text := strings.Repeat("y", 50_000)
	for range 10 {
		write(t, l, Stdout, text)
	}
	if len(l.segments) < 3 {
		t.Fatalf("only %d segments", len(l.segments))
	}
	if err := os.Truncate(l.segments[1].path, 100); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got, whole := read(t, l, 0), "1:"+text
	if n := strings.Count(got, whole); n != 8 || !strings.Contains(got, "-100000") {
		t.Errorf("%d whole chunks, %.200q", n, strings.ReplaceAll(got, whole, "*"))
	}
}

// TestDiskRefuses makes the disk refuse writes: the job does not hear of it, and
// who follows reads all that memory holds.
func TestDiskRefuses(t *testing.T) {
	t.Parallel()
	l := create(t, Options{})
	if _, err := os.Stat(l.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("on disk with nothing written: %v", err)
	}
	write(t, l, Stdout, "before")
	good := l.file
	bad, err := os.Open(os.DevNull) // opened for reading: each write is refused
	if err != nil {
		t.Fatal(err)
	}
	l.file = bad
	write(t, l, Stdout, "refused")
	write(t, l, Stderr, "too")
	l.file, l.retry = good, time.Time{} // the disk has room again
	write(t, l, Stdout, "after")
	if got := read(t, l, 0); got != "1:before 1:refused 2:too 1:after" {
		t.Errorf("got %q", got)
	}
	if fi, err := os.ReadDir(l.dir); err != nil || len(fi) != 2 || l.Spilled() == 0 || l.Lost() != 0 {
		t.Errorf("%v, %v; %d bytes in memory, %d lost", fi, err, l.Spilled(), l.Lost())
	}
	if err := l.Close(); err == nil {
		t.Error("nothing said of what was refused")
	}
	_ = bad.Close()
	if got := read(t, l, 0); got != "1:before 1:refused 2:too 1:after" {
		t.Errorf("got %q", got)
	}
	if got := read(t, l, 8); got != "1:fused 2:too 1:after" {
		t.Errorf("from an offset: %q", got)
	}
}

// TestDiskFull: a disk that never takes anything. Followers keep up, memory is
// bounded, and who comes late is told what is gone.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	l, err := Create(filepath.Join(file, "no directory"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := l.Reader(0, true)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("x", 10_000)
	const n = 100
	for at := range int64(n) {
		write(t, l, Stdout, text)
		c, err := r.Next(t.Context())
		if err != nil || c.Missed != 0 || c.Offset != at*int64(len(text)) || string(c.Data) != text {
			t.Fatalf("%d: %d bytes at %d, %d missed, %v", at, len(c.Data), c.Offset, c.Missed, err)
		}
	}
	if err := l.Close(); err == nil {
		t.Error("nothing said of what was refused")
	}
	kept := n*int64(len(text)) - l.Lost()
	if l.Spilled() > spillBytes || kept < spillBytes/3 || l.Lost() == 0 {
		t.Errorf("%d bytes in memory, %d of %d lost", l.Spilled(), l.Lost(), n*len(text))
	}
	if got, want := read(t, l, 0), fmt.Sprintf("-%d 1:", l.Lost()); !strings.HasPrefix(got, want) {
		t.Errorf("%.20q, want %q", got, want)
	}
	if got := read(t, Empty(7), 0); got != "-7 0:" {
		t.Errorf("nothing left of seven bytes: %q", got)
	}
}

// What is read for a stream is kept to the last byte, and an error of the source
// or of the log is told.
func TestReadFrom(t *testing.T) {
	t.Parallel()
	l := create(t, Options{})
	w, ok := l.Writer(Stderr).(io.ReaderFrom)
	if !ok {
		t.Fatal("reads nothing by itself")
	}
	data := strings.Repeat("0123456789", 10_000)
	broken := errors.New("broken pipe")
	src := io.MultiReader(iotest.DataErrReader(strings.NewReader(data)), iotest.ErrReader(broken))
	if n, err := w.ReadFrom(src); n != int64(len(data)) || !errors.Is(err, broken) {
		t.Errorf("%d of %d: %v", n, len(data), err)
	}
	if n, err := w.ReadFrom(strings.NewReader("end")); n != 3 || err != nil {
		t.Errorf("%d: %v", n, err)
	}
	if got := strings.ReplaceAll(strings.ReplaceAll(read(t, l, 0), "2:", ""), " ", ""); got != data+"end" {
		t.Errorf("%d bytes of %d", len(got), len(data)+3)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := w.ReadFrom(strings.NewReader("late")); n != 0 || !errors.Is(err, os.ErrClosed) {
		t.Errorf("after the end: %d, %v", n, err)
	}
}

func TestFollowerEndsWithItsContext(t *testing.T) {
	t.Parallel()
	l := create(t, Options{})
	r, err := l.Reader(100, true) // ahead of the writer
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := r.Next(ctx)
		done <- err
	}()
	write(t, l, Stdout, "not yet")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	write(t, l, Stdout, strings.Repeat("-", 93)+"now")
	if c, err := r.Next(t.Context()); err != nil || string(c.Data) != "now" || c.Missed != 0 || c.Offset != 100 {
		t.Errorf("got %+v, %v", c, err)
	}
}

// TestPace has a job that writes faster than it may: it takes its time, and
// nothing is lost.
func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := create(t, Options{MaxRate: 1 << 20})
		began := time.Now()
		write(t, l, Stdout, strings.Repeat("x", burst+3<<20))
		if took := time.Since(began); took < 2900*time.Millisecond || took > 3100*time.Millisecond {
			t.Errorf("took %v, want 3 s on the fake clock", took)
		}
		if l.Size() != burst+3<<20 {
			t.Errorf("%d bytes", l.Size())
		}
	})
}

func TestNothingWritten(t *testing.T) {
	t.Parallel()
	l := create(t, Options{})
	follower, err := l.Reader(0, true)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, l, 0); got != "" || l.First() != 0 || l.Size() != 0 || l.Disk() != 0 {
		t.Errorf("%q", got)
	}
	done := make(chan error, 1)
	go func() {
		_, err := follower.Next(t.Context())
		done <- err
	}()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if got := read(t, Empty(0), 0); got != "" {
		t.Errorf("%q", got)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendRecord(nil, header{offset: 7, micros: 9, stream: Stderr}, []byte("data")))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, data, size, err := parseRecord(b)
		if err != nil {
			if size != 0 && size <= len(b) {
				t.Fatalf("wants %d bytes of the %d that it has", size, len(b))
			}
			return
		}
		if again := appendRecord(nil, h, data); !bytes.Equal(again, b[:size]) {
			t.Fatalf("%x became %x", b[:size], again)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{100, 32 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			l := create(b, Options{MaxRate: -1})
			w := l.Writer(Stdout)
			data := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Write(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
