package gatewayfile

import (
	"fmt"
	"time"

	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/internal/apikey"
)

// rules are those of a function or a route.
type rules struct {
	MaxBody *int64       `yaml:"max_body_bytes"`
	Headers *headersFile `yaml:"headers"`
	Public  bool         `yaml:"public"` // nothing of the defaults' guard
	Keys    *keysFile    `yaml:"keys"`
	Forward *forwardFile `yaml:"forward_auth"`
}

type keysFile struct {
	File   string `yaml:"file"`
	Header string `yaml:"header"`
}

type forwardFile struct {
	URL             string        `yaml:"url"`
	Timeout         time.Duration `yaml:"timeout"`
	RequestHeaders  []string      `yaml:"request_headers"`
	ResponseHeaders []string      `yaml:"response_headers"`
	TLS             workerTLS     `yaml:"tls"`
}

type headersFile struct {
	Request  changes `yaml:"request"`
	Response changes `yaml:"response"`
}

type changes struct {
	Set    map[string]string `yaml:"set"`
	Remove []string          `yaml:"remove"`
}

// onto lays what the file says over other rules.
func (r *rules) onto(to gateway.Rules, from *files, field string) (gateway.Rules, error) {
	if r.MaxBody != nil {
		if to.MaxBody = *r.MaxBody; to.MaxBody == 0 {
			to.MaxBody = gateway.NoLimit
		} else if to.MaxBody < 0 {
			to.MaxBody = min(to.MaxBody, 2*gateway.NoLimit) // none of them means anything here: they are refused
		}
	}
	if h := r.Headers; h != nil {
		to.Request, to.Response = gateway.HeaderChanges(h.Request), gateway.HeaderChanges(h.Response)
	}
	if r.Public {
		if r.Keys != nil || r.Forward != nil {
			return to, fmt.Errorf("%s.public: want false, as there are keys or forward_auth", field)
		}
		to.Guard = gateway.Guard{}
	}
	if k := r.Keys; k != nil {
		b, err := from.secret(k.File)
		if err != nil {
			return to, fmt.Errorf("%s.keys.file: %w", field, err)
		}
		names, err := apikey.Parse(b)
		if err != nil {
			return to, fmt.Errorf("%s.keys.file: %s: %w", field, k.File, err)
		}
		keys := &gateway.Keys{Names: map[string]string{}, Header: k.Header}
		for h, name := range names {
			keys.Names[h.String()] = name
		}
		to.Guard.Keys = keys
	}
	if f := r.Forward; f != nil {
		conf, err := f.TLS.read(from, field+".forward_auth.tls")
		if err != nil {
			return to, err
		}
		to.Guard.Forward = &gateway.ForwardAuth{URL: f.URL, Timeout: f.Timeout, RequestHeaders: f.RequestHeaders, ResponseHeaders: f.ResponseHeaders, TLS: conf}
	}
	return to, nil
}

// splitFile shares a function's calls with another one.
type splitFile struct {
	To     string  `yaml:"to"`
	Share  float64 `yaml:"share"`
	Sticky struct {
		Client bool   `yaml:"client"`
		Header string `yaml:"header"`
	} `yaml:"sticky"`
}

func (s *splitFile) read() *gateway.Split {
	if s == nil {
		return nil
	}
	return &gateway.Split{To: s.To, Share: s.Share, StickyClient: s.Sticky.Client, StickyHeader: s.Sticky.Header}
}
