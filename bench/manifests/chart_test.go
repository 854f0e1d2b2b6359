package manifests

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

const (
	chart = "../../deploy/helm/rota"
	// helmModule is built by the Go proxy, as other tools are.
	helmModule = "helm.sh/helm/v4/cmd/helm@v4.3.2"
)

var helmBin = sync.OnceValues(func() (string, error) {
	ctx, stop := context.WithTimeout(context.Background(), 15*time.Minute)
	defer stop()
	dir, err := os.MkdirTemp("", "rota-helm-")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "install", helmModule)
	cmd.Env, cmd.Stderr = append(os.Environ(), "GOBIN="+dir, "GOFLAGS="), os.Stderr
	return filepath.Join(dir, "helm"), cmd.Run()
})

func TestMain(m *testing.M) {
	code := m.Run()
	if bin, _ := helmBin(); bin != "" {
		_ = os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

// helm is what it prints, or what it says against the command.
func helm(t *testing.T, args ...string) (out, refused string) {
	t.Helper()
	bin, err := helmBin()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bin, args...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	text, err := cmd.Output()
	if err != nil {
		return string(text), errs.String() + string(text)
	}
	return string(text), ""
}

// rendered is what a release of the chart consists of. Objects of kinds that Kubernetes
// itself does not have are left as they are.
func rendered(t *testing.T, release string, args ...string) (objects []runtime.Object, others []map[string]any) {
	t.Helper()
	out, refused := helm(t, append([]string{"template", release, chart, "--namespace", "rota"}, args...)...)
	if refused != "" {
		t.Fatal(refused)
	}
	decoder := strict(t)
	for doc := range strings.SplitSeq("\n"+out, "\n---\n") {
		var other struct {
			APIVersion string `json:"apiVersion"`
		}
		if err := yaml.Unmarshal([]byte(doc), &other); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		switch {
		case other.APIVersion == "":
		case strings.HasPrefix(other.APIVersion, "monitoring.coreos.com/"):
			var o map[string]any
			if err := yaml.UnmarshalStrict([]byte(doc), &o); err != nil {
				t.Errorf("%v in\n%s", err, doc)
			}
			others = append(others, o)
		default:
			object, _, err := decoder.Decode([]byte(doc), nil, nil)
			if err != nil {
				t.Errorf("%v in\n%s", err, doc)
				continue
			}
			objects = append(objects, object)
		}
	}
	return objects, others
}

// byName are objects by kind and name, without what helm and kustomize note of themselves.
func byName(t *testing.T, objects []runtime.Object) map[string]runtime.Object {
	t.Helper()
	out := map[string]runtime.Object{}
	for _, o := range objects {
		m, ok := o.(metav1.Object)
		if !ok {
			t.Fatalf("%T has no name", o)
		}
		if _, ok := o.(*corev1.Namespace); ok {
			continue // of a release it is made by hand, or by --create-namespace
		}
		m.SetLabels(nil)
		m.SetNamespace("")
		if set, ok := o.(*appsv1.StatefulSet); ok {
			pod := &set.Spec.Template.Spec
			for n := range pod.Containers {
				c := &pod.Containers[n]
				c.ImagePullPolicy = ""
				slices.SortFunc(c.VolumeMounts, func(a, b corev1.VolumeMount) int { return strings.Compare(a.Name, b.Name) }) // patches come first
			}
			slices.SortFunc(pod.Volumes, func(a, b corev1.Volume) int { return strings.Compare(a.Name, b.Name) })
		}
		out[o.GetObjectKind().GroupVersionKind().Kind+" "+m.GetName()] = o
	}
	return out
}

// TestChartIsTheManifests: a release "rota" with the chart's own values is what kustomize
// makes of deploy/kubernetes, which the tests of real processes walk through.
func TestChartIsTheManifests(t *testing.T) {
	t.Parallel()
	objects, others := rendered(t, "rota")
	if len(others) != 0 {
		t.Errorf("objects %v", others)
	}
	if diff := cmp.Diff(byName(t, build(t)), byName(t, objects)); diff != "" {
		t.Errorf("kustomize (-) and helm (+):\n%s", diff)
	}
}

// TestChartIsTheManifestsOfPools: so is one with pools, of deploy/kubernetes-pools, which
// make engines runs.
func TestChartIsTheManifestsOfPools(t *testing.T) {
	t.Parallel()
	objects, _ := rendered(t, "rota", "--set", "pools.enabled=true")
	if diff := cmp.Diff(byName(t, buildOf(t, dir+"-pools")), byName(t, objects)); diff != "" {
		t.Errorf("kustomize (-) and helm (+):\n%s", diff)
	}
}

func TestChartLints(t *testing.T) {
	t.Parallel()
	for _, values := range [][]string{nil, {"--set", "pools.enabled=true"}} {
		if _, refused := helm(t, append([]string{"lint", "--strict", chart}, values...)...); refused != "" {
			t.Error(refused)
		}
	}
}

// everything is a file of values that are all other than the chart's own.
func everything(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	text := `image: {repository: registry.example/rota, tag: v1, pullPolicy: Always}
imagePullSecrets: [{name: pull}]
scheduler:
  replicas: 3
  tlsSecret: tls
  tokensSecret: tokens
  args: [--lease=7s]
  storage: {size: 1Gi, className: fast}
  nodeSelector: {disk: ssd}
  tolerations: [{key: a, operator: Exists}]
  priorityClassName: high
worker:
  replicas: 4
  tlsSecret: worker-tls
  image: {repository: registry.example/work}
  args: ["--exec=feed=/bin/feed --all"]
  terminationGracePeriodSeconds: 10
  nodeSelector: {disk: hdd}
  tolerations: [{key: b, operator: Exists}]
  priorityClassName: low
pools: {enabled: true, namespace: w, createNamespace: false, authoritySecret: ca}
serviceMonitor: {enabled: true, interval: 30s, labels: {release: prometheus}, tokenSecret: {name: viewer}}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestChartValues renders what values other than the chart's own ask for.
func TestChartValues(t *testing.T) {
	t.Parallel()
	argsOf := func(objects []runtime.Object, set string) string {
		for _, s := range of[*appsv1.StatefulSet](objects) {
			if s.Name == set {
				return strings.Join(s.Spec.Template.Spec.Containers[0].Args, " ")
			}
		}
		t.Fatalf("no set %s", set)
		return ""
	}
	t.Run("one scheduler", func(t *testing.T) {
		t.Parallel()
		objects, _ := rendered(t, "rota", "--set", "scheduler.replicas=1")
		if args := argsOf(objects, "rota-scheduler"); strings.Contains(args, "--cluster") || strings.Contains(args, "--peer") {
			t.Errorf("args %s", args)
		}
		if args := argsOf(objects, "rota-worker"); !strings.Contains(args, "--schedulers=rota-scheduler-0.rota-scheduler:50000 ") {
			t.Errorf("args %s", args)
		}
	})
	t.Run("another release", func(t *testing.T) {
		t.Parallel()
		objects, _ := rendered(t, "blue", "--set", "scheduler.replicas=5", "--set", "networkPolicy.enabled=false")
		for o := range byName(t, objects) {
			if _, name, _ := strings.Cut(o, " "); !strings.HasPrefix(name, "blue-rota") {
				t.Errorf("%s is not of the release", o)
			}
		}
		if args := argsOf(objects, "blue-rota-scheduler"); strings.Count(args, ".blue-rota-scheduler:2380") != 5 {
			t.Errorf("args %s", args)
		}
		if n := len(of[*networkingv1.NetworkPolicy](objects)); n != 0 {
			t.Errorf("%d policies", n)
		}
	})
	t.Run("everything", func(t *testing.T) {
		t.Parallel()
		objects, others := rendered(t, "rota", "--values", everything(t))
		for _, s := range of[*appsv1.StatefulSet](objects) {
			pod := s.Spec.Template.Spec
			c := pod.Containers[0]
			want := map[string]struct{ image, arg, disk, secret string }{
				"rota-scheduler": {"registry.example/rota:v1", "--lease=7s", "ssd", "tls"},
				"rota-worker":    {"registry.example/work:v1", "--exec=feed=/bin/feed --all", "hdd", "worker-tls"},
			}[s.Name]
			if c.Image != want.image || c.ImagePullPolicy != corev1.PullAlways || !slices.Contains(c.Args, want.arg) || pod.NodeSelector["disk"] != want.disk ||
				len(pod.Tolerations) != 1 || pod.PriorityClassName == "" || pod.ImagePullSecrets[0].Name != "pull" || pod.Volumes[0].Secret.SecretName != want.secret {
				t.Errorf("%s: %+v", s.Name, pod)
			}
		}
		if len(of[*policyv1.PodDisruptionBudget](objects)) != 2 {
			t.Error("budgets are missing")
		}
		if len(others) != 1 || others[0]["kind"] != "ServiceMonitor" || others[0]["metadata"].(map[string]any)["labels"].(map[string]any)["release"] != "prometheus" {
			t.Errorf("monitors %v", others)
		}
	})
}

// TestChartRefuses: values that cannot work are refused before anything is applied, and the
// answer names the field.
func TestChartRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		release string
		set     []string
		says    string
	}{
		"even schedulers":          {"rota", []string{"scheduler.replicas=2"}, "/scheduler/replicas"},
		"no schedulers":            {"rota", []string{"scheduler.replicas=0"}, "/scheduler/replicas"},
		"workers below none":       {"rota", []string{"worker.replicas=-1"}, "/worker/replicas"},
		"not a number":             {"rota", []string{"worker.replicas=two"}, "/worker/replicas"},
		"a key of nobody":          {"rota", []string{"scheduler.replica=3"}, "replica"},
		"no secret":                {"rota", []string{"scheduler.tlsSecret="}, "/scheduler/tlsSecret"},
		"no flag":                  {"rota", []string{"worker.args={demo}"}, "/worker/args/0"},
		"no grace":                 {"rota", []string{"worker.terminationGracePeriodSeconds=0"}, "/worker/terminationGracePeriodSeconds"},
		"no token":                 {"rota", []string{"serviceMonitor.enabled=true"}, "/serviceMonitor/tokenSecret/name"},
		"workers among schedulers": {"rota", []string{"pools.enabled=true", "pools.namespace=default"}, "pools.namespace: want another"},
		"no namespace":             {"rota", []string{"pools.namespace=A"}, "/pools/namespace"},
		"a long name":              {strings.Repeat("a", 50), nil, "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := []string{"template", c.release, chart}
			for _, s := range c.set {
				args = append(args, "--set", s)
			}
			if out, refused := helm(t, args...); refused == "" || !strings.Contains(refused, c.says) {
				t.Errorf("want a word about %s: %s%s", c.says, refused, out)
			}
		})
	}
}
