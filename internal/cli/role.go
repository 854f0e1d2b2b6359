package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rota-project/rota/config"
)

// role makes c the command that runs a role: it has the role's options as
// flags, and run is called once they are loaded and found right. run's context
// ends when the user or the system asks the process to stop; run then returns
// nil. c may hold other commands too, as the noun worker does.
func (a *app) role(c *cobra.Command, opts *config.Options, run func(context.Context) error) *cobra.Command {
	opts.AddFlags(c.Flags())
	c.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q for %s", args[0], cmd.CommandPath())
		}
		return nil
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := opts.Load(a.env.Lookup); err != nil {
			return err
		}
		return run(cmd.Context())
	}
	return c
}
