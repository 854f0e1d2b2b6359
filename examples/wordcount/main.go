// Wordcount counts the words of files with map and reduce functions and
// compares the answer with that of one function that reads them all.
//
//	go run ./examples/wordcount                     # the text files below this directory
//	go run ./examples/wordcount -local 2 FILE...
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/rota-project/rota/program"
)

func main() {
	local := flag.Int("local", 0, "run in so many worker processes on this machine")
	mappers := flag.Int("map", 4, "map tasks")
	reducers := flag.Int("reduce", 2, "reduce tasks")
	top := flag.Int("top", 10, "how many of the most frequent words to print")
	flag.Parse()
	if err := run(*local, *mappers, *reducers, *top, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "wordcount:", err)
		os.Exit(1)
	}
}

func run(local, mappers, reducers, top int, files []string) error {
	if err := register(&program.Default); err != nil {
		return err
	}
	program.ServeIfWorker()
	where := program.InProcess()
	if local > 0 {
		where = program.Local(local)
	}
	if len(files) == 0 {
		var err error
		if files, err = textFiles("."); err != nil {
			return err
		}
	}
	began := time.Now()
	counts, err := count(context.Background(), where, "wordcount", mappers, reducers, files)
	if err != nil {
		return err
	}
	took := time.Since(began)
	began = time.Now()
	alone, err := countAlone(files)
	if err != nil {
		return err
	}
	tookAlone := time.Since(began)
	words := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(-cmp.Compare(counts[a], counts[b]), cmp.Compare(a, b))
	})
	total := 0
	for _, n := range counts {
		total += n
	}
	for _, w := range words[:min(top, len(words))] {
		fmt.Printf("%8d %s\n", counts[w], w)
	}
	fmt.Printf("%d words, %d different, in %d files; %s, one function alone %s\n",
		total, len(counts), len(files), took.Round(time.Millisecond), tookAlone.Round(time.Millisecond))
	if !maps.Equal(counts, alone) {
		return errors.New("the answers differ")
	}
	fmt.Println("the answers are the same")
	return nil
}

// textFiles finds files to count.
func textFiles(root string) (files []string, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch filepath.Ext(path) {
		case ".go", ".md", ".txt", ".csv", ".proto", ".yaml":
			if d.Type().IsRegular() {
				files = append(files, path)
			}
		}
		return nil
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("no text files below %s", root)
	}
	return files, err
}

// countAlone is the answer to compare with.
func countAlone(files []string) (map[string]int, error) {
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
		end := have
		if err == nil { // more may come: keep the last word for the next piece
			for end > 0 && isWord(buf[end-1]) {
				end--
			}
			if end == 0 {
				return fmt.Errorf("a word of more than %d bytes", size)
			}
		} else if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if end > 0 {
			if err := each(buf[:end]); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
		have = copy(buf, buf[end:have])
	}
}
