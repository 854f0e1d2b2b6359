// Command replay runs the history of a seed so that it can be run again, to the byte.
//
// A seed says what happens: which faults come, when, and to whom. It can't say in
// which order goroutines take their turns, which case a select takes or how a map
// is walked: on a machine of several processors no two runs are alike, and what
// one run of a hundred finds is gone with it. So the tests of the seeds are built
// for WebAssembly (wasip1), where Go has one thread and nobody interrupts it, and
// run with a clock and a source of random numbers that know nothing of the world.
// All that is by chance then follows from the seed and from a second number, the
// order: another order is another run of the same seed. (The idea is Polar
// Signals', "(Mostly) Deterministic Simulation Testing in Go", 2024.)
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

// kinds are the tests of seeds, by what they try.
var kinds = map[string]string{
	"schedulers": "./scheduler/internal/simtest",
	"jobs":       "./scheduler/internal/jobs",
}

func main() {
	of := flag.String("of", "schedulers", "schedulers or jobs")
	seed := flag.Uint64("seed", 1, "the seed")
	order := flag.Uint64("order", 1, "number from which all that the seed does not say follows")
	orders := flag.Uint64("orders", 0, "try this many orders from -order on, and tell the first that fails")
	flag.Parse()
	if kinds[*of] == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "replay: -of is schedulers or jobs, and there are no arguments")
		os.Exit(2)
	}
	if err := replay(context.Background(), *of, *seed, *order, *orders); err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
		os.Exit(1)
	}
}

func replay(ctx context.Context, of string, seed, order, orders uint64) error {
	p, err := build(ctx, of)
	if err != nil {
		return err
	}
	if orders == 0 {
		return p.run(ctx, seed, order, os.Stdout)
	}
	for end := order + orders; order < end; order++ {
		var told strings.Builder
		if err := p.run(ctx, seed, order, &told); err != nil {
			fmt.Print(told.String())
			return fmt.Errorf("%w: run it again with -of=%s -seed=%d -order=%d", err, of, seed, order)
		}
	}
	fmt.Printf("seed %d passed in each of %d orders\n", seed, orders)
	return nil
}

// program is a test of seeds, compiled.
type program struct {
	runtime wazero.Runtime
	code    wazero.CompiledModule
}

// build compiles the test of a kind, as it is in the checkout. What it came to is
// kept in bin/replay for the next time.
func build(ctx context.Context, of string) (*program, error) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return nil, err
	}
	kept := filepath.Join(root, "bin", "replay")
	cache, err := wazero.NewCompilationCacheWithDir(filepath.Join(kept, "cache"))
	if err != nil {
		return nil, err
	}
	file := filepath.Join(kept, of+".wasm")
	c := exec.CommandContext(ctx, "go", "test", "-trimpath", "-c", "-o", file, kinds[of])
	c.Dir, c.Stdout, c.Stderr = root, os.Stderr, os.Stderr
	c.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GOWORK=off")
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("build %s for wasip1: %w", kinds[of], err)
	}
	code, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p := &program{runtime: wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCompilationCache(cache))}
	wasi_snapshot_preview1.MustInstantiate(ctx, p.runtime)
	if p.code, err = p.runtime.CompileModule(experimental.WithCompilationWorkers(ctx, 2), code); err != nil {
		return nil, fmt.Errorf("compile %s: %w", file, err)
	}
	return p, nil
}

// run runs one history and writes all of it.
func (p *program) run(ctx context.Context, seed, order uint64, told io.Writer) error {
	now := int64(0)
	chance := [32]byte{}
	copy(chance[:], strconv.FormatUint(order, 10))
	m, err := p.runtime.InstantiateModule(ctx, p.code, wazero.NewModuleConfig().
		WithName("").
		WithArgs("test", "-test.v", "-test.timeout=0", "-test.run=^TestSeeds$").
		WithEnv("ROTA_SEED", strconv.FormatUint(seed, 10)).
		WithStdout(told).WithStderr(told).
		WithRandSource(rand.NewChaCha8(chance)).
		// A clock that only goes on when somebody looks or waits.
		WithNanotime(func() int64 { now += 1000; return now }, sys.ClockResolution(1)).
		WithWalltime(func() (int64, int32) { now += 1000; return now / 1e9, int32(now % 1e9) }, sys.ClockResolution(1)).
		WithNanosleep(func(ns int64) { now += ns }))
	if m != nil {
		defer func() { _ = m.Close(ctx) }()
	}
	var exit *sys.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("seed %d in order %d: %w", seed, order, err)
	}
	return nil
}
