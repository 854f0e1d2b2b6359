package cli

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
)

// roles are the tables of options, by the name of the command that has them.
func roles() []*config.Options {
	_, scheduler := config.NewScheduler()
	_, worker := config.NewWorker()
	_, dev := config.NewDev()
	return []*config.Options{scheduler, worker, dev}
}

func (a *app) configCommand() *cobra.Command {
	var check, show []*cobra.Command
	for _, opts := range roles() {
		check = append(check, a.configCheck(opts))
	}
	for _, opts := range roles() {
		show = append(show, a.configShow(opts))
	}
	return group("config", "check and show the configuration of a role",
		group("check", "check flags, environment and configuration file", check...),
		group("show", "show each value and its origin", show...),
	)
}

func (a *app) configCheck(opts *config.Options) *cobra.Command {
	c := &cobra.Command{
		Use:   opts.Role(),
		Short: "check the configuration of rota " + opts.Role(),
		Args:  cobra.NoArgs,

		Annotations: map[string]string{flagsOf: opts.Role()},
		RunE: func(*cobra.Command, []string) error {
			if err := opts.Load(a.env.Lookup); err != nil {
				return err
			}
			_, err := fmt.Fprintln(a.env.Stderr, "the configuration is valid")
			return err
		},
	}
	opts.AddFlags(c.Flags())
	return c
}

func (a *app) configShow(opts *config.Options) *cobra.Command {
	c := &cobra.Command{
		Use:   opts.Role(),
		Short: "show the configuration of rota " + opts.Role(),
		Args:  cobra.NoArgs,

		Annotations: map[string]string{flagsOf: opts.Role()},
		RunE: func(*cobra.Command, []string) error {
			if err := opts.Load(a.env.Lookup); err != nil {
				return err
			}
			return a.printSettings(opts.Settings())
		},
	}
	opts.AddFlags(c.Flags())
	return c
}

func (a *app) printSettings(settings []config.Setting) error {
	switch a.output {
	case "json":
		line, err := json.Marshal(settings)
		if err != nil {
			return err
		}
		return a.printJSON(line)
	case "jsonl":
		for _, s := range settings {
			line, err := json.Marshal(s)
			if err != nil {
				return err
			}
			if err := a.printJSON(line); err != nil {
				return err
			}
		}
		return nil
	}
	t := terminal.NewTable("KEY", "VALUE", "FROM")
	for _, s := range settings {
		from := string(s.Source)
		if s.Where != "" {
			from += " " + s.Where
		}
		t.Add(s.Key, dash(s.Text()), from)
	}
	return t.Write(a.env.Stdout, nil)
}
