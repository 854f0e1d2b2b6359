package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/rota-project/rota/cmd/rota/internal/gatewaycli"
)

func (a *app) root() *cobra.Command {
	root := group("rota", "rota decides which worker does what, and keeps it true",
		a.taskCommand(), a.workerCommand(), a.jobCommand(), a.programCommand(), a.poolCommand(), a.memberCommand(), a.backupCommand(), a.restoreCommand(), a.statusCommand(), a.doctorCommand(), a.healthCommand(), a.debugCommand(), a.whyCommand(), a.eventsCommand(), a.planCommand(),
		a.scheduleCommand(), a.uiCommand(), a.topCommand(), a.configCommand(), a.manCommand(), a.versionCommand(),
		a.schedulerCommand(), a.devCommand(), a.certCommand(), a.tokenCommand(),
	)
	root.AddCommand(gatewaycli.Commands()...)
	children := root.Args
	root.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil // the bare name asks for help
		}
		return children(cmd, args)
	}
	sayOperands(root)
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	root.SilenceUsage, root.SilenceErrors = true, true
	root.SetIn(a.env.Stdin)
	root.SetOut(a.env.Stdout)
	root.SetErr(a.env.Stderr)
	root.CompletionOptions.HiddenDefaultCmd = false
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Annotations[runsPart] != "" {
			a.serve(cmd)
		} else { // what the environment says of a server is of no interest to one
			if err := a.globals(root, cmd); err != nil {
				return err
			}
		}
		a.running = true
		return nil
	}
	fs := root.PersistentFlags()
	fs.StringVarP(&a.output, "output", "o", "table", "output format: table, json or jsonl [ROTA_OUTPUT]")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "jsonl"}, cobra.ShellCompDirectiveNoFileComp))
	a.client.add(fs)
	return root
}

// etcdBeside marks a command that may ask etcd besides schedulers.
const etcdBeside = "etcd-beside"

// globals completes the flags that all commands have by the environment.
func (a *app) globals(root, cmd *cobra.Command) error {
	fs := root.PersistentFlags()
	if v, ok := a.env.Lookup("ROTA_OUTPUT"); ok && !fs.Changed("output") && v != "" {
		a.output = v
	}
	switch a.output {
	case "table", "json", "jsonl":
	default:
		return usagef("--output: %q: want table, json or jsonl", a.output)
	}
	_, a.client.etcd.beside = cmd.Annotations[etcdBeside]
	return a.client.complete(fs, a.env.Lookup)
}

// sayOperands has every command that takes operands say which, when there are too
// few or too many of them.
func sayOperands(parent *cobra.Command) {
	for _, c := range parent.Commands() {
		sayOperands(c)
		fits := c.Args
		if _, operands, ok := strings.Cut(c.Use, " "); ok && fits != nil && !c.HasSubCommands() {
			c.Args = func(cmd *cobra.Command, args []string) error {
				if fits(cmd, args) != nil {
					return usagef("want %s %s, found %d arguments", cmd.CommandPath(), operands, len(args))
				}
				return nil
			}
		}
	}
}
