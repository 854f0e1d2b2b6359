// Wordcount counts the words of files with map and reduce functions and
// compares the answer with that of one function that reads them all.
//
//	go run ./examples/wordcount                     # the text files below this directory
//	go run ./examples/wordcount -local 2 FILE...
//	go run ./examples/wordcount -cluster 127.0.0.1:50000    # beside rota dev, whose workers offer the functions
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota/internal/program/demo/mapreduce"
	"github.com/rota-project/rota/program"
)

func main() {
	local := flag.Int("local", 0, "run in so many worker processes on this machine")
	cluster := flag.String("cluster", "", "run on the workers of a cluster: a scheduler's gRPC address, or several with commas")
	mappers := flag.Int("map", 4, "map tasks")
	reducers := flag.Int("reduce", 2, "reduce tasks")
	top := flag.Int("top", 10, "how many of the most frequent words to print")
	flag.Parse()
	if err := run(*local, *cluster, *mappers, *reducers, *top, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "wordcount:", err)
		os.Exit(1)
	}
}

func run(local int, cluster string, mappers, reducers, top int, files []string) error {
	if err := mapreduce.Register(&program.Default); err != nil {
		return err
	}
	program.ServeIfWorker()
	where := program.InProcess()
	switch {
	case cluster != "":
		where = program.Cluster(strings.Split(cluster, ",")...)
	case local > 0:
		where = program.Local(local)
	}
	if len(files) == 0 {
		var err error
		if files, err = textFiles("."); err != nil {
			return err
		}
	}
	began := time.Now()
	counts, err := mapreduce.Count(context.Background(), where, "wordcount", mappers, reducers, files)
	if err != nil {
		return err
	}
	took := time.Since(began)
	began = time.Now()
	alone, err := mapreduce.Alone(files)
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
