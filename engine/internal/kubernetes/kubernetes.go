// Package kubernetes is the engine of a cluster that Kubernetes runs: each worker is a
// pod of its own, which nothing but this engine makes and which is never started again.
// The names of workers, and which of them goes, are rota's: so there is no Deployment
// between them, which would choose both itself.
//
//	Start ──► pod (no secret in it) ──► Secret with the join token, which the pod owns
//	Stop  ──► the pod is deleted: its worker hands over within the grace period
//	List  ──► the pods with the labels of workers, in the namespaces of the engine
//
// A pod waits for its Secret, and the Secret goes with it. It needs the rights to create,
// list and delete pods and to create Secrets in its namespaces, and no others.
package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/rota-project/rota/engine/internal/room"
	"github.com/rota-project/rota/internal/text"
)

const (
	// listEvery is how often pods are listed at most.
	listEvery = 2 * time.Second
	// page is how many pods one answer has.
	page = 500
	// keepEnded is how long a pod that has ended is kept, for whoever wants its log.
	keepEnded = time.Minute
	// removeAtOnce is how many pods that have ended are removed after one list.
	removeAtOnce = 20
	// maxTold is how much of an error is told.
	maxTold = 400
)

// Config is what the engine needs.
type Config struct {
	// Kubeconfig is a file that says where the API server is, and Context one of its
	// contexts. Empty: KUBECONFIG, ~/.kube/config, or the account of the pod that this
	// process runs in.
	Kubeconfig, Context string
	// Namespaces are those in which pools may have their workers; the first is that of
	// pools that name none. None: that of the context, or of this process's pod.
	Namespaces []string
	Logger     *slog.Logger
}

// Engine is the engine.
type Engine struct {
	client     *rest.RESTClient
	namespaces []string
	log        *slog.Logger
	listing    room.Listing
}

// New returns an engine. It reads files, and asks nothing of Kubernetes.
func New(c Config) (*Engine, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.Kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: c.Context})
	cfg, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("where is the API server (--kubeconfig, KUBECONFIG, or the account of a pod)? %w", err)
	}
	namespaces := slices.Clone(c.Namespaces)
	if len(namespaces) == 0 {
		own, _, err := loader.Namespace()
		if err != nil {
			return nil, err
		}
		namespaces = []string{own}
	}
	e, err := newEngine(cfg, namespaces)
	if err == nil && c.Logger != nil {
		e.log = c.Logger
	}
	return e, err
}

func newEngine(cfg *rest.Config, namespaces []string) (*Engine, error) {
	cfg = rest.CopyConfig(cfg)
	scheme := runtime.NewScheme() // of errors; objects are read and written as they are
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	cfg.UserAgent, cfg.QPS, cfg.Burst, cfg.WarningHandler = "rota", 50, 100, rest.NoWarnings{}
	client, err := rest.UnversionedRESTClientFor(cfg)
	if err != nil {
		return nil, err
	}
	return &Engine{client: client, namespaces: namespaces, log: slog.New(slog.DiscardHandler), listing: room.Listing{Every: listEvery}}, nil
}

// send makes a request with an object in it, if there is one, and reads the answer's.
func (e *Engine) send(ctx context.Context, r *rest.Request, in, out any) error {
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return err
		}
		r = r.Body(body).SetHeader("Content-Type", "application/json")
	}
	res := r.SetHeader("Accept", "application/json").MaxRetries(2).Do(ctx)
	if err := res.Error(); err != nil {
		return err
	}
	body, err := res.Raw()
	if err == nil && out != nil {
		err = json.Unmarshal(body, out)
	}
	return err
}

func path(namespace string, rest ...string) []string {
	return append([]string{"api", "v1", "namespaces", namespace}, rest...)
}

// Start makes a pod, and the Secret that it waits for.
func (e *Engine) Start(ctx context.Context, o room.Order) (string, error) {
	defer e.listing.Forget()
	namespace := e.namespaces[0]
	if v := o.Options["namespace"]; v != "" {
		namespace = v
	}
	if !slices.Contains(e.namespaces, namespace) {
		return "", fmt.Errorf("start %s: namespace %q: this scheduler has workers in %s only (--kube-namespaces)", o.Worker, namespace, strings.Join(e.namespaces, ", "))
	}
	owner, err := e.owner(ctx, namespace, o.Options["owner"])
	if err != nil {
		return "", fmt.Errorf("start %s: %w", o.Worker, err)
	}
	pod, err := podOf(o, namespace, owner)
	if err != nil {
		return "", fmt.Errorf("start %s: %w", o.Worker, err)
	}
	made := &corev1.Pod{}
	if err := e.send(ctx, e.client.Post().AbsPath(path(namespace, "pods")...), pod, made); err != nil {
		return "", fmt.Errorf("start %s: make its pod: %w", o.Worker, judge(err))
	}
	if err := e.send(ctx, e.client.Post().AbsPath(path(namespace, "secrets")...), secretOf(o, made), nil); err != nil {
		// Without it the pod never starts, and is not to stay.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if left := e.Stop(undo, handleOf(made)); left != nil {
			return "", fmt.Errorf("start %s: make its Secret: %w: %w", o.Worker, room.ErrUnsure, errors.Join(err, left))
		}
		told := judge(err)
		if errors.Is(told, room.ErrUnsure) { // whatever became of the Secret, the pod is gone
			told = err
		}
		return "", fmt.Errorf("start %s: make its Secret: %w", o.Worker, told)
	}
	return handleOf(made), nil
}

// owner is a reference to the ConfigMap that owns the pods of a pool, nil if none does.
func (e *Engine) owner(ctx context.Context, namespace, name string) (*metav1.OwnerReference, error) {
	if name == "" {
		return nil, nil
	}
	var m metav1.PartialObjectMetadata
	if err := e.send(ctx, e.client.Get().AbsPath(path(namespace, "configmaps", name)...), nil, &m); err != nil {
		return nil, fmt.Errorf("the ConfigMap that is to own its pod (options.owner): %w", clipped(err))
	}
	yes := true
	return &metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: name, UID: m.UID, Controller: &yes}, nil
}

// handleOf is what the engine calls a pod. It has the pod's uid: another of the same name
// is another copy.
func handleOf(p *corev1.Pod) string { return p.Namespace + "/" + p.Name + "/" + string(p.UID) }

// Stop deletes a pod. Its grace period is what its worker has to hand over.
func (e *Engine) Stop(ctx context.Context, handle string) error {
	defer e.listing.Forget()
	return e.remove(ctx, handle)
}

func (e *Engine) remove(ctx context.Context, handle string) error {
	words := strings.Split(handle, "/")
	if len(words) != 3 || slices.Contains(words, "") {
		return nil // there is no such pod
	}
	uid := types.UID(words[2])
	err := e.send(ctx, e.client.Delete().AbsPath(path(words[0], "pods", words[1])...),
		&metav1.DeleteOptions{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"}, Preconditions: &metav1.Preconditions{UID: &uid}}, nil)
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) { // a conflict: that name is another pod's by now
		return fmt.Errorf("stop pod %s/%s: %w", words[0], words[1], clipped(err))
	}
	return nil
}

// List lists the pods that are workers, of any cluster, and removes those that ended a
// while ago.
func (e *Engine) List(ctx context.Context) ([]room.Copy, error) {
	var over []string
	copies, err := e.listing.Get(func() (copies []room.Copy, err error) {
		copies, over, err = e.list(ctx, time.Now())
		return copies, err
	})
	for _, handle := range over[:min(len(over), removeAtOnce)] {
		if err := e.remove(ctx, handle); err != nil {
			e.log.Warn("pod not removed that has ended", "error", err)
			break
		}
	}
	return copies, err
}

// list asks for the pods of all namespaces; over are those that may be removed.
func (e *Engine) list(ctx context.Context, now time.Time) (copies []room.Copy, over []string, err error) {
	for _, namespace := range e.namespaces {
		for more := ""; ; {
			r := e.client.Get().AbsPath(path(namespace, "pods")...).Param("labelSelector", managedBy+"="+manager+","+labelWorker).Param("limit", fmt.Sprint(page))
			if more != "" {
				r = r.Param("continue", more)
			}
			var pods corev1.PodList
			if err := e.send(ctx, r, nil, &pods); err != nil {
				return nil, nil, fmt.Errorf("list pods of %s: %w", namespace, clipped(err))
			}
			for n := range pods.Items {
				p := &pods.Items[n]
				c, ended := copyOf(p, now)
				copies = append(copies, c)
				if c.State == room.Ended && p.DeletionTimestamp == nil && now.Sub(ended) > keepEnded {
					over = append(over, c.Handle)
				}
			}
			if more = pods.Continue; more == "" {
				break
			}
		}
	}
	slices.SortFunc(copies, func(a, b room.Copy) int { return strings.Compare(a.Worker+a.Handle, b.Worker+b.Handle) })
	return copies, over, nil
}

// Close ends nothing: pods live on, and the next scheduler goes on with them.
func (*Engine) Close(context.Context) error { return nil }

// judge says what an error of a request to make something means.
func judge(err error) error {
	told := clipped(err)
	switch apierrors.ReasonForError(err) {
	case metav1.StatusReasonForbidden:
		if strings.Contains(err.Error(), "exceeded quota") {
			return fmt.Errorf("%w: %w", room.ErrNoRoom, told)
		}
		return told
	case metav1.StatusReasonBadRequest, metav1.StatusReasonInvalid, metav1.StatusReasonNotFound, metav1.StatusReasonUnauthorized,
		metav1.StatusReasonTooManyRequests, metav1.StatusReasonRequestEntityTooLarge, metav1.StatusReasonMethodNotAllowed,
		metav1.StatusReasonNotAcceptable, metav1.StatusReasonUnsupportedMediaType:
		return told
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" { // nothing was sent
		return told
	}
	// AlreadyExists among them: an earlier attempt of the same request was carried out.
	return fmt.Errorf("%w: %w", room.ErrUnsure, told)
}

// clippedError is an error of the API server with less of its text: what it refuses, it
// may say at length.
type clippedError struct{ error }

func (e clippedError) Error() string {
	return text.Clip(strings.ToValidUTF8(e.error.Error(), "?"), maxTold)
}
func (e clippedError) Unwrap() error { return e.error }

func clipped(err error) error { return clippedError{err} }
