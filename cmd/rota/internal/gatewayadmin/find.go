package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/userdir"
)

// Client asks a running gateway.
type Client struct {
	addr   string // host:port, https://host:port, or unix:PATH
	token  string
	client *http.Client
	base   string
}

// Find looks how to reach the admin side of a gateway: on this machine by the
// socket that it has put into the user's directory, else on its port with a token.
func Find(addr, token string) (*Client, error) {
	c := &Client{addr: addr, token: token, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, base: "http://" + addr}
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		c.socket(path)
		return c, nil
	}
	if strings.Contains(addr, "://") {
		u, err := url.Parse(addr)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/" {
			return nil, &rota.FieldError{Field: "gateway", Value: addr, Want: "an address, host:port, https://host:port or unix:PATH"}
		}
		c.base, addr = u.Scheme+"://"+u.Host, u.Host
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, &rota.FieldError{Field: "gateway", Value: addr, Want: "an address, host:port, https://host:port or unix:PATH"}
	}
	if token != "" || !auth.Loopback(host) {
		return c, nil
	}
	dir, err := userdir.Path()
	if err != nil {
		return c, nil //nolint:nilerr // then there is nothing to find
	}
	path := filepath.Join(dir, socketName(port))
	if conn, err := net.DialTimeout("unix", path, 5*time.Second); err == nil {
		_ = conn.Close()
		c.socket(path)
		return c, nil
	}
	c.token, err = userdir.Secret(filepath.Join(dir, tokenName(port)))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return c, nil
}

func (c *Client) socket(path string) {
	c.client.Transport = &http.Transport{DialContext: userdir.Dialer(path), DisableKeepAlives: true}
	c.base = "http://localhost"
}

// Ask sends a request to a running gateway. A status other than 200 is an error
// with the gateway's own words.
func (c *Client) Ask(ctx context.Context, method, path string, to io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, http.NoBody)
	if err != nil {
		return err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return fmt.Errorf("gateway at %s: %w", c.addr, err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("gateway at %s: %w", c.addr, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("gateway at %s: %s: %s", c.addr, resp.Status, strings.TrimSpace(string(body)))
	}
	if to != nil {
		_, err = to.Write(body)
	}
	return err
}
