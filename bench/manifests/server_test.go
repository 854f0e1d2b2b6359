package manifests

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// server is an API server that answers an administrator.
type server struct {
	url, token string
	http       *http.Client
}

func (s *server) ask(ctx context.Context, method, path string, in []byte, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, bytes.NewReader(in))
	if err != nil {
		return err
	}
	r.Header = http.Header{"Authorization": {"Bearer " + s.token}, "Accept": {"application/json"}}
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/apply-patch+yaml")
	}
	resp, err := s.http.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: status %d: %s", method, path, resp.StatusCode, text)
	}
	if warnings := resp.Header.Values("Warning"); len(warnings) > 0 {
		return fmt.Errorf("%s %s: warnings %q", method, path, warnings)
	}
	return json.Unmarshal(text, out)
}

// try has an object checked as kubectl apply --server-side --dry-run=server does.
func (s *server) try(ctx context.Context, object []byte) error {
	var o struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta `json:"metadata"`
	}
	if err := yaml.Unmarshal(object, &o); err != nil {
		return err
	}
	path := "/apis/" + o.APIVersion
	if !strings.Contains(o.APIVersion, "/") {
		path = "/api/" + o.APIVersion
	}
	var list metav1.APIResourceList
	if err := s.ask(ctx, http.MethodGet, path, nil, &list); err != nil {
		return err
	}
	at := slices.IndexFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Kind == o.Kind && !strings.Contains(r.Name, "/") })
	if at < 0 {
		return fmt.Errorf("no kind %s in %s", o.Kind, o.APIVersion)
	}
	if list.APIResources[at].Namespaced {
		namespace := o.Metadata.Namespace
		if namespace == "" {
			namespace = "rota" // that of the release
		}
		path += "/namespaces/" + namespace
	}
	var taken map[string]any
	path += "/" + list.APIResources[at].Name + "/" + o.Metadata.Name
	return s.ask(ctx, http.MethodPatch, path+"?fieldManager=test&fieldValidation=Strict&dryRun=All&force=true", object, &taken)
}

// TestServer: an API server takes what kustomize and helm make, without a warning. It is
// the one at ROTA_KUBERNETES_URL, with the namespaces rota and rota-workers (make engines).
func TestServer(t *testing.T) {
	t.Parallel()
	s := &server{url: os.Getenv("ROTA_KUBERNETES_URL"), token: os.Getenv("ROTA_KUBERNETES_TOKEN")}
	if s.url == "" {
		t.Skip("make engines has an API server")
	}
	ca, err := os.ReadFile(os.Getenv("ROTA_KUBERNETES_CA"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	s.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	try := func(from string, objects [][]byte) {
		if len(objects) == 0 {
			t.Errorf("%s: none", from)
		}
		for _, o := range objects {
			if err := s.try(t.Context(), o); err != nil {
				t.Errorf("%s: %v", from, err)
			}
		}
		t.Logf("%s: %d objects", from, len(objects))
	}
	for _, dir := range []string{dir, dir + "-pools"} {
		made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
		if err != nil {
			t.Fatal(err)
		}
		var objects [][]byte
		for _, r := range made.Resources() {
			text, err := r.AsYAML()
			if err != nil {
				t.Fatal(err)
			}
			objects = append(objects, text)
		}
		try(dir, objects)
	}
	for _, values := range [][]string{nil, {"--set", "scheduler.replicas=1"}, {"--values", everything(t), "--set", "serviceMonitor.enabled=false,pools.namespace=rota-workers"}} {
		out, refused := helm(t, append([]string{"template", "rota", chart, "--namespace", "rota"}, values...)...)
		if refused != "" {
			t.Fatal(refused)
		}
		var objects [][]byte
		for doc := range strings.SplitSeq("\n"+out, "\n---\n") {
			if strings.Contains(doc, "apiVersion:") {
				objects = append(objects, []byte(doc))
			}
		}
		try(fmt.Sprintf("%s %q", chart, values), objects)
	}
}
