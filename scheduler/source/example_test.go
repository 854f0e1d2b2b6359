package source_test

import (
	"context"
	"fmt"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler/source"
)

func ExampleFunc() {
	feeds := source.Func("feeds", func(context.Context) ([]rota.Task, error) {
		return []rota.Task{{ID: "feed-1"}, {ID: "feed-2"}}, nil
	})
	tasks, err := feeds.Read(context.Background())
	fmt.Println(feeds.Name, len(tasks), err)
	// Output: feeds 2 <nil>
}
