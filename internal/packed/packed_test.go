package packed_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota/internal/packed"
)

func TestTakes(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{
		"": false, "gzip": true, "x-gzip": true, "GZIP;q=0.5": true, "gzip;q=0": false, "gzip; q=0.0": false, "br, gzip": true, "br": false,
		"*": true, "*;q=0": false, "gzip;q=0, *": false, "identity": false, "gzip;q=much": false,
	} {
		if got := packed.Takes([]string{accept}); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
}

func ask(accept string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	r.Header.Set("Accept-Encoding", accept)
	return r
}

func plain(t *testing.T, body io.Reader) string {
	t.Helper()
	z, err := gzip.NewReader(body)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	return string(text)
}

// TestAnswers: what is large is compressed; what is small, an error or nothing is as it was.
func TestAnswers(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("the same ", 1000)
	for _, c := range []struct {
		name, kind, text string
		status           int
		small            bool
	}{
		{"large", "application/json", large, 200, true},
		{"small", "application/json", "{}", 200, false},
		{"a short stream", packed.Stream, "{}\n", 200, true},
		{"a large error", "application/json", large, 400, false},
		{"nothing", "", "", 204, false},
	} {
		rec := httptest.NewRecorder()
		w := packed.New(rec, ask("gzip"), func() { t.Error("it has failed") })
		w.Header().Set("Content-Type", c.kind)
		w.Header().Set("Content-Length", "9000")
		w.WriteHeader(c.status)
		if c.text != "" {
			if _, err := io.WriteString(w, c.text); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if rec.Code != c.status || (rec.Header().Get("Content-Encoding") == "gzip") != c.small || rec.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: %d %v", c.name, rec.Code, rec.Header())
		}
		text := rec.Body.String()
		if c.small {
			if text = plain(t, rec.Body); rec.Header().Get("Content-Length") != "" {
				t.Errorf("%s: says a length that it has not", c.name)
			}
		}
		if text != c.text {
			t.Errorf("%s: %.40q", c.name, text)
		}
	}
	head := ask("gzip")
	head.Method = http.MethodHead
	for name, r := range map[string]*http.Request{"nobody takes it": ask("br"), "HEAD": head} {
		if packed.New(httptest.NewRecorder(), r, nil) != nil {
			t.Errorf("%s: a writer", name)
		}
	}
}

// TestStream: what a stream says arrives a moment after it has said it, in one piece with
// what it has said meanwhile.
func TestStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := httptest.NewRecorder()
		w := packed.New(rec, ask("gzip"), func() { t.Error("it has failed") })
		w.Header().Set("Content-Type", packed.Stream)
		said := ""
		for range 3 {
			before := rec.Body.Len()
			for range 100 {
				said += "{\"name\":\"something\"}\n"
				if _, err := io.WriteString(w, "{\"name\":\"something\"}\n"); err != nil {
					t.Fatal(err)
				}
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if got := plain(t, strings.NewReader(rec.Body.String())); got != said {
				t.Fatalf("%d of %d bytes are there", len(got), len(said))
			}
			if size := rec.Body.Len() - before; size > 300 {
				t.Errorf("100 lines of the same take %d bytes", size)
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
}

// stuck is a client that has gone.
type stuck struct{ http.ResponseWriter }

var errGone = errors.New("gone")

func (stuck) Write([]byte) (int, error) { return 0, errGone }

// TestGone: a stream that has nothing more to say hears that its reader has gone.
func TestGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan struct{})
		w := packed.New(stuck{httptest.NewRecorder()}, ask("gzip"), func() { close(failed) })
		w.Header().Set("Content-Type", packed.Stream)
		if _, err := io.WriteString(w, "{}\n"); err != nil && !errors.Is(err, errGone) {
			t.Fatal(err)
		}
		if err := w.FlushError(); err != nil && !errors.Is(err, errGone) {
			t.Fatal(err)
		}
		<-failed
		if err := w.FlushError(); !errors.Is(err, errGone) {
			t.Errorf("then: %v", err)
		}
		if err := w.Close(); !errors.Is(err, errGone) {
			t.Errorf("at the end: %v", err)
		}
	})
}

// TestPieces: an answer of many pieces, written in parts of any size, arrives whole.
func TestPieces(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{packed.Least, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1 << 20} {
		for _, most := range []int{1 << 20, 64 << 10, 50_000} {
			text := make([]byte, size)
			for i := range text {
				text[i] = byte(random.IntN(1 + i%256))
			}
			rec := httptest.NewRecorder()
			w := packed.New(rec, ask("gzip"), func() { t.Error("it has failed") })
			for left := text; len(left) > 0; {
				n := min(len(left), max(packed.Least, random.IntN(most)))
				if got, err := w.Write(left[:n]); got != n || err != nil {
					t.Fatalf("%d of %d, %v", got, n, err)
				}
				left = left[n:]
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			z, err := gzip.NewReader(rec.Body)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, text) { // its sum, too
				t.Errorf("%d bytes in parts of %d: %d came, %v", size, most, len(got), err)
			}
		}
	}
}

// TestSilentStreams: a stream that has nothing to say holds no compressor, of more than a
// megabyte each.
func TestSilentStreams(t *testing.T) { //nolint:paralleltest // it measures memory
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	const streams = 100
	before := heap()
	var open []*packed.Writer
	for range streams {
		w := packed.New(httptest.NewRecorder(), ask("gzip"), func() { t.Error("it has failed") })
		w.Header().Set("Content-Type", packed.Stream)
		if _, err := io.WriteString(w, strings.Repeat("{\"name\":\"something\"}\n", 3000)); err != nil { // more than a piece
			t.Fatal(err)
		}
		if err := w.FlushError(); err != nil {
			t.Fatal(err)
		}
		open = append(open, w)
	}
	each := func() int64 { return (heap() - before) / streams }
	for deadline := time.Now().Add(time.Minute); each() > 16<<10; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("each holds %d bytes", each())
		}
	}
	for _, w := range open {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}
