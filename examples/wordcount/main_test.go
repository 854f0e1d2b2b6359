package main

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rota-project/rota/internal/program/demo/mapreduce"
	"github.com/rota-project/rota/program"
)

func TestMain(m *testing.M) {
	if err := mapreduce.Register(&program.Default); err != nil {
		panic(err)
	}
	program.ServeIfWorker()
	os.Exit(m.Run())
}

// TestSameAnswer counts files of random words in one process and in two, and
// compares with one function alone.
func TestSameAnswer(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	var files []string
	for _, name := range []string{"a", "b", "empty"} {
		var b bytes.Buffer
		for range map[string]int{"a": 60_000, "b": 30_000}[name] {
			b.WriteString(strings.Repeat(string(rune('a'+random.IntN(26))), 1+random.IntN(4)))
			b.WriteByte(" \n^\x00"[random.IntN(4)])
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	want, err := mapreduce.Alone(files)
	if err != nil {
		t.Fatal(err)
	}
	if len(want) != 104 {
		t.Fatalf("%d different words", len(want))
	}
	for name, where := range map[string]program.Place{"in-process": program.InProcess(), "local": program.Local(2)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := mapreduce.Count(t.Context(), where, "wordcount-"+name, 3, 2, files)
			if err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(got, want) {
				t.Errorf("%d words where %d are", len(got), len(want))
			}
		})
	}
	if _, err := mapreduce.Count(t.Context(), program.InProcess(), "wordcount-missing", 1, 1, []string{filepath.Join(dir, "nothing")}); err == nil {
		t.Error("a file that is not there was counted")
	}
}
