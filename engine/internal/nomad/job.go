package nomad

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/rota-project/rota/engine/internal/room"
)

const (
	groupName, taskName = "worker", "worker"
	// tokenItem is the item of a job's variable that is its worker's join token.
	tokenItem = "join_token"
	// stopSignal is what has a worker hand over and end.
	stopSignal = "SIGTERM"
	// killTimeout is how long it may take to. A client has a most of its own
	// (max_kill_timeout, 30 s by default).
	killTimeout = 2 * time.Minute
	// lostAfter is how long Nomad waits for a node that it does not hear of: a worker on it
	// goes on, if it lives, and so does its job when the node is back.
	lostAfter = time.Hour
)

// The keys of a job's metadata, by which it is known.
const (
	metaCluster = "rota_cluster"
	metaPool    = "rota_pool"
)

// jobID is the name of a worker's job, which begins with prefix: a path of variables has
// no dots.
func jobID(worker string) string { return "rota-" + strings.ReplaceAll(worker, ".", "-") }

// Options are what a pool may say, and what each value has to be.
func Options() map[string]func(string) string {
	return map[string]func(string) string{
		"namespace":   name,
		"node_pool":   name,
		"datacenters": names,
		"driver":      room.OneOf("raw_exec", "exec"),
		"constraint": func(v string) string {
			return check(constraint, v, "an expression such as ${node.class} = batch: an attribute, an operator, a value")
		},
		"priority":     whole(1, 100),
		"cpu":          whole(1, 1<<24),
		"cores":        whole(1, 1<<12),
		"memory":       whole(10, 1<<26),
		"memory_max":   whole(10, 1<<26),
		"kill_timeout": duration(time.Second, time.Hour),
		"user":         name,
		"dir":          room.Path,
		"rota":         room.Path,
	}
}

var (
	nameForm   = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)
	namesForm  = regexp.MustCompile(`^[a-zA-Z0-9_.*-]{1,128}(,[a-zA-Z0-9_.*-]{1,128})*$`)
	constraint = regexp.MustCompile(`^(\S+) (=|==|!=|>|>=|<|<=|regexp|version|semver|set_contains|set_contains_any|set_contains_all|is_set|is_not_set)(?: (.+))?$`)
)

func check(form *regexp.Regexp, v, want string) string {
	if len(v) > 1024 || !form.MatchString(v) {
		return want
	}
	return ""
}

func name(v string) string {
	return check(nameForm, v, "a name of letters, digits, dots, dashes and underscores")
}

func names(v string) string {
	return check(namesForm, v, "names with commas between them, such as dc1,dc2, or *")
}

func whole(least, most int) func(string) string {
	return func(v string) string {
		if n, err := strconv.Atoi(v); err != nil || n < least || n > most {
			return "a whole number, " + strconv.Itoa(least) + " to " + strconv.Itoa(most)
		}
		return ""
	}
}

func duration(least, most time.Duration) func(string) string {
	return func(v string) string {
		if d, err := time.ParseDuration(v); err != nil || d < least || d > most {
			return "a duration such as 2m, " + least.String() + " to " + most.String()
		}
		return ""
	}
}

// job is the job of a worker. The join token is not in it.
func (e *Engine) job(o room.Order, namespace string) *api.Job {
	opt := func(name, without string) string {
		if v := o.Options[name]; v != "" {
			return v
		}
		return without
	}
	number := func(name string) *int {
		if v, err := strconv.Atoi(o.Options[name]); err == nil {
			return &v
		}
		return nil
	}
	id := jobID(o.Worker)
	argv := slices.Clone(o.Argv)
	if argv[0] == "rota" {
		argv[0] = opt("rota", e.cfg.Self)
	}
	config := map[string]any{"command": argv[0], "args": argv[1:]}
	if dir := opt("dir", ""); dir != "" {
		config["work_dir"] = dir
	}
	kill, err := time.ParseDuration(o.Options["kill_timeout"])
	if err != nil {
		kill = killTimeout
	}
	env := maps.Clone(o.Env)
	task := &api.Task{
		Name: taskName, Driver: opt("driver", "raw_exec"), User: opt("user", ""), Config: config, Env: env,
		KillTimeout: &kill, KillSignal: stopSignal,
		Resources: &api.Resources{CPU: number("cpu"), Cores: number("cores"), MemoryMB: number("memory"), MemoryMaxMB: number("memory_max")},
		// Nomad's client gets it with the task's own identity, and no other job's may read it.
		Templates: []*api.Template{{
			EmbeddedTmpl: ptr(room.TokenEnv + `={{ with nomadVar "` + jobsPath + id + `" }}{{ .` + tokenItem + ` }}{{ end }}` + "\n"),
			DestPath:     ptr("secrets/join-token.env"), Envvars: ptr(true), Perms: ptr("0600"), ChangeMode: ptr("noop"), Once: ptr(true),
		}},
	}
	job := &api.Job{
		ID: &id, Name: &o.Worker, Namespace: &namespace, Type: ptr(api.JobTypeBatch), Datacenters: strings.Split(opt("datacenters", "*"), ","),
		Priority: number("priority"), Meta: map[string]string{metaCluster: o.Cluster, metaPool: o.Pool},
		TaskGroups: []*api.TaskGroup{{
			Name: ptr(groupName), Count: ptr(1), Tasks: []*api.Task{task},
			// The scheduler starts another worker, under another name; Nomad starts none.
			RestartPolicy:    &api.RestartPolicy{Attempts: ptr(0), Mode: ptr(api.RestartPolicyModeFail)},
			ReschedulePolicy: &api.ReschedulePolicy{Attempts: ptr(0), Unlimited: ptr(false)},
			Disconnect:       &api.DisconnectStrategy{LostAfter: ptr(lostAfter), Replace: ptr(false), Reconcile: ptr(api.ReconcileOptionKeepOriginal)},
		}},
	}
	if v := opt("node_pool", ""); v != "" {
		job.NodePool = &v
	}
	if m := constraint.FindStringSubmatch(o.Options["constraint"]); m != nil {
		job.Constraints = []*api.Constraint{{LTarget: m[1], Operand: m[2], RTarget: m[3]}}
	}
	return job
}

func ptr[T any](v T) *T { return &v }
