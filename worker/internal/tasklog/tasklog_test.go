package tasklog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/rota-project/rota"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var task = rota.Instance{Task: "a"}

// read is everything from a place on: the pieces, what is missed, and where it ended.
func read(t fataler, k *Keeper, i rota.Instance, f From) (pieces []Piece, missed int64) {
	r, err := k.Reader(i, f)
	if err != nil {
		t.Fatalf("read %+v: %v", f, err)
	}
	at := r.At().Offset
	for {
		p, err := r.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return pieces, missed
		}
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		if p.Offset != at+p.Missed {
			t.Fatalf("a piece at %d, %d missed, after %d", p.Offset, p.Missed, at)
		}
		at = p.Offset + int64(len(p.Data))
		missed += p.Missed
		pieces = append(pieces, p)
	}
}

type fataler interface{ Fatalf(string, ...any) }

func join(pieces []Piece) string {
	var b strings.Builder
	for _, p := range pieces {
		b.Write(p.Data)
	}
	return b.String()
}

// TestWrites: however output is cut into writes, what is kept is its end, in order, with
// whole characters, within its bounds, and what is not is counted to the byte.
func TestWrites(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		k := newKeeper("k", 16<<10, 1<<20)
		run := k.Begin(task, 1)
		w := run.Writer(Stdout)
		var all bytes.Buffer
		for range rapid.IntRange(0, 40).Draw(t, "writes") {
			unit := rapid.SampledFrom([]string{"x", "é", "日本\n", "𝄞", "line\n"}).Draw(t, "text")
			all.WriteString(strings.Repeat(unit, rapid.IntRange(1, 3000).Draw(t, "times")))
		}
		for rest := all.Bytes(); len(rest) > 0; {
			n := min(len(rest), rapid.IntRange(1, 9000).Draw(t, "n"))
			_, _ = w.Write(rest[:n])
			rest = rest[n:]
		}
		_ = w.Close()
		run.End()
		pieces, missed := read(t, k, task, From{Tail: -1})
		got := join(pieces)
		if !strings.HasSuffix(all.String(), got) || missed+int64(len(got)) != int64(all.Len()) {
			t.Fatalf("%d bytes and %d missed of %d", len(got), missed, all.Len())
		}
		if all.Len() <= 8<<10 && missed > 0 {
			t.Fatalf("%d missed of %d", missed, all.Len())
		}
		if run.bytes > 16<<10 || k.bytes != run.bytes {
			t.Fatalf("%d bytes kept, %d in all", run.bytes, k.bytes)
		}
		for _, p := range pieces {
			if !utf8.Valid(p.Data) {
				t.Fatalf("a character was cut: %q", p.Data)
			}
		}
		if last := run.Last(100); !utf8.ValidString(last) || len(last) > 100 || !strings.HasSuffix(strings.TrimSpace(all.String()), last) {
			t.Fatalf("last %q", last)
		}
	})
}

// TestBinary: what is no text is kept as it is, and of two streams at once no character
// of one is cut by the other.
func TestBinary(t *testing.T) {
	t.Parallel()
	k := New("k")
	run := k.Begin(task, 1)
	out, errs := run.Writer(Stdout), run.Writer(Stderr)
	_, _ = out.Write([]byte("\xff\x00\x80a\xe2\x82")) // the last two begin a character
	_, _ = errs.Write([]byte("b"))
	_, _ = out.Write([]byte("\xac\xe2"))
	_ = out.Close()
	_, _ = errs.Write([]byte("c"))
	pieces, _ := read(t, k, task, From{Tail: -1})
	if got := join(pieces); got != "\xff\x00\x80ab€\xe2c" {
		t.Errorf("%q", got)
	}
	run.End()
	_, _ = errs.Write([]byte("of a process that was left behind"))
	if again, _ := read(t, k, task, From{Tail: -1}); len(again) != len(pieces) {
		t.Errorf("written after the end: %q", join(again))
	}
}

// TestTail: as many last lines as are asked for, of the run that is asked for.
func TestTail(t *testing.T) {
	t.Parallel()
	k := New("k")
	write := func(text string) {
		run := k.Begin(task, 1)
		for line := range strings.Lines(text) { // pieces of streams that take turns
			_, _ = run.Writer(Stream(1 + len(line)%2)).Write([]byte(line))
		}
		run.End()
	}
	write("old 1\nold 22\n")
	write("1\n22\n\n333\n4444")
	for tail, want := range map[int]string{-1: "1\n22\n\n333\n4444", 0: "", 1: "4444", 2: "333\n4444", 3: "\n333\n4444", 5: "1\n22\n\n333\n4444", 99: "1\n22\n\n333\n4444"} {
		if pieces, _ := read(t, k, task, From{Tail: tail}); join(pieces) != want {
			t.Errorf("tail %d: %q, want %q", tail, join(pieces), want)
		}
	}
	if pieces, _ := read(t, k, task, From{Tail: 1, Previous: true}); join(pieces) != "old 22\n" {
		t.Errorf("previous: %q", join(pieces))
	}
	if pieces, _ := read(t, k, task, From{Tail: -1, Previous: true}); join(pieces) != "old 1\nold 22\n" || pieces[0].Run != 0 {
		t.Errorf("previous: %q", join(pieces))
	}
}

// TestFollow: a reader goes on over runs, from where another one was, and ends when the
// instance leaves; it holds nobody up meanwhile.
func TestFollow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper("k", 8<<10, 1<<20)
		write := func(r *Run, text string) { _, _ = r.Writer(Stdout).Write([]byte(text)) }
		first := k.Begin(task, 7)
		write(first, "one ")
		r, err := k.Reader(task, From{Tail: -1, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		next := func() Piece {
			p, err := r.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		p := next()
		if string(p.Data) != "one " || p.Run != 0 || p.Generation != 7 {
			t.Errorf("%+v", p)
		}
		time.AfterFunc(time.Minute, func() {
			first.End()
			write(k.Begin(task, 8), "two")
		})
		if p = next(); string(p.Data) != "two" || p.Run != 1 || p.Generation != 8 || p.Missed != 0 {
			t.Errorf("%+v", p)
		}
		// Another reader goes on there, when much has been dropped.
		for n := range 3 {
			run := k.Begin(task, rota.Generation(9+n))
			for range 20 {
				write(run, strings.Repeat("x", 1000)+"\n")
			}
		}
		pieces, missed := read(t, k, task, From{Tail: -1, Source: p.Source, Offset: p.Offset + int64(len(p.Data))})
		if got := int64(len(join(pieces))); missed+got != 3*20*1001 || got < 6<<10 {
			t.Errorf("%d bytes, %d missed", got, missed)
		}
		if _, err := k.Reader(task, From{Source: p.Source, Offset: 1 << 30}); !errors.As(err, new(*rota.FieldError)) {
			t.Errorf("past the end: %v", err)
		}
		if pieces, _ := read(t, k, task, From{Tail: -1, Source: "another", Offset: 1 << 30}); pieces[0].Run != 4 {
			t.Errorf("of another log: %+v", pieces[0])
		}
		time.AfterFunc(time.Minute, func() { k.Leave(task) })
		for err = nil; err == nil; {
			_, err = r.Next(t.Context())
		}
		if !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		// It comes back.
		write(k.Begin(task, 20), "back")
		if pieces, _ := read(t, k, task, From{Tail: -1}); join(pieces) != "back" {
			t.Errorf("%q", join(pieces))
		}
	})
}

// TestNone: what was never there, and what is not there any more.
func TestNone(t *testing.T) {
	t.Parallel()
	k := New("k")
	for _, f := range []From{{}, {Previous: true}} {
		if _, err := k.Reader(task, f); !errors.Is(err, errNone) {
			t.Error(err)
		}
	}
	run := k.Begin(task, 1)
	if _, err := k.Reader(task, From{Previous: true}); !errors.Is(err, errNone) {
		t.Error(err)
	}
	if pieces, _ := read(t, k, task, From{Tail: -1}); len(pieces) != 0 || run.Last(10) != "" {
		t.Errorf("%v", pieces)
	}
}

// TestManyFlood: however many instances write however much, all that is kept stays
// within its bound; each keeps its share, one that says little keeps all of it, and who
// has left goes first.
func TestManyFlood(t *testing.T) {
	t.Parallel()
	const total = 1 << 20
	k := newKeeper("k", RunBytes, total)
	instance := func(n int) rota.Instance { return rota.Instance{Task: fmt.Sprint(n)} }
	for n := range MaxLeft + 10 { // each leaves a little
		i := rota.Instance{Task: "left", Index: n}
		_, _ = k.Begin(i, 1).Writer(Stdout).Write([]byte("gone"))
		k.Leave(i)
	}
	if k.left.Len() != MaxLeft || len(k.entries) != MaxLeft {
		t.Errorf("%d have left", k.left.Len())
	}
	quiet := k.Begin(task, 1)
	_, _ = quiet.Writer(Stdout).Write([]byte("all that it says"))
	runs := make([]*Run, 100)
	for n := range runs {
		k.Begin(instance(n), 1).End()
		runs[n] = k.Begin(instance(n), 1)
	}
	line := bytes.Repeat([]byte("flood "), 1000)
	for range 50 {
		for _, r := range runs {
			_, _ = r.Writer(Stdout).Write(line)
			if k.bytes > total {
				t.Fatalf("%d bytes", k.bytes)
			}
		}
	}
	if pieces, missed := read(t, k, task, From{Tail: -1}); join(pieces) != "all that it says" || missed != 0 {
		t.Errorf("%q, %d missed", join(pieces), missed)
	}
	for n, r := range runs {
		pieces, missed := read(t, k, instance(n), From{Tail: -1})
		if r.bytes == 0 || missed+int64(len(join(pieces))) != int64(50*len(line)) {
			t.Fatalf("%d bytes of %d, %d missed", r.bytes, n, missed)
		}
	}
	if k.left.Len() != 0 {
		t.Errorf("%d that have left are kept", k.left.Len())
	}
}

// BenchmarkWrite is what a line costs who writes it.
func BenchmarkWrite(b *testing.B) {
	k := New("k")
	w := k.Begin(task, 1).Writer(Stdout)
	line := []byte(strings.Repeat("x", 99) + "\n")
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		_, _ = w.Write(line)
	}
}
