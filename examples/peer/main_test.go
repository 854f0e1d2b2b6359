package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestRun runs the example until all feeds are read.
func TestRun(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-once"}, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"replica-1: all 12 feeds are read", "reads feed-11 from https://feeds.example/11", "leaves feed-00"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not said in:\n%s", want, out.String())
		}
	}
}

func TestWrongFlag(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-replicas"}, &out); err == nil {
		t.Error("an unknown flag is taken")
	}
}
