// Command rota says which worker does what, and keeps it true.
package main

import (
	"context"
	"os"

	"github.com/rota-project/rota/cmd/rota/internal/cli"
	"github.com/rota-project/rota/internal/ending"
)

func main() {
	ctx, stop := ending.Watch(context.Background())
	status := cli.Run(ctx, os.Args[1:], cli.Process())
	stop()
	os.Exit(status)
}
