package mesosgot_test

import (
	"fmt"
	"strings"

	got "github.com/rota-project/rota/compat/mesosgot"
)

// A program of mesosgot in one process: a scheduler function and a task that answers it.
func Example() {
	e := got.NewGoTaskExecutor(nil)
	e.RegisterTaskFunc("upper", func(in <-chan got.GoTaskMsg, out chan<- got.GoTaskMsg, args []string) error {
		for m := range in {
			out <- got.GoTaskMsg{TaskName: args[0], MessageData: strings.ToUpper(m.MessageData)}
		}
		return nil
	})
	s := got.NewGoTaskScheduler("", &got.GoTaskSchedConfig{Master: got.Local}, nil)
	s.SpawnTask("upper", 1, nil)
	s.RegisterSchedFunc(func(in <-chan got.GoTaskMsg, out chan<- got.GoTaskMsg, _ <-chan got.SchedEvent) {
		out <- got.GoTaskMsg{TaskName: "upper-0", MessageData: "hello"}
		m := <-in
		fmt.Println(m.TaskName, "says", m.MessageData)
	})
	driver, err := got.NewMesosSchedulerDriver(s.DriverConfig())
	if err != nil {
		panic(err)
	}
	if _, err := driver.Run(); err != nil {
		panic(err)
	}
	// Output: upper-0 says HELLO
}
