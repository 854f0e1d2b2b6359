package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestSameHistory has the same seed and order tell the same history, to the byte,
// and another order another one.
func TestSameHistory(t *testing.T) {
	for of := range kinds {
		t.Run(of, func(t *testing.T) {
			t.Parallel()
			p, err := build(t.Context(), of)
			if err != nil {
				t.Fatal(err)
			}
			tell := func(seed, order uint64) []byte {
				t.Helper()
				var told bytes.Buffer
				if err := p.run(t.Context(), seed, order, &told); err != nil {
					t.Fatalf("%v\n%s", err, &told)
				}
				if n := bytes.Count(told.Bytes(), []byte("\n")); n < 100 {
					t.Fatalf("seed %d tells %d lines: too few to compare", seed, n)
				}
				return told.Bytes()
			}
			same := 0
			for seed := uint64(1); seed <= 3; seed++ {
				first := tell(seed, 1)
				if again := tell(seed, 1); !bytes.Equal(again, first) {
					t.Errorf("seed %d tells another history the second time: %s", seed, differ(first, again))
				}
				if bytes.Equal(tell(seed, 2), first) {
					same++
				}
			}
			if same == 3 {
				t.Error("the order changes nothing")
			}
		})
	}
}

// differ says where two histories part.
func differ(a, b []byte) string {
	as, bs := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return as[i] + "\n" + bs[i]
		}
	}
	return "one is longer"
}
