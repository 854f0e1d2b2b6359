package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/rota-project/rota/engine/internal/room"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// asked is a request that came.
type asked struct{ what, body string }

// api is an API server of the test: answers by "METHOD path", of which the last is said
// again and again. "0" closes the connection.
type api struct {
	mu      sync.Mutex
	answers map[string][]string
	came    []asked
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	what := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/api/v1/namespaces/")
	if v := r.URL.Query().Get("continue"); v != "" {
		what += " " + v
	}
	a.mu.Lock()
	a.came = append(a.came, asked{what, string(body)})
	list := a.answers[what]
	answer := `404 {"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","message":"it is not there","code":404}`
	if len(list) > 0 {
		answer, a.answers[what] = list[0], list[min(1, len(list)-1):]
	}
	a.mu.Unlock()
	code, text, _ := strings.Cut(answer, " ")
	if code == "0" {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(map[string]int{"200": 200, "201": 201, "403": 403, "404": 404, "409": 409, "422": 422, "500": 500, "504": 504}[code])
	_, _ = io.WriteString(w, text)
}

// requests are what came.
func (a *api) requests() (all []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.came {
		all = append(all, r.what)
	}
	return all
}

// kubernetes is an engine whose API server is the test's.
func kubernetes(t *testing.T, answers map[string][]string) (*Engine, *api) {
	t.Helper()
	a := &api{answers: answers}
	srv := httptest.NewUnstartedServer(a)
	srv.Config.ErrorLog = nil
	srv.Start()
	client := srv.Client()
	e, err := newEngine(&rest.Config{Host: srv.URL, Transport: client.Transport}, []string{"rota-workers", "other"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		srv.Close()
	})
	return e, a
}

func refusal(code, reason, message string) string {
	return code + ` {"kind":"Status","apiVersion":"v1","status":"Failure","reason":"` + reason + `","message":"` + message + `","code":` + code + `}`
}

const (
	pods    = "POST rota-workers/pods"
	secrets = "POST rota-workers/secrets"
	pod     = "DELETE rota-workers/pods/pool-web-x"
	made    = `201 {"kind":"Pod","apiVersion":"v1","metadata":{"name":"pool-web-x","namespace":"rota-workers","uid":"u1"}}`
	done    = `200 {"kind":"Status","apiVersion":"v1","status":"Success"}`
)

// order is a new one each time.
func order() room.Order {
	return room.Order{
		Cluster: "c", Pool: "web", Worker: "pool.web.x", Argv: []string{"rota", "worker", "--exec", "web=it's {ID:word} $HOME $(id)"}, Token: "secret-token",
		Env: map[string]string{"ROTA_LABELS": "a=$(b)", "ROTA_NAME": "pool.web.x"},
		Options: map[string]string{
			"image": "example.com/rota:1", "requests": "cpu=2,memory=4Gi", "limits": "memory=4Gi", "node_selector": "kind=gpu", "tolerations": "gpu=yes:NoSchedule,spot",
			"service_account": "sa", "image_pull_secrets": "pull", "labels": "team=a", "annotations": "example.com/x=y z", "grace": "90s", "rota": "/opt/rota",
		},
	}
}

// TestStart: what the pod and its Secret are.
func TestStart(t *testing.T) {
	t.Parallel()
	e, a := kubernetes(t, map[string][]string{pods: {made}, secrets: {done}})
	handle, err := e.Start(t.Context(), order())
	if err != nil || handle != "rota-workers/pool-web-x/u1" {
		t.Fatalf("handle %q, error %v", handle, err)
	}
	if got := a.requests(); !slices.Equal(got, []string{pods, secrets}) {
		t.Fatalf("asked %q", got)
	}
	if text := a.came[0].body; strings.Contains(text, "secret-token") {
		t.Errorf("the pod has the token: %s", text)
	}
	var p corev1.Pod
	var s corev1.Secret
	if err := errors.Join(json.Unmarshal([]byte(a.came[0].body), &p), json.Unmarshal([]byte(a.came[1].body), &s)); err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{
		"team": "a", managedBy: "rota", labelName: podName, labelCluster: "c", labelPool: "web", labelWorker: "pool.web.x",
	}; p.Name != "pool-web-x" || !maps.Equal(p.Labels, want) {
		t.Errorf("name %q, labels %v", p.Name, p.Labels)
	}
	c := p.Spec.Containers[0]
	if want := []string{"/opt/rota", "worker", "--exec", "web=it's {ID:word} $$HOME $$(id)"}; !slices.Equal(c.Command, want) || c.Image != "example.com/rota:1" {
		t.Errorf("command %q of image %s", c.Command, c.Image)
	}
	env := map[string]string{}
	for _, v := range c.Env {
		env[v.Name] = v.Value
		if f := v.ValueFrom; f != nil {
			env[v.Name] = "secret " + f.SecretKeyRef.Name + " " + f.SecretKeyRef.Key
		}
	}
	if want := map[string]string{
		"ROTA_LABELS": "a=$$(b)", "ROTA_NAME": "pool.web.x", "ROTA_JOIN_TOKEN": "secret pool-web-x join-token", "ROTA_HTTP": "127.0.0.1:7438",
	}; !maps.Equal(env, want) {
		t.Errorf("environment %q", env)
	}
	if got := c.ReadinessProbe.Exec.Command; !slices.Equal(got, []string{"/opt/rota", "health", "--worker", "127.0.0.1:7438"}) {
		t.Errorf("readiness by %q", got)
	}
	if s := p.Spec; s.RestartPolicy != corev1.RestartPolicyNever || *s.TerminationGracePeriodSeconds != 90 || *s.AutomountServiceAccountToken || s.ServiceAccountName != "sa" ||
		!*s.SecurityContext.RunAsNonRoot || *c.SecurityContext.AllowPrivilegeEscalation || s.NodeSelector["kind"] != "gpu" || len(s.Tolerations) != 4 ||
		c.Resources.Requests.Cpu().String() != "2" || c.Resources.Limits.Memory().String() != "4Gi" || p.Annotations["example.com/x"] != "y z" {
		t.Errorf("%s", a.came[0].body)
	}
	if o := s.OwnerReferences; s.Name != "pool-web-x" || string(s.Data[tokenKey]) != "secret-token" || len(o) != 1 || o[0].Kind != "Pod" || o[0].UID != "u1" {
		t.Errorf("%+v", s)
	}
}

// TestSpec: a pool may bring the spec of its pods, of which the worker's part is rota's.
func TestSpec(t *testing.T) {
	t.Parallel()
	o := order()
	o.Argv = []string{"/bin/serve"}
	o.Options = map[string]string{"image": "i", "pod": `
restartPolicy: Always
terminationGracePeriodSeconds: 7
tolerations: [{operator: Exists}]
securityContext: {runAsUser: 7}
containers:
- name: worker
  command: [other]
  volumeMounts: [{name: scratch, mountPath: /tmp}]
- {name: side, image: side}
volumes: [{name: scratch, emptyDir: {medium: Memory}}]
`}
	p, err := podOf(o, "n", &metav1.OwnerReference{Name: "pools"})
	if err != nil {
		t.Fatal(err)
	}
	s, c := p.Spec, p.Spec.Containers[0]
	if s.RestartPolicy != corev1.RestartPolicyNever || *s.TerminationGracePeriodSeconds != 7 || len(s.Tolerations) != 1 || *s.SecurityContext.RunAsUser != 7 || s.SecurityContext.RunAsNonRoot != nil ||
		len(s.Containers) != 2 || len(s.Volumes) != 1 || !slices.Equal(c.Command, []string{"/bin/serve"}) || c.ReadinessProbe != nil || p.OwnerReferences[0].Name != "pools" {
		t.Errorf("%+v", p)
	}
}

// TestStartFails: nothing was started, or nobody knows.
func TestStartFails(t *testing.T) {
	t.Parallel()
	quota := refusal("403", "Forbidden", `pods \"pool-web-x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2`)
	for name, tc := range map[string]struct {
		answers map[string][]string
		option  string
		want    string
		is      error
		asked   []string
	}{
		"quota":     {map[string][]string{pods: {quota}}, "", "exceeded quota: q", room.ErrNoRoom, []string{pods}},
		"rights":    {map[string][]string{pods: {refusal("403", "Forbidden", `User \"x\" cannot create resource \"pods\"`)}}, "", "cannot create resource", nil, []string{pods}},
		"invalid":   {map[string][]string{pods: {refusal("422", "Invalid", "spec.containers[0].image: Required value")}}, "", "image: Required value", nil, []string{pods}},
		"there":     {map[string][]string{pods: {refusal("409", "AlreadyExists", "exists")}}, "", "exists", room.ErrUnsure, []string{pods}},
		"timeout":   {map[string][]string{pods: {refusal("504", "Timeout", "request did not complete")}}, "", "did not complete", room.ErrUnsure, []string{pods}},
		"cut off":   {map[string][]string{pods: {"0"}}, "", "EOF", room.ErrUnsure, []string{pods}},
		"namespace": {nil, "namespace=secret", `namespace "secret": this scheduler has workers in rota-workers, other only`, nil, nil},
		"owner":     {nil, "owner=pools", "options.owner): it is not there", nil, []string{"GET rota-workers/configmaps/pools"}},
		"secret":    {map[string][]string{pods: {made}, secrets: {quota}, pod: {done}}, "", "make its Secret", room.ErrNoRoom, []string{pods, secrets, pod}},
		"no answer": {map[string][]string{pods: {made}, secrets: {"0"}, pod: {done}}, "", "make its Secret", nil, []string{pods, secrets, pod}},
		"left":      {map[string][]string{pods: {made}, secrets: {quota}, pod: {refusal("500", "InternalError", "etcd is away")}}, "", "etcd is away", room.ErrUnsure, []string{pods, secrets, pod}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, a := kubernetes(t, tc.answers)
			o := order()
			if k, v, ok := strings.Cut(tc.option, "="); ok {
				o.Options[k] = v
			}
			_, err := e.Start(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), "start pool.web.x: ") || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret-token") {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			for _, kind := range []error{room.ErrNoRoom, room.ErrUnsure} {
				if errors.Is(err, kind) != (tc.is == kind) { //nolint:errorlint // which of the two it is
					t.Errorf("%v is %v", err, kind)
				}
			}
			if got := a.requests(); !slices.Equal(got, tc.asked) {
				t.Errorf("asked %q, want %q", got, tc.asked)
			}
		})
	}
	e, err := newEngine(&rest.Config{Host: "http://127.0.0.1:1"}, []string{"n"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(t.Context(), order()); err == nil || errors.Is(err, room.ErrUnsure) {
		t.Errorf("without Kubernetes: %v", err)
	}
}

// TestStop: the copy is named by its uid, and one that is gone is no error.
func TestStop(t *testing.T) {
	t.Parallel()
	e, a := kubernetes(t, map[string][]string{pod: {done, refusal("409", "Conflict", "the UID in the precondition does not match"), refusal("403", "Forbidden", "no right")}})
	for _, handle := range []string{"rota-workers/pool-web-x/u1", "rota-workers/pool-web-x/u2", "", "a/b", "a//c", "rota-workers/other/u1"} {
		if err := e.Stop(t.Context(), handle); err != nil {
			t.Errorf("%q: %v", handle, err)
		}
	}
	if err := e.Stop(t.Context(), "rota-workers/pool-web-x/u1"); err == nil || !strings.Contains(err.Error(), "stop pod rota-workers/pool-web-x: no right") {
		t.Errorf("error %v", err)
	}
	if got, want := a.requests(), []string{pod, pod, "DELETE rota-workers/pods/other", pod}; !slices.Equal(got, want) {
		t.Errorf("asked %q", got)
	}
	if body := a.came[0].body; !strings.Contains(body, `"preconditions":{"uid":"u1"}`) || strings.Contains(body, "gracePeriod") {
		t.Errorf("%s", body)
	}
}

// TestCopies: what each state of a pod is told as.
func TestCopies(t *testing.T) {
	t.Parallel()
	now := time.Unix(100_000, 0)
	at := func(ago time.Duration) string { return now.Add(-ago).UTC().Format(time.RFC3339) }
	for name, tc := range map[string]struct {
		spec, meta, status string
		state              room.State
		detail             string
	}{
		"new":           {"", "", `"phase":"Pending"`, room.Waiting, "Pending"},
		"unschedulable": {"", "", `"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/3 nodes are available"}]`, room.Waiting, "Unschedulable: 0/3 nodes are available"},
		"image":         {"", "", `"phase":"Pending","containerStatuses":[{"name":"worker","state":{"waiting":{"reason":"ImagePullBackOff","message":"Back-off pulling image \"x\""}}}]`, room.Waiting, `ImagePullBackOff: Back-off pulling image "x"`},
		"runs":          {`"nodeName":"n1"`, "", `"phase":"Running","containerStatuses":[{"name":"side","state":{"terminated":{}}},{"name":"worker","state":{"running":{"startedAt":"` + at(time.Hour) + `"}}}]`, room.Running, "on n1"},
		"failed":        {"", "", `"phase":"Running","containerStatuses":[{"name":"worker","state":{"terminated":{"exitCode":3,"reason":"Error","message":"first\nlast words\n","finishedAt":"` + at(time.Minute) + `"}}}]`, room.Ended, "exit status 3: last words"},
		"memory":        {"", "", `"phase":"Failed","containerStatuses":[{"name":"worker","state":{"terminated":{"exitCode":137,"reason":"OOMKilled"}}}]`, room.Ended, "OOMKilled, exit status 137"},
		"evicted":       {"", "", `"phase":"Failed","reason":"Evicted","message":"The node was low on\n memory"`, room.Ended, "Evicted: The node was low on memory"},
		"ending":        {`"nodeName":"n1"`, `"deletionTimestamp":"` + at(-time.Minute) + `"`, `"phase":"Running"`, room.Running, "being deleted"},
		"stuck":         {`"nodeName":"n1"`, `"deletionTimestamp":"` + at(time.Minute) + `"`, `"phase":"Running"`, room.Ended, "its node n1 was to end it, and does not say that it has"},
		"lost": {
			`"nodeName":"n1"`, `"deletionTimestamp":"` + at(-time.Minute) + `"`,
			`"phase":"Running","conditions":[{"type":"DisruptionTarget","status":"True","reason":"DeletionByTaintManager","message":"Taint manager: deleting"}]`, room.Ended, "lost with its node n1: Taint manager: deleting",
		},
	} {
		text := `{"metadata":{"name":"p","namespace":"n","uid":"u","labels":{"` + labelCluster + `":"c","` + labelPool + `":"web","` + labelWorker + `":"w"}`
		if tc.meta != "" {
			text += "," + tc.meta
		}
		text += `},"spec":{` + tc.spec + `},"status":{` + tc.status + `}}`
		var p corev1.Pod
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			t.Fatalf("%s: %v in %s", name, err, text)
		}
		c, _ := copyOf(&p, now)
		if c.State != tc.state || c.Detail != tc.detail || c.Handle != "n/p/u" || c.Cluster != "c" || c.Pool != "web" || c.Worker != "w" {
			t.Errorf("%s: %+v, want %s %q", name, c, tc.state, tc.detail)
		}
		if name == "runs" && !c.Began.Equal(now.Add(-time.Hour)) {
			t.Errorf("it began %v", c.Began)
		}
	}
}

// TestList: all namespaces, page by page, not too often; what ended a while ago goes.
func TestList(t *testing.T) {
	t.Parallel()
	one := func(name, status string) string {
		return `{"metadata":{"name":"` + name + `","namespace":"rota-workers","uid":"u","creationTimestamp":"2026-01-01T00:00:00Z","labels":{"` + labelWorker + `":"` + name + `"}},"status":{` + status + `}}`
	}
	answers := map[string][]string{
		"GET rota-workers/pods":      {`200 {"metadata":{"continue":"next"},"items":[` + one("b", `"phase":"Running"`) + `]}`},
		"GET rota-workers/pods next": {`200 {"items":[` + one("a", `"phase":"Failed"`) + `]}`},
		"GET other/pods":             {`200 {"items":[]}`, refusal("403", "Forbidden", "no right to list")},
		"DELETE rota-workers/pods/a": {done},
	}
	e, a := kubernetes(t, answers)
	e.listing.Every = time.Hour
	got, err := e.List(t.Context())
	if err != nil || len(got) != 2 || got[0].Worker != "a" || got[1].State != room.Running {
		t.Fatalf("error %v, got %+v", err, got)
	}
	once := []string{"GET rota-workers/pods", "GET rota-workers/pods next", "GET other/pods", "DELETE rota-workers/pods/a"}
	if asked := a.requests(); !slices.Equal(asked, once) {
		t.Errorf("asked %q", asked)
	}
	if again, err := e.List(t.Context()); err != nil || !reflect.DeepEqual(again, got) || len(a.requests()) != len(once) {
		t.Errorf("error %v, got %+v, asked %q", err, again, a.requests())
	}
	e.listing.Forget()
	if list, err := e.List(t.Context()); err == nil || len(list) > 0 || !strings.Contains(err.Error(), "list pods of other: no right to list") {
		t.Errorf("error %v, got %+v", err, list)
	}
	if err := e.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for value, ok := range map[string]bool{
		"image=a/b:1": true, "image=": false, "image=a b": false, "namespace=a": true, "namespace=A": false, "namespace=a.b": false, "owner=pools": true, "owner=../x": false,
		"service_account=a": true, "service_account=a/b": false, "priority_class=x": true, "runtime_class=gvisor": true, "image_pull_policy=Always": true, "image_pull_policy=always": false,
		"image_pull_secrets=a,b": true, "image_pull_secrets=a,": false, "requests=cpu=500m,memory=1Gi": true, "requests=cpu": false, "requests=cpu=much": false, "requests=cpu=-1": false,
		"limits=nvidia.com/gpu=1": true, "limits=cpu=1,cpu=2": false, "node_selector=a=b": true, "node_selector=a=b c": false, "labels=a=b": true, "labels=" + managedBy + "=x": false,
		"labels=" + labelWorker + "=x": false, "annotations=a=b c": true, "annotations=a": false, "tolerations=a=b:NoSchedule,c:NoExecute,d": true, "tolerations=a:Never": false, "tolerations=:": false,
		"grace=2m": true, "grace=0s": false, "grace=2": false, "grace=48h": false, "health_port=8080": true, "health_port=80": false, "health_port=x": false, "rota=/opt/rota": true, "rota=": false,
		"pod=hostNetwork: true": true, "pod=hostNetwerk: true": false, "pod={": false, "pod=containers: [{name: x}]": false, "pod=containers: [{name: worker}]": true,
	} {
		name, v, _ := strings.Cut(value, "=")
		check := Options()[name]
		if check == nil {
			t.Fatalf("no option %s", name)
		}
		if want := check(v); (want == "") != ok {
			t.Errorf("%s: %q", value, want)
		}
	}
}

// TestNew: where the API server is comes from a file, and its context.
func TestNew(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(`
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: first, context: {cluster: c, user: u, namespace: team}}, {name: second, context: {cluster: c, user: u}}]
current-context: first
`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		c    Config
		want []string
		err  string
	}{
		{Config{Kubeconfig: file}, []string{"team"}, ""},
		{Config{Kubeconfig: file, Context: "second"}, []string{"default"}, ""},
		{Config{Kubeconfig: file, Namespaces: []string{"a", "b"}}, []string{"a", "b"}, ""},
		{Config{Kubeconfig: file, Context: "third"}, nil, `context "third" does not exist`},
		{Config{Kubeconfig: file + ".none"}, nil, "no such file"},
	} {
		e, err := New(tc.c)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%+v: error %v", tc.c, err)
			}
			continue
		}
		if err != nil || !slices.Equal(e.namespaces, tc.want) {
			t.Errorf("%+v: error %v, %+v", tc.c, err, e)
		}
	}
}
