package kubernetes

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/rota-project/rota/engine/internal/room"
)

// The labels by which pods of workers are known.
const (
	managedBy    = "app.kubernetes.io/managed-by"
	manager      = "rota"
	labelName    = "app.kubernetes.io/name"
	podName      = "rota-pool-worker"
	labelPrefix  = "rota-project.github.io/"
	labelCluster = labelPrefix + "cluster"
	labelPool    = labelPrefix + "pool"
	labelWorker  = labelPrefix + "worker"
	// evictable lets the autoscaler of a cluster take a node away: a worker hands over.
	evictable = "cluster-autoscaler.kubernetes.io/safe-to-evict"
)

const (
	// container is the name of the worker's container.
	container = "worker"
	// tokenKey is where a Secret has the token.
	tokenKey = "join-token"
	// defaultGrace is how long a worker may take to hand over.
	defaultGrace = 2 * time.Minute
	// defaultHealthPort is where a worker says on its own loopback whether it is ready.
	defaultHealthPort = "7438"
	// lostAfter is how long a pod stays on a node that Kubernetes has given up: what ran on it
	// runs elsewhere when its worker's lease has ended, which is before.
	lostAfter = 30
)

// Options are what a pool may say, and what each value has to be.
func Options() map[string]func(string) string {
	return map[string]func(string) string{
		"image":              room.Word("an image, such as registry.example.com/rota:1.0"),
		"namespace":          named("a namespace", validation.IsDNS1123Label),
		"owner":              named("a ConfigMap of its namespace, which is to own its pods", validation.IsDNS1123Subdomain),
		"service_account":    named("a ServiceAccount of its namespace", validation.IsDNS1123Subdomain),
		"priority_class":     named("a PriorityClass", validation.IsDNS1123Subdomain),
		"runtime_class":      named("a RuntimeClass", validation.IsDNS1123Subdomain),
		"image_pull_policy":  room.OneOf("Always", "IfNotPresent", "Never"),
		"image_pull_secrets": checked("Secrets of its namespace, NAME,...", secretNames),
		"requests":           checked("quantities of resources, such as cpu=2,memory=4Gi", resources),
		"limits":             checked("quantities of resources, such as memory=4Gi,nvidia.com/gpu=1", resources),
		"node_selector":      checked("labels of nodes, NAME=VALUE,...", labels),
		"labels":             checked("labels, NAME=VALUE,..., of names that rota does not have itself", ownLabels),
		"annotations":        checked("annotations, NAME=VALUE,...", pairs),
		"tolerations":        checked("taints as kubectl has them, KEY[=VALUE][:EFFECT],...", tolerations),
		"grace":              checked("a duration from 1s to 24h, such as 2m", graceOf),
		"health_port":        checked("a port, 1024 to 65535", port),
		"rota":               room.Word("the program that \"rota\" stands for, in the image"),
		"pod":                checked("the spec of a pod in YAML or JSON, with no container or one named "+container+" first", specOf),
	}
}

// Needed are the options that a pool must say.
func Needed() []string { return []string{"image"} }

func named(want string, faults func(string) []string) func(string) string {
	return func(v string) string {
		if f := faults(v); len(f) > 0 {
			return "the name of " + want + ": " + f[0]
		}
		return ""
	}
}

func checked[T any](want string, parse func(string) (T, error)) func(string) string {
	return func(v string) string {
		if _, err := parse(v); err != nil {
			return want + "; " + err.Error()
		}
		return ""
	}
}

// pairs reads NAME=VALUE,...
func pairs(v string) (map[string]string, error) {
	out := map[string]string{}
	for item := range strings.SplitSeq(v, ",") {
		name, value, ok := strings.Cut(item, "=")
		if _, twice := out[name]; !ok || twice {
			return nil, fmt.Errorf("%q is no NAME=VALUE of its own", item)
		}
		if f := validation.IsQualifiedName(name); len(f) > 0 {
			return nil, fmt.Errorf("%q: %s", name, f[0])
		}
		out[name] = value
	}
	return out, nil
}

func labels(v string) (map[string]string, error) {
	out, err := pairs(v)
	for _, name := range slices.Sorted(maps.Keys(out)) {
		if f := validation.IsValidLabelValue(out[name]); len(f) > 0 {
			return nil, fmt.Errorf("%s: %s", name, f[0])
		}
	}
	return out, err
}

func ownLabels(v string) (map[string]string, error) {
	out, err := labels(v)
	for _, name := range slices.Sorted(maps.Keys(out)) {
		if name == managedBy || name == labelName || strings.HasPrefix(name, labelPrefix) {
			return nil, fmt.Errorf("%s is rota's", name)
		}
	}
	return out, err
}

func resources(v string) (corev1.ResourceList, error) {
	list, err := pairs(v)
	if err != nil {
		return nil, err
	}
	out := corev1.ResourceList{}
	for _, name := range slices.Sorted(maps.Keys(list)) {
		q, err := resource.ParseQuantity(list[name])
		if err != nil || q.Sign() < 0 {
			return nil, fmt.Errorf("%s: %q is no quantity", name, list[name])
		}
		out[corev1.ResourceName(name)] = q
	}
	return out, nil
}

func secretNames(v string) (out []corev1.LocalObjectReference, err error) {
	for name := range strings.SplitSeq(v, ",") {
		if f := validation.IsDNS1123Subdomain(name); len(f) > 0 {
			return nil, fmt.Errorf("%q: %s", name, f[0])
		}
		out = append(out, corev1.LocalObjectReference{Name: name})
	}
	return out, nil
}

func tolerations(v string) (out []corev1.Toleration, err error) {
	for item := range strings.SplitSeq(v, ",") {
		taint, effect, _ := strings.Cut(item, ":")
		key, value, has := strings.Cut(taint, "=")
		if f := validation.IsQualifiedName(key); len(f) > 0 {
			return nil, fmt.Errorf("%q: %s", key, f[0])
		}
		t := corev1.Toleration{Key: key, Value: value, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffect(effect)}
		if has {
			t.Operator = corev1.TolerationOpEqual
		}
		switch t.Effect {
		case "", corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
		default:
			return nil, fmt.Errorf("%q is none of NoSchedule, PreferNoSchedule, NoExecute", effect)
		}
		out = append(out, t)
	}
	return out, nil
}

func graceOf(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err == nil && (d < time.Second || d > 24*time.Hour) {
		err = fmt.Errorf("%v is not", d)
	}
	return d, err
}

func port(v string) (string, error) {
	if n, err := strconv.Atoi(v); err != nil || n < 1024 || n > 65535 {
		return "", fmt.Errorf("%q is none", v)
	}
	return v, nil
}

// specOf reads the spec that pods of a pool begin with. Its first container is the
// worker's.
func specOf(v string) (corev1.PodSpec, error) {
	var s corev1.PodSpec
	if v != "" {
		if err := yaml.UnmarshalStrict([]byte(v), &s); err != nil {
			return s, err
		}
	}
	if len(s.Containers) == 0 {
		s.Containers = []corev1.Container{{Name: container}}
	}
	if name := s.Containers[0].Name; name != container {
		return s, fmt.Errorf("its first container is %q", name)
	}
	return s, nil
}

// value is an option as it is parsed; those of a pool are valid.
func value[T any](o room.Order, name string, parse func(string) (T, error), into *T) error {
	v, ok := o.Options[name]
	if !ok {
		return nil
	}
	parsed, err := parse(v)
	if err != nil {
		return fmt.Errorf("options.%s: %w", name, err)
	}
	*into = parsed
	return nil
}

// nameOf is the name of a worker's pod, and of its Secret: one word of DNS, which is the
// pod's hostname.
func nameOf(worker string) string { return strings.ReplaceAll(worker, ".", "-") }

// podOf is the pod of a worker. There is no secret in it.
func podOf(o room.Order, namespace string, owner *metav1.OwnerReference) (*corev1.Pod, error) {
	spec, err := specOf(o.Options["pod"])
	if err != nil {
		return nil, fmt.Errorf("options.pod: %w", err)
	}
	pod := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: nameOf(o.Worker), Annotations: map[string]string{evictable: "true"}},
	}
	if owner != nil {
		pod.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	var own, notes map[string]string
	grace, no := defaultGrace, false
	if spec.TerminationGracePeriodSeconds != nil {
		grace = time.Duration(*spec.TerminationGracePeriodSeconds) * time.Second
	}
	var more []corev1.Toleration
	for _, err := range []error{
		value(o, "labels", ownLabels, &own), value(o, "annotations", pairs, &notes), value(o, "grace", graceOf, &grace),
		value(o, "node_selector", labels, &spec.NodeSelector), value(o, "tolerations", tolerations, &more),
		value(o, "image_pull_secrets", secretNames, &spec.ImagePullSecrets),
		value(o, "requests", resources, &spec.Containers[0].Resources.Requests),
		value(o, "limits", resources, &spec.Containers[0].Resources.Limits),
	} {
		if err != nil {
			return nil, err
		}
	}
	maps.Copy(pod.Annotations, notes)
	pod.Labels = map[string]string{}
	maps.Copy(pod.Labels, own)
	maps.Copy(pod.Labels, map[string]string{
		managedBy: manager, labelName: podName, labelCluster: o.Cluster, labelPool: o.Pool, labelWorker: o.Worker,
	})
	spec.RestartPolicy = corev1.RestartPolicyNever // a name is used once, and so is a token
	seconds := int64(max(grace, time.Second) / time.Second)
	spec.TerminationGracePeriodSeconds = &seconds
	if spec.AutomountServiceAccountToken == nil {
		spec.AutomountServiceAccountToken = &no
	}
	if spec.EnableServiceLinks == nil {
		spec.EnableServiceLinks = &no
	}
	text := func(name string, into *string) {
		if v := o.Options[name]; v != "" {
			*into = v
		}
	}
	text("service_account", &spec.ServiceAccountName)
	text("priority_class", &spec.PriorityClassName)
	if v := o.Options["runtime_class"]; v != "" {
		spec.RuntimeClassName = &v
	}
	spec.Tolerations = append(spec.Tolerations, more...)
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if !slices.ContainsFunc(spec.Tolerations, func(t corev1.Toleration) bool { return t.Key == key || t.Key == "" }) {
			after := int64(lostAfter)
			spec.Tolerations = append(spec.Tolerations, corev1.Toleration{
				Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &after,
			})
		}
	}
	if spec.SecurityContext == nil {
		yes := true
		spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: &yes, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	}
	work(&spec, o)
	pod.Spec = spec
	return pod, nil
}

// work makes the first container the worker's.
func work(spec *corev1.PodSpec, o room.Order) {
	c := &spec.Containers[0]
	if v := o.Options["image"]; v != "" {
		c.Image = v
	}
	if v := o.Options["image_pull_policy"]; v != "" {
		c.ImagePullPolicy = corev1.PullPolicy(v)
	}
	c.TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	c.Command, c.Args = nil, nil
	for _, a := range o.Argv {
		c.Command = append(c.Command, verbatim(a))
	}
	for _, name := range slices.Sorted(maps.Keys(o.Env)) {
		c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: verbatim(o.Env[name])})
	}
	c.Env = append(c.Env, corev1.EnvVar{Name: room.TokenEnv, ValueFrom: &corev1.EnvVarSource{
		SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: nameOf(o.Worker)}, Key: tokenKey},
	}})
	if o.Argv[0] == "rota" {
		if v := o.Options["rota"]; v != "" {
			c.Command[0] = verbatim(v)
		}
		at := defaultHealthPort
		if v := o.Options["health_port"]; v != "" {
			at = v
		}
		at = net.JoinHostPort("127.0.0.1", at)
		c.Env = append(c.Env, corev1.EnvVar{Name: "ROTA_HTTP", Value: at})
		if c.ReadinessProbe == nil {
			c.ReadinessProbe = &corev1.Probe{
				ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{c.Command[0], "health", "--worker", at}}},
				PeriodSeconds: 10, TimeoutSeconds: 10, FailureThreshold: 2,
			}
		}
	}
	if c.SecurityContext == nil {
		no := false
		c.SecurityContext = &corev1.SecurityContext{AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
	}
	// A worker keeps its key and certificate there, whoever it runs as.
	if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == "/tmp" }) {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "rota-tmp", MountPath: "/tmp"})
		spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "rota-tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	}
}

// verbatim is a text that Kubernetes is not to put variables into.
func verbatim(s string) string { return strings.ReplaceAll(s, "$", "$$") }

// secretOf is the Secret with a worker's token, which goes when its pod does.
func secretOf(o room.Order, pod *corev1.Pod) *corev1.Secret {
	fixed := true
	return &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, Labels: pod.Labels,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}},
		},
		Immutable: &fixed,
		Data:      map[string][]byte{tokenKey: []byte(o.Token)},
	}
}
