// Command map draws the houses of rota, the rooms in them, and who imports whom, as
// an SVG on standard output. It reads what go list says of the sources, without
// their tests:
//
//	make map # go run ./test/map > docs/map.svg
//
// A house stands above all that it imports. An arrow that other arrows imply is left
// out, and so are those to the words (package rota) and the small tools
// (internal), on which all houses stand. An arrow that runs up is red: the houses
// import each other.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "map:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer) error {
	list, err := packages(ctx)
	if err != nil {
		return err
	}
	_, err = w.Write(draw(housesOf(list)))
	return err
}

const module = "github.com/rota-project/rota"

// pkg is what go list says of a package.
type pkg struct {
	ImportPath string   `json:"ImportPath"`
	Doc        string   `json:"Doc"`
	Imports    []string `json:"Imports"`
	GoFiles    []string `json:"GoFiles"`
}

func packages(ctx context.Context) (list []pkg, err error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-json=ImportPath,Doc,Imports,GoFiles", module+"/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
}

// place is the house of a package, and its room there; the door's is empty.
func place(importPath string) (house, room string, ours bool) {
	rest, ours := strings.CutPrefix(importPath, module)
	if !ours {
		return "", "", false
	}
	house, room, _ = strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	if house == "" {
		return words, "", true
	}
	if inner, rest, _ := strings.Cut(room, "/"); house == tools && shared[inner] {
		return inner, rest, true
	}
	return house, strings.TrimPrefix(room, "internal/"), true
}

// Houses that everything stands on, and those beside the product, which nothing
// imports.
const (
	words = "rota"
	tools = "internal"
)

// Houses with rooms in internal/HOUSE, or all of it, which other houses may enter.
var shared = map[string]bool{"api": true, "auth": true, "compat": true, "job": true, "program": true, "store": true, "test": true, "worker": true}

var beside = map[string]bool{"examples": true, "test": true, "bench": true}
