package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestMapIsCurrent: docs/map.svg shows the houses as they are. "make map" draws it anew.
func TestMapIsCurrent(t *testing.T) {
	t.Parallel()
	var now bytes.Buffer
	if err := run(t.Context(), &now); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile("../../docs/map.svg")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(now.Bytes(), kept) {
		t.Error("docs/map.svg is not current: make map")
	}
}

// TestHouses: no two houses import each other, and there are few.
func TestHouses(t *testing.T) {
	t.Parallel()
	list, err := packages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	houses := housesOf(list)
	if len(houses) < 10 || len(houses) > 22 {
		t.Errorf("%d houses, want 10 to 22", len(houses))
	}
	for _, a := range arrows(houses) {
		if a.up {
			t.Errorf("%s and %s import each other", a.from.name, a.to.name)
		}
	}
}

// TestArrows: an import that others imply has no arrow, one that runs up is red.
func TestArrows(t *testing.T) {
	t.Parallel()
	pkgs := func(imports ...string) (list []pkg) {
		for _, i := range imports {
			from, to, _ := strings.Cut(i, " ")
			list = append(list, pkg{ImportPath: module + "/" + from, Imports: []string{module + "/" + to}, GoFiles: []string{"x.go"}})
		}
		return append(list, pkg{ImportPath: module + "/c", GoFiles: []string{"x.go"}})
	}
	told := func(list []pkg) (s string) {
		for _, a := range arrows(housesOf(list)) {
			s += a.from.name + a.to.name
			if a.up {
				s += "!"
			}
			s += " "
		}
		return s
	}
	for _, c := range []struct{ got, want string }{
		{told(pkgs("a b", "a/x c", "b c")), "bc ab "},
		{told(pkgs("a b", "b/x a", "b c")), "ba! bc ab "},
	} {
		if c.got != c.want {
			t.Errorf("arrows %q, want %q", c.got, c.want)
		}
	}
}
