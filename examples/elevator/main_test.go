package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/program/demo/lift"
	"github.com/rota-project/rota/program"
)

func TestMain(m *testing.M) {
	if err := lift.Register(&program.Default); err != nil {
		panic(err)
	}
	program.ServeIfWorker()
	os.Exit(m.Run())
}

// TestBuilding runs the same building in one process and in three.
func TestBuilding(t *testing.T) {
	t.Parallel()
	for name, where := range map[string]program.Place{"in-process": program.InProcess(), "local": program.Local(3)} {
		for _, plain := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var out bytes.Buffer
				o := options{floors: 8, cars: 4, tick: 2 * time.Millisecond, lasts: 2 * time.Second, seed: 7, plain: plain}
				o.name = strings.ReplaceAll(t.Name(), "/", "-")
				s, err := operate(t.Context(), o, where, newView(&out, plain))
				if err != nil {
					t.Fatal(err)
				}
				if s.in < 5 || s.arrived != s.in {
					t.Errorf("%s", s)
				}
				if n := bytes.Count(out.Bytes(), []byte("\n")); n < 20 {
					t.Errorf("only %d lines were shown", n)
				}
			})
		}
	}
}
