package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
)

// tokenFile is where tokens are kept, for schedulers' --tokens.
const tokenFile = "rota-tokens"

func (a *app) tokenCommand() *cobra.Command {
	var file string
	c := group("token", "tokens that authorize callers of the API", a.tokenCreate(&file), a.tokenList(&file), a.tokenRevoke(&file))
	c.PersistentFlags().StringVar(&file, "file", tokenFile, "token file (--tokens of the schedulers); they apply a change within seconds")
	return c
}

// tokenLine is a token as it is shown: without its hash.
type tokenLine struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Role       auth.Role `json:"role"`
	Namespaces []string  `json:"namespaces"`
	Kinds      []string  `json:"kinds"`
	Created    time.Time `json:"created"`
	Expires    time.Time `json:"expires,omitzero"`
	Revoked    time.Time `json:"revoked,omitzero"`
	// Token is the text of one that was just made.
	Token string `json:"token,omitempty"`
}

func lineOf(t auth.Token) tokenLine {
	return tokenLine{ID: t.ID, Name: t.Name, Role: t.Role, Namespaces: t.Namespaces, Kinds: t.Kinds, Created: t.Created, Expires: t.Expires, Revoked: t.Revoked}
}

func (a *app) tokenCreate(file *string) *cobra.Command {
	var role, name string
	var namespaces, kinds []string
	var life time.Duration
	c := &cobra.Command{
		Use:   "create --role viewer|submitter|operator|admin",
		Short: "create a token; it is shown once, and the file stores only its hash",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			r, err := auth.ParseRole(role)
			if err != nil {
				return usagef("--%v", err)
			}
			t := auth.Token{Name: name, Role: r, Namespaces: namespaces, Kinds: kinds}
			now := time.Now()
			if t.Name == "" {
				t.Name = r.String()
			}
			if life > 0 {
				t.Expires = now.Add(life).UTC()
			}
			t, secret, err := auth.NewToken(t, now)
			if err != nil {
				return wrongField(err)
			}
			if err := auth.EditTokenFile(*file, func(all []auth.Token) ([]auth.Token, error) { return append(all, t), nil }); err != nil {
				return err
			}
			if a.output == "table" {
				_, _ = fmt.Fprintf(a.env.Stderr, "rota: token %s with role %s was added to %s; this is its text, shown only once:\n", t.ID, t.Role, *file)
				_, err := fmt.Fprintln(a.env.Stdout, secret.Reveal())
				return err
			}
			l := lineOf(t)
			l.Token = secret.Reveal()
			line, err := json.Marshal(l)
			if err != nil {
				return err
			}
			return a.printJSON(line)
		},
	}
	c.Flags().StringVar(&role, "role", "", "role: viewer, submitter, operator or admin")
	c.Flags().StringVar(&name, "name", "", "name of the token's user, for the audit log")
	c.Flags().StringSliceVar(&namespaces, "namespace", nil, "namespaces that the token is valid in; all by default")
	c.Flags().StringSliceVar(&kinds, "kinds", nil, "kinds of task that the token may declare, with * as a wildcard (feed-*, program/*), job for jobs, call for functions; all that its role allows by default")
	c.Flags().DurationVar(&life, "life", 0, "validity of the token; 0 for no end")
	_ = c.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"viewer", "submitter", "operator", "admin"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) tokenList(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list tokens, without their secrets",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			var ts auth.Tokens
			if _, err := auth.OpenTokenFile(*file, &ts); err != nil {
				return err
			}
			var list []tokenLine
			for _, t := range ts.List() {
				list = append(list, lineOf(t))
			}
			return printRecords(a, list, func(w io.Writer) error {
				t := terminal.NewTable("TOKEN", "NAME", "ROLE", "STATE", "NAMESPACES", "KINDS", "AGE")
				for _, l := range list {
					state := "good"
					switch {
					case !l.Revoked.IsZero():
						state = "revoked"
					case !l.Expires.IsZero() && !time.Now().Before(l.Expires):
						state = "expired"
					}
					t.Add(l.ID, l.Name, l.Role.String(), state, dash(strings.Join(l.Namespaces, ",")), dash(strings.Join(l.Kinds, ",")), age(l.Created))
				}
				return t.Write(w, a.paint())
			})
		},
	}
}

func (a *app) tokenRevoke(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke TOKEN-ID",
		Short: "revoke a token",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := os.Stat(*file); err != nil {
				return err
			}
			err := auth.EditTokenFile(*file, func(all []auth.Token) ([]auth.Token, error) {
				for n := range all {
					if all[n].ID == args[0] {
						if all[n].Revoked.IsZero() {
							all[n].Revoked = time.Now().UTC()
						}
						return all, nil
					}
				}
				return nil, fmt.Errorf("token %q: %w", args[0], rota.ErrNotFound)
			})
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(a.env.Stderr, "rota: token %s is revoked\n", args[0])
			return nil
		},
	}
}
