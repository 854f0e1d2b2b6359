package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
)

// certDir is where the authority and what it issues are kept.
const certDir = "rota-pki"

func (a *app) certCommand() *cobra.Command {
	var dir string
	c := group("cert", "certificates for the cluster, from its own certificate authority",
		a.certInit(&dir), a.certIssue(&dir), a.certRenew(&dir), a.certRevoke(&dir), a.certShow(&dir))
	c.PersistentFlags().StringVar(&dir, "dir", certDir, "directory of the certificate authority; keep it private")
	return c
}

func (a *app) certInit(dir *string) *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "init",
		Short: "create a certificate authority",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cert, err := pki.Init(*dir, name, 0, time.Now())
			if err != nil {
				return err
			}
			return a.printCerts([]pki.Certificate{cert})
		},
	}
	c.Flags().StringVar(&name, "name", "rota", "name of the cluster")
	return c
}

func (a *app) certIssue(dir *string) *cobra.Command {
	var hosts []string
	var life time.Duration
	c := &cobra.Command{
		Use:   "issue scheduler|worker|client|etcd NAME",
		Short: "issue a certificate; a worker's or scheduler's is bound to its name",
		Args:  cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			cert, err := pki.Issue(*dir, pki.Request{Role: pki.Role(args[0]), Name: args[1], Hosts: hosts, Life: life}, time.Now())
			if err != nil {
				return wrongField(err)
			}
			return a.printCerts([]pki.Certificate{cert})
		},
		ValidArgs: []string{"scheduler", "worker", "client", "etcd"},
	}
	c.Flags().StringSliceVar(&hosts, "host", nil, "host names and addresses of the server")
	c.Flags().DurationVar(&life, "life", pki.DefaultLife, "validity")
	return c
}

func (a *app) certRenew(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "renew scheduler|worker|client|etcd NAME",
		Short: "renew a certificate; running processes reload its files without a restart",
		Args:  cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			cert, err := pki.Renew(*dir, pki.Role(args[0]), args[1], time.Now())
			if err != nil {
				return wrongField(err)
			}
			return a.printCerts([]pki.Certificate{cert})
		},
	}
}

func (a *app) certRevoke(dir *string) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "revoke FILE | SERIAL | scheduler|worker|client|etcd NAME",
		Short: "revoke a certificate, or all issued to a name so far",
		Long: "Revoke a certificate, given by its file or serial number, or all certificates issued to a name so far.\n" +
			"The command adds a line to the revocation list. Processes with --tls-revoked reload it: within seconds they\n" +
			"refuse the certificate and close its connections. To let a name in again, issue a new certificate afterwards.",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			if file == "" {
				file = filepath.Join(*dir, pki.RevokedFile)
			}
			e := pki.Revocation{}
			if len(args) == 2 {
				e.Role, e.Name = pki.Role(args[0]), args[1]
			} else if _, err := os.Stat(args[0]); err == nil {
				cert, err := pki.Show(args[0])
				if err != nil {
					return err
				}
				e.Serial = cert.Serial
			} else if e.Serial, err = pki.ParseSerial(args[0]); err != nil {
				return usagef("%q: want the file of a certificate, a serial number, or a role and a name", args[0])
			}
			e, err := pki.Revoke(file, e, time.Now())
			if err != nil {
				return wrongField(err)
			}
			_, _ = fmt.Fprintf(a.env.Stderr, "rota: revoked in %s: %s\n", file, e)
			return nil
		},
		ValidArgs: []string{"scheduler", "worker", "client", "etcd"},
	}
	c.Flags().StringVar(&file, "file", "", "revocation list that schedulers and workers follow (--tls-revoked); without it \"revoked\" in the authority's directory")
	return c
}

func (a *app) certShow(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:     "show [FILE...]",
		Aliases: []string{"list"},
		Short:   "show certificates, the first to expire first",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				list, err := pki.List(*dir)
				if err != nil {
					return err
				}
				return a.printCerts(list)
			}
			var list []pki.Certificate
			for _, path := range args {
				cert, err := pki.Show(path)
				if err != nil {
					return err
				}
				list = append(list, cert)
			}
			return a.printCerts(list)
		},
	}
}

func (a *app) printCerts(list []pki.Certificate) error {
	return printRecords(a, list, func(w io.Writer) error {
		t := terminal.NewTable("NAME", "ROLE", "LEFT", "HOSTS", "SERIAL", "FILE")
		for _, c := range list {
			left := c.Left(time.Now())
			text := fmt.Sprintf("%dd", int(left.Hours()/24))
			switch {
			case c.Revoked:
				text = "revoked"
			case left < 0:
				text = "expired"
			case left < 48*time.Hour:
				text = left.Round(time.Minute).String()
			}
			t.Add(c.Name, string(c.Role), text, dash(strings.Join(c.Hosts, ",")), c.Serial, c.File)
		}
		return t.Write(w, a.paint())
	})
}

// printRecords prints what is not a message of the API.
func printRecords[T any](a *app, list []T, table func(io.Writer) error) error {
	switch a.output {
	case "table":
		return table(a.env.Stdout)
	case "jsonl":
		for _, v := range list {
			line, err := json.Marshal(v)
			if err != nil {
				return err
			}
			if err := a.printJSON(line); err != nil {
				return err
			}
		}
		return nil
	}
	if list == nil {
		list = []T{}
	}
	line, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return a.printJSON(line)
}
