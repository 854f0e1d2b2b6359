package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

//go:generate go test -run TestReferenceIsCurrent -update .

// Reference writes the reference of all commands as Markdown.
func Reference(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# The command line\n\n" +
		"Generated from the commands by `go generate ./cmd/rota/internal/cli`; do not edit.\n\n" +
		"Results go to standard output, everything else to standard error. The exit status is 0 for success,\n" +
		"1 for failure, 2 for wrong usage, and 3 for an answer that may be out of date because the scheduler does not hear from its store\n" +
		"(standard error says for how long). `-o json` and `-o jsonl` print the answer of the HTTP API, or the entries of a list; these\nfields are stable.\n" +
		"A flag overrides the environment variable in brackets, which overrides the configuration file's key beside it.\n" +
		"`NO_COLOR` is obeyed.\n")
	root := newApp(Env{}).root()
	root.InitDefaultHelpFlag()
	fmt.Fprintf(&b, "\n## Flags of commands that talk to a cluster\n\nCommands that run a part of a cluster (`rota dev`, `rota scheduler`, `rota worker`) do not have them.\n\n```\n%s```\n", root.PersistentFlags().FlagUsages())
	describe(&b, root)
	_, err := io.WriteString(w, b.String())
	return err
}

// flagsOf is the annotation of commands that have the flags of a role.
const flagsOf = "flags-of"

// isRole reports whether the role has a command of its own, with the flags.
func isRole(root *cobra.Command, role string) bool {
	for _, c := range root.Commands() {
		if c.Name() == role {
			return c.LocalNonPersistentFlags().Lookup("config") != nil
		}
	}
	return false
}

func describe(b *strings.Builder, cmd *cobra.Command) {
	if cmd.Runnable() && cmd.HasParent() && (!cmd.HasSubCommands() || cmd.LocalNonPersistentFlags().HasFlags()) {
		fmt.Fprintf(b, "\n## %s\n\n", cmd.CommandPath())
		text := cmd.Long
		if text == "" {
			text = strings.ToUpper(cmd.Short[:1]) + cmd.Short[1:] + "."
		}
		fmt.Fprintf(b, "%s\n\n```\n%s\n", text, strings.TrimSuffix(cmd.UseLine(), " [flags]"))
		flags := cmd.LocalNonPersistentFlags().FlagUsages()
		role := cmd.Annotations[flagsOf]
		if role != "" && isRole(cmd.Root(), role) {
			flags = ""
		}
		if flags != "" {
			fmt.Fprintf(b, "\n%s", flags)
		}
		b.WriteString("```\n")
		if role != "" && flags == "" {
			fmt.Fprintf(b, "\nThe flags are those of `rota %s`.\n", role)
		}
	}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "completion" && c.Name() != "help" {
			describe(b, c)
		}
	}
}
