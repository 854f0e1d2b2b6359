package gatewaycli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/rota-project/rota/cmd/rota/internal/gatewayfile"
	"github.com/rota-project/rota/internal/secretfile"
)

func keyCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "key NAME",
		Short: "Make an API key, for the keys.file of a gateway.yaml",
		Long: "Make an API key and print it to stdout. The key is stored nowhere: hand it to the\n" +
			"caller. A line with its name and hash is appended to --file, which a running gateway\n" +
			"reloads; without --file the line is printed to stderr. To revoke a key, remove its\n" +
			"line.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, line, err := gatewayfile.NewKey(args[0])
			if err != nil {
				return usagef("name: %w", err)
			}
			if file == "" {
				fmt.Fprint(cmd.ErrOrStderr(), line) //nolint:errcheck // nothing to be done
			} else if err := appendLine(file, line); err != nil {
				return fmt.Errorf("file: %w", err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), key)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "append the line to `FILE`, created with mode 0600 if absent")
	return cmd
}

// appendLine appends a line to a file that nobody else may read or change.
func appendLine(file, line string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	err = secretfile.Check(file)
	if fi, serr := f.Stat(); err == nil && serr == nil && fi.Size() > 0 {
		last := make([]byte, 1)
		if _, rerr := f.ReadAt(last, fi.Size()-1); rerr == nil && last[0] != '\n' {
			line = "\n" + line
		}
	}
	if err == nil {
		_, err = f.WriteString(line)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
