// Command rota says which worker does what, and keeps it true.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/rota-project/rota/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := cli.Run(ctx, os.Args[1:], cli.Process())
	stop()
	os.Exit(status)
}
