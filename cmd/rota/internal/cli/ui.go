package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

func (a *app) uiCommand() *cobra.Command {
	var only bool
	var at string
	c := &cobra.Command{
		Use:   "ui",
		Short: "open the console in the browser, signed in",
		Long: "Open the console in the browser, signed in with the role of this command's credentials.\n\n" +
			"The browser gets a one-time code that is valid for a minute. It follows the # of the address, which browsers do not send to servers.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if at != "" {
				u, err := url.Parse(at)
				if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
					return usagef("--url: %q: want the console's address, such as https://rota.example.org", at)
				}
			}
			var code *rotav1.SignInCode
			err := a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) (err error) {
				code, err = rotav1.NewSignInsClient(conn).CreateSignInCode(ctx, &rotav1.CreateSignInCodeRequest{})
				return err
			})
			if status.Code(err) == codes.Unimplemented {
				return errors.New("this scheduler is an older version: open its console and paste a token")
			}
			if err != nil {
				return err
			}
			address, err := consoleAddress(at, code, a.server)
			if err != nil {
				return err
			}
			if only {
				_, err := fmt.Fprintln(a.env.Stdout, address)
				return err
			}
			shown, _, _ := strings.Cut(address, "#")
			a.say("opening %s in the browser", shown)
			if err := openBrowser(cmd.Context(), a.env.Lookup, address); err != nil {
				return fmt.Errorf("no browser could be opened (%w): rota ui --print shows the address", err)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&only, "print", false, "print the address instead; it signs in the first browser that opens it within a minute")
	c.Flags().StringVar(&at, "url", "", "address of the console, if it is behind a proxy or under a path")
	return c
}

// consoleAddress is where the browser signs in: at the console that was asked for, or
// that the scheduler says to have. One that listens on all addresses is at the one
// that this command has asked.
func consoleAddress(at string, code *rotav1.SignInCode, server string) (string, error) {
	if at == "" {
		u, err := url.Parse(code.GetConsole())
		if err != nil || u.Host == "" {
			return "", errors.New("the scheduler reports no address of its console: give it with --url")
		}
		host, port, err := net.SplitHostPort(u.Host)
		if ip, e := netip.ParseAddr(host); err == nil && (host == "" || e == nil && ip.IsUnspecified()) {
			asked, _, err := net.SplitHostPort(server)
			if err != nil {
				return "", fmt.Errorf("the scheduler reports no address of its console: give it with --url: %w", err)
			}
			u.Host = net.JoinHostPort(asked, port)
		}
		at = u.String()
	}
	at = strings.TrimSuffix(at, "/")
	if code.GetCode() == "" {
		return at + "/", nil
	}
	return at + "/signin#" + code.GetCode(), nil
}

// browserTime is how long a browser may take to read the page that sends it on.
const browserTime = 10 * time.Second

// sendOn is a page that sends a browser on to an address. Others see the arguments of
// a browser's command, so the address, with the code in it, is in a file instead.
var sendOn = template.Must(template.New("").Parse(`<!doctype html>
<meta charset="utf-8"><meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0;url={{.}}">
<title>rota</title>
<a href="{{.}}">Sign in to rota</a>
`))

// openBrowser opens an address, by a page that only this user can read and that is
// gone when this returns.
func openBrowser(ctx context.Context, lookup func(string) (string, bool), address string) (err error) {
	dir, err := os.MkdirTemp("", "rota-ui-") // 0700
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var page bytes.Buffer
	if err := sendOn.Execute(&page, address); err != nil {
		return err
	}
	file := filepath.Join(dir, "rota.html")
	if err := os.WriteFile(file, page.Bytes(), 0o600); err != nil {
		return err
	}
	name, args := "xdg-open", []string{file}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", file}
	}
	if own, ok := lookup("BROWSER"); ok && own != "" && !strings.ContainsAny(own, ": \t%") {
		name = own
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), name, args...) //nolint:gosec // the user's own choice
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	read := time.NewTimer(browserTime)
	defer read.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				return err
			}
			ended = nil // it has handed the page on
		case <-read.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
