//go:build linux

package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/rota-project/rota/internal/test/ports"
	"github.com/rota-project/rota/store/etcd"
)

// kubeAPI asks an API server of Kubernetes, or a double of one, as one of its users.
type kubeAPI struct {
	url, token string
	http       *http.Client
}

// send makes a request with an object in it, unless in is nil, and reads the answer's into
// out, unless that is nil. A refusal is an *apierrors.StatusError.
func (a *kubeAPI) send(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, a.url+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/apply-patch+yaml")
	}
	if a.token != "" {
		r.Header.Set("Authorization", "Bearer "+a.token)
	}
	resp, err := a.http.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		refusal := &apierrors.StatusError{}
		if err := json.Unmarshal(text, &refusal.ErrStatus); err != nil {
			return fmt.Errorf("status %d: %s", resp.StatusCode, text)
		}
		return refusal
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// plane is a control plane of Kubernetes' own programs on this machine: an API server that
// asks RBAC, on an etcd, a scheduler and a controller-manager. It has no nodes.
type plane struct {
	*kubeAPI  // as an administrator
	t         *testing.T
	bin, dir  string
	ca        string // the file with its certificate
	server    *proc
	arguments []string // of the API server
	nodes     map[string]*kubelet
}

// newPlane starts one of the programs in a directory, and ends it with the test.
func newPlane(t *testing.T, bin string) *plane {
	t.Helper()
	p := &plane{t: t, bin: bin, dir: shortDir(t), nodes: map[string]*kubelet{}}
	in := func(name string) string { return filepath.Join(p.dir, name) }
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	p.write("sa.key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	p.write("sa.pub", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})))
	p.write("tokens.csv", "admin,admin,admin,\"system:masters\"\nkcm,system:kube-controller-manager,kcm\nks,system:kube-scheduler,ks\n")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	e, err := etcd.Embed(ctx, etcd.EmbedConfig{DataDir: in("etcd"), Listen: "127.0.0.1:0", NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	port := ports.Free(t)
	p.ca = in("certs/apiserver.crt")
	p.arguments = []string{
		"--etcd-servers=" + e.Endpoints()[0], "--bind-address=127.0.0.1", fmt.Sprint("--secure-port=", port), "--cert-dir=" + in("certs"),
		"--service-account-issuer=https://localhost", "--service-account-key-file=" + in("sa.pub"), "--service-account-signing-key-file=" + in("sa.key"),
		"--authorization-mode=RBAC", "--token-auth-file=" + in("tokens.csv"), "--service-cluster-ip-range=10.0.0.0/24", "--endpoint-reconciler-type=none",
		"--advertise-address=127.0.0.1", "--v=0",
	}
	p.kubeAPI = &kubeAPI{url: fmt.Sprint("https://127.0.0.1:", port), token: "admin"}
	t.Cleanup(p.sweep)
	p.serve()
	for name, args := range map[string][]string{
		"kube-controller-manager": {
			"--kubeconfig=" + p.kubeconfig("kcm", "kcm"), "--use-service-account-credentials", "--service-account-private-key-file=" + in("sa.key"), "--root-ca-file=" + p.ca,
			"--node-monitor-period=1s", "--node-monitor-grace-period=20s",
			"--controllers=serviceaccount-controller,serviceaccount-token-controller,root-ca-certificate-publisher-controller,garbage-collector-controller,node-lifecycle-controller," +
				"taint-eviction-controller,pod-garbage-collector-controller,namespace-controller,resourcequota-controller,disruption-controller",
		},
		"kube-scheduler": {"--kubeconfig=" + p.kubeconfig("ks", "ks")},
	} {
		start(t, nil, filepath.Join(bin, name), append(args, "--leader-elect=false", "--bind-address=127.0.0.1", fmt.Sprint("--secure-port=", ports.Free(t)), "--cert-dir="+in("certs-"+name))...)
	}
	return p
}

// serve starts the API server, and waits until it is ready.
func (p *plane) serve() {
	p.t.Helper()
	p.server = start(p.t, nil, filepath.Join(p.bin, "kube-apiserver"), p.arguments...)
	await(p.t, 2*time.Minute, "the API server has a certificate", func() bool {
		text, err := os.ReadFile(p.ca)
		roots := x509.NewCertPool()
		if err != nil || !roots.AppendCertsFromPEM(text) {
			return false
		}
		p.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
		return true
	})
	await(p.t, 3*time.Minute, "the API server is ready", func() bool {
		time.Sleep(100 * time.Millisecond)
		return p.send(p.t.Context(), http.MethodGet, "/readyz", nil, nil) == nil
	})
}

// away ends the API server.
func (p *plane) away() {
	p.server.signal(syscall.SIGKILL)
	<-p.server.done
	p.http.CloseIdleConnections()
}

// sweep ends the nodes, and whatever lives that was started there.
func (p *plane) sweep() {
	for _, k := range p.nodes {
		k.stop()
		k.done.Wait()
	}
	await(p.t, time.Minute, "nothing of it lives", func() bool {
		left := 0
		oursIn(p.dir, func(pid int, _ string, _ []byte) {
			left++
			_ = syscall.Kill(pid, syscall.SIGKILL)
		})
		return left == 0
	})
}

func (p *plane) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// kubeconfig writes a file for a user with a token.
func (p *plane) kubeconfig(user, token string) string {
	p.t.Helper()
	p.write(user+".yaml", fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: u, user: {token: %s}}]
contexts: [{name: all, context: {cluster: c, user: u}}]
current-context: all
`, p.url, p.ca, token))
	return filepath.Join(p.dir, user+".yaml")
}

// must asks as an administrator.
func (p *plane) must(method, path string, in, out any) {
	p.t.Helper()
	if err := p.send(p.t.Context(), method, path, in, out); err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
}

// apply applies the objects of a text with several documents as kubectl apply --server-side
// does; dry has them checked only. It answers how many there are.
func (p *plane) apply(text string, dry bool) (n int, err error) {
	for doc := range strings.SplitSeq("\n"+text, "\n---\n") {
		var o struct {
			metav1.TypeMeta `json:",inline"`
			Metadata        metav1.ObjectMeta `json:"metadata"`
		}
		var all map[string]any
		if err := errors.Join(yaml.Unmarshal([]byte(doc), &o), yaml.Unmarshal([]byte(doc), &all)); err != nil {
			return n, err
		}
		if o.Kind == "" {
			continue
		}
		root := "/apis/" + o.APIVersion
		if !strings.Contains(o.APIVersion, "/") {
			root = "/api/" + o.APIVersion
		}
		var list metav1.APIResourceList
		if err := p.send(p.t.Context(), http.MethodGet, root, nil, &list); err != nil {
			return n, err
		}
		at := slices.IndexFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Kind == o.Kind && !strings.Contains(r.Name, "/") })
		if at < 0 {
			return n, fmt.Errorf("no kind %s in %s", o.Kind, o.APIVersion)
		}
		path := root
		if list.APIResources[at].Namespaced {
			path += "/namespaces/" + o.Metadata.Namespace
		}
		path += "/" + list.APIResources[at].Name + "/" + o.Metadata.Name + "?fieldManager=test&fieldValidation=Strict&force=true"
		if dry {
			path += "&dryRun=All"
		}
		if err := p.send(p.t.Context(), http.MethodPatch, path, all, nil); err != nil {
			return n, fmt.Errorf("%s %s: %w", o.Kind, o.Metadata.Name, err)
		}
		n++
	}
	return n, nil
}

// rights applies deploy/kubernetes-pools/rights.yaml, and answers a token of the scheduler's
// account.
func (p *plane) rights() string {
	p.t.Helper()
	p.must(http.MethodPost, "/api/v1/namespaces", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "rota"}}, nil)
	text, err := os.ReadFile("../../deploy/kubernetes-pools/rights.yaml")
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.apply(string(text), false); err != nil {
		p.t.Fatal(err)
	}
	request := &authenticationv1.TokenRequest{}
	p.must(http.MethodPost, "/api/v1/namespaces/rota/serviceaccounts/rota-scheduler/token", &authenticationv1.TokenRequest{}, request)
	await(p.t, 2*time.Minute, "the workers' namespace has an account", func() bool {
		time.Sleep(100 * time.Millisecond)
		return p.send(p.t.Context(), http.MethodGet, "/api/v1/namespaces/rota-workers/serviceaccounts/default", nil, nil) == nil
	})
	return request.Status.Token
}
