package gatewaycli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rota-project/rota/cmd/rota/internal/gatewayfile"
	"github.com/rota-project/rota/gateway"
)

func gatewayCommand() *cobra.Command {
	var file string
	var check bool
	var lf logFlags
	var tf traceFlags
	cmd := &cobra.Command{
		Use:         "gateway [--config FILE]",
		Annotations: map[string]string{RunsPart: "yes"},
		Short:       "Run a gateway from a gateway.yaml; it reloads when that file or one that it names changes, and on SIGHUP",
		Args:        cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := lf.logger(cmd)
			if err != nil {
				return err
			}
			cfg, err := gatewayfile.Load(file)
			if err != nil {
				return &usageError{err}
			}
			cfg.Logger = log
			if !check {
				spans, err := tf.open(cmd, &cfg)
				if err != nil {
					return err
				}
				defer spans.Close()
			}
			g, err := gateway.New(cfg)
			if err != nil {
				return fieldError(file, err)
			}
			defer g.Close()
			if check {
				fmt.Fprintln(cmd.OutOrStdout(), file+": ok") //nolint:errcheck // nothing to be done
				return nil
			}
			w := gatewayfile.Watch(cmd.Context(), file, g, log)
			defer w.Stop()
			defer onHangup(log, w.Reload)()
			return run(cmd, g, cfg)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "gateway.yaml", "configuration `FILE`")
	cmd.Flags().BoolVar(&check, "check", false, "check the configuration and exit")
	lf.add(cmd)
	tf.add(cmd)
	cmd.AddCommand(keyCommand())
	return cmd
}
