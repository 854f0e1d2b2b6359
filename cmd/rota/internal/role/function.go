package role

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/internal/offer"
	"github.com/rota-project/rota/internal/tracing"
	"github.com/rota-project/rota/worker"
)

// offerFunctions offers the functions whose servers are there already: calls are
// passed on to them under the same path.
func offerFunctions(c *config.Worker, w *worker.Worker) error {
	for name, target := range c.Functions {
		u, err := url.Parse(target)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
			return fmt.Errorf("worker %s: %w", c.Name, &rota.FieldError{Field: "function", Value: name + "=" + target, Want: "NAME=http://host:port"})
		}
		if err := w.HandleFunction(name, passOn(u)); err != nil {
			return err
		}
	}
	return nil
}

// passOn passes calls on to the server at a URL. If it does not answer, the gateway is told
// why, and whether the call may have run.
func passOn(to *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
			for _, h := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"} {
				r.Out.Header[h] = r.In.Header[h] // as the gateway has set them
			}
			tracing.Inject(r.In.Context(), r.Out.Header)
		},
		FlushInterval: -1,
		ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, err error) {
			what := offer.BrokeOff
			var oe *net.OpError
			if errors.As(err, &oe) && oe.Op == "dial" {
				what = offer.NotReached
			}
			http.Error(rw, what+err.Error(), http.StatusBadGateway)
		},
	}
}
