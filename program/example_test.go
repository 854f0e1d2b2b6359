package program_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/rota-project/rota/program"
)

// A scheduler function sends words to two tasks, which answer. The same program runs
// with program.Local in processes, and with program.Cluster on workers.
func Example() {
	var functions program.Functions
	if err := functions.RegisterTaskFunc("upper", func(in <-chan program.Msg, out chan<- program.Msg, args []string, _ map[string]string) error {
		for m := range in { // closed when the task is to end
			out <- program.Msg{Task: args[0], Data: []byte(strings.ToUpper(string(m.Data)))}
		}
		return nil
	}); err != nil {
		panic(err)
	}
	p := program.New("words")
	if err := p.SpawnTask("upper", 2, program.Resources{}); err != nil {
		panic(err)
	}
	if err := p.RegisterSchedFunc(func(in <-chan program.Msg, out chan<- program.Msg, _ <-chan program.Event) {
		for n, word := range []string{"calm", "dense"} {
			out <- program.Msg{Task: fmt.Sprintf("upper-%d", n), Data: []byte(word)}
			m := <-in
			fmt.Printf("%s: %s\n", m.Task, m.Data)
		}
	}); err != nil {
		panic(err)
	}
	if err := p.Run(context.Background(), program.InProcess(program.WithFunctions(&functions))); err != nil {
		panic(err)
	}
	// Output:
	// upper-0: CALM
	// upper-1: DENSE
}
