package nomad

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/rota-project/rota/engine/internal/room"
	"github.com/rota-project/rota/internal/secretfile"
	"github.com/rota-project/rota/internal/text"
)

const (
	// listEvery is how often Nomad is asked what there is.
	listEvery = 5 * time.Second
	// orphanFor is how long a token may lie there without a job: it is written before.
	orphanFor = 2 * time.Minute
	// maxTold is how much of an error of Nomad's is told.
	maxTold = 400
	// maxToken is the most bytes of a file of an ACL token.
	maxToken = 4 << 10
	// jobsPath is the directory of variables that tasks of a job may read.
	jobsPath = "nomad/jobs/"
	// prefix begins the name of each job.
	prefix = "rota-pool-"
	// ours is the filter of what belongs to such a job.
	ours = `JobID matches "^` + prefix + `"`
)

// Config is what the engine needs.
type Config struct {
	// Self is the program that the word "rota" stands for, on the nodes.
	Self string
	// TokenFile is a file with the ACL token, read at each request. Empty: NOMAD_TOKEN.
	TokenFile string
}

// Engine is the engine.
type Engine struct {
	cfg       Config
	client    *api.Client
	namespace string // of pools that say none

	listing room.Listing

	mu      sync.Mutex
	orphans map[string]time.Time // by namespace and path: since when a variable has no job
}

// New returns an engine, for the Nomad that the variables NOMAD_... of this process name.
// It asks nothing of it. An error says which of them is wrong.
func New(c Config) (*Engine, error) { return open(c, api.DefaultConfig()) }

func open(c Config, conf *api.Config) (*Engine, error) {
	u, err := url.Parse(conf.Address)
	if err != nil || u.Host == "" && u.Scheme != "unix" || !slices.Contains([]string{"http", "https", "unix"}, u.Scheme) {
		return nil, errors.New("NOMAD_ADDR is not as in https://nomad.example:4646")
	}
	client, err := api.NewClient(conf)
	if err != nil {
		return nil, fmt.Errorf("NOMAD_CACERT, NOMAD_CLIENT_CERT and the like: %w", err)
	}
	e := &Engine{cfg: c, client: client, namespace: cmp.Or(conf.Namespace, api.DefaultNamespace), listing: room.Listing{Every: listEvery}, orphans: map[string]time.Time{}}
	if _, err := e.token(); err != nil {
		return nil, err
	}
	return e, nil
}

// token reads the file of the ACL token. It is empty where there is no file: the client
// then has that of NOMAD_TOKEN, if there is one.
func (e *Engine) token() (string, error) {
	if e.cfg.TokenFile == "" {
		return "", nil
	}
	b, err := secretfile.ReadUpTo(e.cfg.TokenFile, maxToken)
	token := strings.TrimSpace(string(b))
	switch {
	case err != nil:
		return "", fmt.Errorf("token of Nomad: %w", err)
	case token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("token of Nomad: %s: want one word", e.cfg.TokenFile)
	}
	return token, nil
}

func (e *Engine) query(ctx context.Context, q api.QueryOptions) (*api.QueryOptions, error) {
	token, err := e.token()
	q.AuthToken = token
	return q.WithContext(ctx), err
}

func (e *Engine) write(ctx context.Context, namespace string) (*api.WriteOptions, error) {
	token, err := e.token()
	return (&api.WriteOptions{Namespace: namespace, AuthToken: token}).WithContext(ctx), err
}

// handle is what a copy is called: "namespace/job", and with "/allocation" after it one
// that is not the first of its job. An empty namespace is the scheduler's own.
func handle(namespace, job string) string { return namespace + "/" + job }

// Start puts the join token where only the worker's task can read it, and registers its
// job. Its handle is known before, so that one of unknown outcome is listed by it.
func (e *Engine) Start(ctx context.Context, o room.Order) (string, error) {
	defer e.listing.Forget()
	namespace := cmp.Or(o.Options["namespace"], e.namespace)
	w, err := e.write(ctx, namespace)
	if err != nil {
		return "", fmt.Errorf("start %s: %w", o.Worker, err)
	}
	job := e.job(o, namespace)
	secret := &api.Variable{Namespace: namespace, Path: jobsPath + *job.ID, Items: map[string]string{tokenItem: o.Token}}
	if _, _, err := e.client.Variables().CheckedCreate(secret, w); err != nil {
		var another api.ErrCASConflict
		if !errors.As(err, &another) {
			_ = e.spend(namespace, secret.Path) // it may be there in spite of that
		}
		return "", fmt.Errorf("start %s: write variable %s: %w", o.Worker, secret.Path, tell(err))
	}
	if _, _, err := e.client.Jobs().EnforceRegister(job, 0, w); err != nil {
		err = judge(err)
		if !errors.Is(err, room.ErrUnsure) {
			_ = e.spend(namespace, secret.Path)
		}
		return "", fmt.Errorf("start %s: %w", o.Worker, err)
	}
	return handle(namespace, *job.ID), nil
}

// spend deletes a variable, whatever has become of the call that it is done for. What it
// leaves List finds.
func (e *Engine) spend(namespace, path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	w, err := e.write(ctx, namespace)
	if err != nil {
		return err
	}
	_, err = e.client.Variables().Delete(path, w)
	return err
}

// tell is an error of Nomad's as people need it: without the words around its answer.
func tell(err error) error {
	var answer api.UnexpectedResponseError
	if errors.As(err, &answer) {
		body := strings.Join(strings.Fields(strings.ToValidUTF8(answer.Body(), "?")), " ")
		if body == "" {
			body = answer.StatusText()
		}
		return fmt.Errorf("nomad answers %d: %s", answer.StatusCode(), text.Clip(body, maxTold))
	}
	var u *url.Error
	if errors.As(err, &u) { // its URL has what the client adds to it
		return fmt.Errorf("nomad: %w", u.Err)
	}
	return fmt.Errorf("nomad: %w", err)
}

// judge says what an error of a registration means.
func judge(err error) error {
	told := tell(err)
	lower := strings.ToLower(told.Error())
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(lower, w) })
	}
	var answer api.UnexpectedResponseError
	var dial *net.OpError
	switch {
	case has("quota"):
		return fmt.Errorf("%w: %w", room.ErrNoRoom, told)
	case errors.As(err, &dial) && dial.Op == "dial": // it was not sent
	case !errors.As(err, &answer):
		return fmt.Errorf("%w: %w", room.ErrUnsure, told)
	case answer.StatusCode() < http.StatusInternalServerError, has("nonexistent", "does not exist", "validation", "invalid"):
	default:
		return fmt.Errorf("%w: %w", room.ErrUnsure, told)
	}
	return told
}

// Stop has Nomad end a worker's job: what waits is not started, what runs is asked to end
// and killed if it takes longer than its kill_timeout. A copy that is not its job's first
// is asked by itself; Nomad would put another in its place if it were told to stop it.
func (e *Engine) Stop(ctx context.Context, handle string) error {
	defer e.listing.Forget()
	words := strings.Split(handle, "/")
	if len(words) < 2 || !strings.HasPrefix(words[1], prefix) {
		return nil // there is no such job
	}
	var err error
	if len(words) == 3 {
		var q *api.QueryOptions
		if q, err = e.query(ctx, api.QueryOptions{Namespace: words[0]}); err == nil {
			err = e.client.Allocations().Signal(&api.Allocation{ID: words[2]}, q, taskName, stopSignal)
		}
	} else {
		var w *api.WriteOptions
		if w, err = e.write(ctx, words[0]); err == nil {
			_, _, err = e.client.Jobs().Deregister(words[1], false, w)
		}
	}
	var answer api.UnexpectedResponseError
	if err == nil || errors.As(err, &answer) && (answer.StatusCode() == http.StatusNotFound || strings.Contains(answer.Body(), "not running")) {
		return nil
	}
	return fmt.Errorf("stop %s: %w", handle, tell(err))
}

// Close closes connections that are idle. Jobs live on, and the next scheduler goes on with
// them.
func (e *Engine) Close(context.Context) error {
	e.client.Close()
	return nil
}
