package manifests

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const dir = "../../deploy/kubernetes"

// strict reads objects, and refuses fields that there are not and fields that are twice.
func strict(t *testing.T) *json.Serializer {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme, rbacv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
}

// build is what kustomize makes of deploy/kubernetes.
func build(t *testing.T) []runtime.Object {
	t.Helper()
	return buildOf(t, dir)
}

// buildOf is what kustomize makes of a directory.
func buildOf(t *testing.T, dir string) (objects []runtime.Object) {
	t.Helper()
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	decoder := strict(t)
	for _, r := range made.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		object, _, err := decoder.Decode(text, nil, nil)
		if err != nil {
			t.Errorf("%s %s: %v", r.GetKind(), r.GetName(), err)
			continue
		}
		objects = append(objects, object)
	}
	return objects
}

func of[T any](objects []runtime.Object) (list []T) {
	for _, o := range objects {
		if o, ok := o.(T); ok {
			list = append(list, o)
		}
	}
	return list
}

// TestStrict: a field that Kubernetes does not know is an error here, so those of
// deploy/kubernetes are all known.
func TestStrict(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {port: []}\n",
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: None, clusterIP: None}\n",
		"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: a}\nspec: {replicas: three}\n",
		"apiVersion: apps/v2\nkind: StatefulSet\nmetadata: {name: a}\n",
	} {
		if _, _, err := strict(t).Decode([]byte(text), nil, nil); err == nil {
			t.Errorf("taken: %s", text)
		}
	}
}

// TestFiles: each file of deploy/kubernetes is part of what kustomize builds.
func TestFiles(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(dir + "/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "kustomization.yaml" && !bytes.Contains(text, []byte("- "+e.Name()+"\n")) {
			t.Errorf("%s is no resource", e.Name())
		}
	}
}

// TestReferences: whatever an object names is there.
func TestReferences(t *testing.T) {
	t.Parallel()
	objects := build(t)
	sets := of[*appsv1.StatefulSet](objects)
	if len(sets) != 2 {
		t.Fatalf("%d sets", len(sets))
	}
	matches := func(what string, s *metav1.LabelSelector) {
		selector, err := metav1.LabelSelectorAsSelector(s)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		for _, set := range sets {
			if selector.Matches(labels.Set(set.Spec.Template.Labels)) {
				return
			}
		}
		t.Errorf("%s selects no pod", what)
	}
	ports := map[string]bool{}
	for _, set := range sets {
		matches(set.Name, set.Spec.Selector)
		if !slices.ContainsFunc(of[*corev1.Service](objects), func(s *corev1.Service) bool {
			return s.Name == set.Spec.ServiceName && s.Spec.ClusterIP == corev1.ClusterIPNone
		}) {
			t.Errorf("%s has no headless service %s", set.Name, set.Spec.ServiceName)
		}
		for _, p := range set.Spec.Template.Spec.Containers[0].Ports {
			ports[p.Name] = true
		}
	}
	for _, s := range of[*corev1.Service](objects) {
		matches(s.Name, &metav1.LabelSelector{MatchLabels: s.Spec.Selector})
		for _, p := range s.Spec.Ports {
			if !ports[p.TargetPort.StrVal] {
				t.Errorf("service %s: no port %s", s.Name, p.TargetPort.String())
			}
		}
	}
	for _, b := range of[*policyv1.PodDisruptionBudget](objects) {
		matches(b.Name, b.Spec.Selector)
	}
	policies := of[*networkingv1.NetworkPolicy](objects)
	for _, p := range policies {
		matches(p.Name, &p.Spec.PodSelector)
		for _, in := range p.Spec.Ingress {
			for _, from := range in.From {
				matches(p.Name, from.PodSelector)
			}
			for _, port := range in.Ports {
				if !ports[port.Port.StrVal] {
					t.Errorf("policy %s: no port %s", p.Name, port.Port)
				}
			}
		}
	}
	if len(policies) != len(sets) {
		t.Errorf("%d policies for %d sets", len(policies), len(sets))
	}
}

// TestPods: pods have no rights, no secret in words, and what they mount is there and is
// made by docs/kubernetes.md.
func TestPods(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	objects := build(t)
	accounts := of[*corev1.ServiceAccount](objects)
	if len(accounts) != 1 || *accounts[0].AutomountServiceAccountToken {
		t.Errorf("accounts %v", accounts)
	}
	for _, o := range objects {
		if kind := o.GetObjectKind().GroupVersionKind().Kind; strings.Contains(kind, "Role") || kind == "Secret" {
			t.Errorf("there is a %s", kind)
		}
	}
	for _, set := range of[*appsv1.StatefulSet](objects) {
		pod := set.Spec.Template.Spec
		if pod.ServiceAccountName != accounts[0].Name || *pod.AutomountServiceAccountToken || !*pod.SecurityContext.RunAsNonRoot || *pod.SecurityContext.RunAsUser == 0 {
			t.Errorf("%s has rights", set.Name)
		}
		volumes := map[string]bool{}
		for _, v := range pod.Volumes {
			volumes[v.Name] = true
			if v.Secret == nil {
				continue
			}
			if mode := *v.Secret.DefaultMode; mode&0o077 != 0 {
				t.Errorf("%s: secret %s has mode %o", set.Name, v.Secret.SecretName, mode)
			}
			if !regexp.MustCompile(`create secret generic ` + v.Secret.SecretName + ` `).Match(page) {
				t.Errorf("docs/kubernetes.md makes no secret %s", v.Secret.SecretName)
			}
		}
		for _, c := range set.Spec.VolumeClaimTemplates {
			volumes[c.Name] = true
		}
		for _, c := range pod.Containers {
			s := c.SecurityContext
			if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				t.Errorf("%s: container %s has rights", set.Name, c.Name)
			}
			mounted := []string{}
			for _, m := range c.VolumeMounts {
				mounted = append(mounted, m.MountPath)
				if !volumes[m.Name] {
					t.Errorf("%s mounts %s, which is not there", set.Name, m.Name)
				}
			}
			for _, word := range c.Args {
				if _, path, ok := strings.Cut(word, "=/"); ok && !slices.ContainsFunc(mounted, func(at string) bool { return strings.HasPrefix("/"+path, at+"/") }) {
					t.Errorf("%s: %s is in no volume", set.Name, word)
				}
				if strings.Contains(word, "rota_") {
					t.Errorf("%s: a token is in %s", set.Name, word)
				}
			}
			for _, e := range c.Env {
				if e.Name == "ROTA_TOKEN" || e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
					t.Errorf("%s: %s is a secret", set.Name, e.Name)
				}
			}
			if c.ReadinessProbe == nil {
				t.Errorf("%s: container %s has no probe", set.Name, c.Name)
			}
		}
	}
}
