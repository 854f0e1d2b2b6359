package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/cmd/rota/internal/gatewaycli"
	"github.com/rota-project/rota/internal/ending"
)

// runsPart is the annotation of commands that run a part of a cluster.
const runsPart = gatewaycli.RunsPart

// role makes c the command that runs a role: it has the role's options as
// flags, and run is called once they are loaded and found right. run's context
// ends when the user or the system asks the process to stop; run then returns
// nil. c may hold other commands too, as the noun worker does. The flags of
// those that ask a cluster are none of a role's: they are not in its help, and
// one that is given is an error.
func (a *app) role(c *cobra.Command, opts *config.Options, run func(context.Context) error) *cobra.Command {
	opts.AddFlags(c.Flags())
	c.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q for %s", args[0], cmd.CommandPath())
		}
		var err error
		cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Changed || f.Name == "help" {
				return
			}
			err = fmt.Errorf("unknown flag: --%s: %s runs a part of a cluster and talks to no other", f.Name, cmd.CommandPath())
		})
		return err
	}
	c.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		hide := func(yes bool) {
			cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { f.Hidden = yes && f.Name != "help" })
		}
		hide(cmd == c)
		cmd.Root().HelpFunc()(cmd, args)
		hide(false)
	})
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	c.Annotations[runsPart] = "yes"
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := opts.Load(a.env.Lookup); err != nil {
			return err
		}
		return wrongField(run(ending.Hangup(cmd.Context())))
	}
	return c
}
