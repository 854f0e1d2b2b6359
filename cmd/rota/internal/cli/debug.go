package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rota-project/rota/cmd/rota/internal/bundle"
	"github.com/rota-project/rota/internal/version"
	"github.com/rota-project/rota/internal/wholefile"
)

// exitParts says that a bundle was written, and that parts of it are missing.
const exitParts = 4

// mostCPU is the longest CPU profile of a bundle.
const mostCPU = time.Minute

func (a *app) debugCommand() *cobra.Command {
	return group("debug", "diagnose a cluster", a.debugBundle())
}

func (a *app) debugBundle() *cobra.Command {
	cpu, force := 5*time.Second, false
	c := &cobra.Command{
		Annotations: map[string]string{etcdBeside: ""},
		Use:         "bundle [FILE]",
		Short:       "collect diagnostics of the cluster in one archive",
		Long: `Collect diagnostics in one archive (tar.gz): the state of the cluster, the findings of
rota doctor, and each scheduler's metrics, profiles, configuration and last log lines.
FILE defaults to rota-debug-TIME.tar.gz.

The bundle contains names and errors, but no payloads, job arguments, tokens, passwords
or keys. In the archive, README.txt describes each file and manifest.json lists what is
missing.

Profiles, configurations and logs need the role admin, the rest needs viewer; parts that
the caller may not read are listed as missing. Only the owner can read FILE. The bundle
has at most 64 MiB before compression, and takes at most twice --timeout and --cpu.

Exit status: 0 if the bundle is complete, 4 if it was written but parts are missing, 1 if
it could not be written, 2 for wrong usage.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			now := time.Now()
			name := "rota-debug-" + now.UTC().Format("20060102T150405Z")
			file := name + ".tar.gz"
			if len(args) > 0 {
				file = args[0]
			}
			switch {
			case a.client.etcd.asked:
				return usagef("rota debug bundle asks schedulers; --etcd and --root are for peer clusters")
			case cpu < 0 || cpu > mostCPU:
				return usagef("--cpu: %v: want a duration from 0s to %v", cpu, mostCPU)
			case strings.TrimSpace(file) == "":
				return usagef("FILE: want the name of a file")
			}
			var b *bundle.Bundle
			err := wholefile.Write(file, force, func(to *os.File) (err error) {
				if b, err = a.collect(cmd.Context(), cpu); err != nil {
					return err
				}
				return b.Write(to, name, version.String(), now)
			})
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%s already exists: --force replaces it", file)
			}
			if err != nil {
				return err
			}
			return a.tellBundle(file, b.Missing())
		},
	}
	c.Flags().DurationVar(&cpu, "cpu", cpu, "duration of each scheduler's CPU profile; 0 for none")
	c.Flags().BoolVar(&force, "force", false, "replace FILE if it exists")
	return c
}

// missingTold is of how much that is missing the command itself tells.
const missingTold = 10

func (a *app) tellBundle(file string, missing []bundle.Missing) error {
	if _, err := fmt.Fprintln(a.env.Stdout, file); err != nil {
		return err
	}
	for i, m := range missing {
		if i == missingTold {
			a.say("and %d more: manifest.json lists them", len(missing)-i)
			break
		}
		a.say("missing: %s: %s", m.Name, m.Why)
	}
	if len(missing) > 0 {
		return &exitError{exitParts}
	}
	return nil
}
