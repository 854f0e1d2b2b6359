// Package mapreduce counts words by map and reduce functions, which workers can
// offer, and by one function alone.
package mapreduce

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"strconv"
	"sync"

	"github.com/rota-project/rota/program"
)

// chunkSize is the text in one message.
const chunkSize = 128 << 10

// text is what a map task is asked, and partial what it answers: counts by
// reduce task.
type (
	text    struct{ Bytes []byte }
	partial struct{ Counts []map[string]int }
)

// add is what a reduce task is told; with Done it is asked for all of its counts.
type (
	add struct {
		Counts map[string]int
		Done   bool
	}
	totals struct{ Counts map[string]int }
)

var (
	mapping  program.Typed[text, partial]
	reducing program.Typed[add, totals]
)

// Register offers the two task functions.
func Register(r program.Registrar) error {
	return errors.Join(r.RegisterTaskConn("map", mapTask), r.RegisterTaskConn("reduce", reduceTask))
}

func mapTask(ctx context.Context, c program.Conn) error {
	reducers, err := strconv.Atoi(c.Args()[0])
	if err != nil {
		return err
	}
	return mapping.Serve(ctx, c, func(_ context.Context, _ string, t *text) (*partial, error) {
		counts := map[string]int{}
		countWords(counts, t.Bytes)
		p := &partial{Counts: make([]map[string]int, reducers)}
		for i := range p.Counts {
			p.Counts[i] = map[string]int{}
		}
		for w, n := range counts {
			h := fnv.New32a()
			_, _ = h.Write([]byte(w)) // never fails
			p.Counts[int(h.Sum32()%uint32(reducers))][w] = n
		}
		return p, nil
	})
}

func reduceTask(ctx context.Context, c program.Conn) error {
	all := map[string]int{}
	return reducing.Serve(ctx, c, func(_ context.Context, _ string, a *add) (*totals, error) {
		for w, n := range a.Counts {
			all[w] += n
		}
		if a.Done {
			return &totals{all}, nil
		}
		return nil, nil
	})
}

// Count counts the words of files with map and reduce tasks at a place.
func Count(ctx context.Context, where program.Place, name string, mappers, reducers int, files []string) (map[string]int, error) {
	p := program.New(name)
	err := p.SpawnTasks(
		program.Spec{Name: "map", Count: mappers, Resources: program.Resources{CPUs: 0.2}, Args: []string{strconv.Itoa(reducers)}},
		program.Spec{Name: "reduce", Count: reducers, Resources: program.Resources{CPUs: 0.1}},
	)
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	err = p.RegisterSchedConn(func(ctx context.Context, c program.Conn) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		pieces := make(chan []byte)
		var wg sync.WaitGroup
		for i := range mappers { // one request at a time to each
			wg.Go(func() {
				for b := range pieces {
					if err := piece(ctx, c, fmt.Sprintf("map-%d", i), b); err != nil {
						cancel(err)
					}
				}
			})
		}
		err := readAll(ctx, files, pieces)
		close(pieces)
		wg.Wait()
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		for i := range reducers {
			t, err := reducing.Request(ctx, c, fmt.Sprintf("reduce-%d", i), &add{Done: true})
			if err != nil {
				return err
			}
			for w, n := range t.Counts {
				counts[w] += n
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return counts, p.Run(ctx, where)
}

// piece has one piece of text mapped, and hands the counts to the reduce tasks.
func piece(ctx context.Context, c program.Conn, task string, b []byte) error {
	p, err := mapping.Request(ctx, c, task, &text{b})
	if err != nil {
		return err
	}
	for i, counts := range p.Counts {
		if err := reducing.Send(ctx, c, fmt.Sprintf("reduce-%d", i), &add{Counts: counts}); err != nil {
			return err
		}
	}
	return nil
}

func readAll(ctx context.Context, files []string, pieces chan<- []byte) error {
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = chunks(f, chunkSize, func(b []byte) error {
			select {
			case pieces <- append([]byte(nil), b...):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
	}
	return nil
}

// countWords counts runs of letters, digits and bytes beyond ASCII.
func countWords(counts map[string]int, b []byte) {
	for i := 0; i < len(b); {
		for i < len(b) && !isWord(b[i]) {
			i++
		}
		start := i
		for i < len(b) && isWord(b[i]) {
			i++
		}
		if i > start {
			counts[string(b[start:i])]++
		}
	}
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80
}

// Alone is the answer to compare with.
func Alone(files []string) (map[string]int, error) {
	counts := map[string]int{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		countWords(counts, text)
	}
	return counts, nil
}

// chunks cuts a file into pieces of at most size bytes, between words.
func chunks(r io.Reader, size int, each func([]byte) error) error {
	buf := make([]byte, size)
	have := 0
	for {
		n, err := io.ReadFull(r, buf[have:])
		have += n
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		end := have
		for !last && end > 0 && isWord(buf[end-1]) { // the rest of the last word is in the next piece
			end--
		}
		if end == 0 && !last {
			return fmt.Errorf("a word of more than %d bytes", size)
		}
		if end > 0 {
			if err := each(buf[:end]); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
		have = copy(buf, buf[end:have])
	}
}
