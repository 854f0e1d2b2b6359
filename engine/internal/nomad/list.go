package nomad

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/rota-project/rota/engine/internal/room"
	"github.com/rota-project/rota/internal/text"
)

// drainWithin is how soon after the drain of its node a worker is taken to end, unless the
// drain itself ends sooner: Nomad leaves batch jobs there until then, and another worker
// takes its place meanwhile.
const drainWithin = 5 * time.Minute

// List lists the jobs that are workers, of any cluster, in all namespaces that the token
// may list; and deletes the join tokens of those that have begun.
func (e *Engine) List(ctx context.Context) ([]room.Copy, error) {
	return e.listing.Get(func() ([]room.Copy, error) { return e.ask(ctx) })
}

// jobDead is the status of a job of which nothing will run.
const jobDead = "dead"

// seen is what Nomad answers.
type seen struct {
	jobs   []*api.JobListStub
	allocs map[string][]*api.AllocationListStub // by handle of the job, the first one first
	why    map[string]string                    // by handle: why nothing is placed
	drains map[string]time.Time                 // by node: when what is on it ends
}

// ask asks Nomad what there is.
func (e *Engine) ask(ctx context.Context) ([]room.Copy, error) {
	q, err := e.query(ctx, api.QueryOptions{Namespace: api.AllNamespacesNamespace, Prefix: prefix})
	if err != nil {
		return nil, err
	}
	// Variables come before jobs: what has no job has none yet, or none any more.
	vars, _, err := e.client.Variables().PrefixList(jobsPath+prefix, filtered(q, ""))
	if err != nil {
		return nil, fmt.Errorf("list variables: %w", tell(err))
	}
	s := &seen{allocs: map[string][]*api.AllocationListStub{}}
	if s.jobs, _, err = e.client.Jobs().ListOptions(&api.JobListOptions{Fields: &api.JobListFields{Meta: true}}, q); err != nil {
		return nil, fmt.Errorf("list jobs: %w", tell(err))
	}
	s.jobs = slices.DeleteFunc(s.jobs, func(j *api.JobListStub) bool { return j.Meta[metaCluster] == "" || j.Meta[metaPool] == "" })
	if len(s.jobs) > 0 {
		allocs, _, err := e.client.Allocations().List(filtered(q, ours))
		if err != nil {
			return nil, fmt.Errorf("list allocations: %w", tell(err))
		}
		slices.SortFunc(allocs, func(a, b *api.AllocationListStub) int { return cmp.Compare(a.CreateIndex, b.CreateIndex) })
		for _, a := range allocs {
			h := handle(a.Namespace, a.JobID)
			s.allocs[h] = append(s.allocs[h], a)
		}
	}
	if err := e.reasons(q, s); err != nil {
		return nil, err
	}
	if err := e.draining(ctx, s); err != nil {
		return nil, err
	}
	e.sweep(vars, s)
	return s.copies(), nil
}

// filtered is a query with a filter in the place of its prefix.
func filtered(q *api.QueryOptions, filter string) *api.QueryOptions {
	out := *q
	out.Prefix, out.Filter = "", filter
	return &out
}

// reasons asks why what waits is not placed, if anything does.
func (e *Engine) reasons(q *api.QueryOptions, s *seen) error {
	s.why = map[string]string{}
	if !slices.ContainsFunc(s.jobs, func(j *api.JobListStub) bool { return !j.Stop && len(s.allocs[handle(j.Namespace, j.ID)]) == 0 }) {
		return nil
	}
	evals, _, err := e.client.Evaluations().List(filtered(q, ours))
	if err != nil {
		return fmt.Errorf("list evaluations: %w", tell(err))
	}
	slices.SortFunc(evals, func(a, b *api.Evaluation) int { return cmp.Compare(a.CreateIndex, b.CreateIndex) })
	for _, v := range evals {
		why := reason(v)
		if why != "" {
			s.why[handle(v.Namespace, v.JobID)] = why
		}
	}
	return nil
}

// reason is why an evaluation has placed nothing.
func reason(v *api.Evaluation) string {
	if m := v.FailedTGAllocs[groupName]; m != nil {
		var out []string
		for _, c := range counts(m.ConstraintFiltered) {
			out = append(out, "constraint "+c)
		}
		for _, c := range counts(m.ClassFiltered) {
			out = append(out, "class "+c)
		}
		for _, c := range counts(m.DimensionExhausted) {
			out = append(out, "exhausted: "+c)
		}
		for _, name := range m.QuotaExhausted {
			out = append(out, "quota "+name)
		}
		switch {
		case len(out) > 0:
		case m.NodesEvaluated == 0:
			out = append(out, "no node of its datacenters and node pool is ready")
		default:
			out = append(out, fmt.Sprintf("none of %d nodes fits", m.NodesEvaluated))
		}
		return "no room: " + text.Clip(strings.Join(out, "; "), maxTold)
	}
	if v.QuotaLimitReached != "" {
		return "no room: quota " + text.Clip(v.QuotaLimitReached, text.Short)
	}
	return ""
}

// counts are the entries of a table, "name on N nodes", in order of name.
func counts(m map[string]int) []string {
	out := make([]string, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		nodes := "nodes"
		if m[name] == 1 {
			nodes = "node"
		}
		out = append(out, fmt.Sprintf("%s on %d %s", name, m[name], nodes))
	}
	return out
}

// draining asks which nodes are drained that have any of the jobs. Who may not list nodes
// goes without.
func (e *Engine) draining(ctx context.Context, s *seen) error {
	s.drains = map[string]time.Time{}
	used := map[string]bool{}
	for _, list := range s.allocs {
		for _, a := range list {
			if a.ClientStatus == api.AllocClientStatusRunning {
				used[a.NodeID] = true
			}
		}
	}
	if len(used) == 0 {
		return nil
	}
	q, err := e.query(ctx, api.QueryOptions{})
	if err != nil {
		return err
	}
	nodes, _, err := e.client.Nodes().List(filtered(q, `SchedulingEligibility == "ineligible"`)) // as drained ones are
	var answer api.UnexpectedResponseError
	switch {
	case errors.As(err, &answer) && answer.StatusCode() == http.StatusForbidden:
		return nil
	case err != nil:
		return fmt.Errorf("list nodes: %w", tell(err))
	}
	for _, n := range nodes {
		if !n.Drain || !used[n.ID] {
			continue
		}
		node, _, err := e.client.Nodes().Info(n.ID, q)
		if err != nil || node.DrainStrategy == nil {
			continue
		}
		ends := node.DrainStrategy.StartedAt.Add(drainWithin)
		if d := node.DrainStrategy.ForceDeadline; !d.IsZero() && d.Before(ends) {
			ends = d
		}
		s.drains[n.ID] = ends
	}
	return nil
}

// sweep deletes the variables of jobs that have begun or are gone.
func (e *Engine) sweep(vars []*api.VariableMetadata, s *seen) {
	waits := map[string]bool{}
	for _, j := range s.jobs {
		h := handle(j.Namespace, j.ID)
		waits[h] = !j.Stop && j.Status != jobDead && !slices.ContainsFunc(s.allocs[h], begun)
	}
	now, still := time.Now(), map[string]time.Time{}
	for _, v := range vars {
		h := handle(v.Namespace, strings.TrimPrefix(v.Path, jobsPath))
		wait, known := waits[h]
		if wait || strings.Count(h, "/") > 1 { // the latter is of somebody else
			continue
		}
		if !known { // it may be on its way
			e.mu.Lock()
			since, before := e.orphans[h]
			e.mu.Unlock()
			if !before {
				since = now
			}
			if still[h] = since; now.Sub(since) < orphanFor {
				continue
			}
		}
		if err := e.spend(v.Namespace, v.Path); err == nil {
			delete(still, h)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.orphans = still
}

// begun reports whether an allocation has the token of its job, or will never need it. One
// that was lost before it began will not.
func begun(a *api.AllocationListStub) bool {
	t := a.TaskStates[taskName]
	return t != nil && !t.StartedAt.IsZero()
}

// copies are the workers.
func (s *seen) copies() (out []room.Copy) {
	for _, j := range s.jobs {
		h := handle(j.Namespace, j.ID)
		base := room.Copy{Cluster: j.Meta[metaCluster], Pool: j.Meta[metaPool], Worker: j.Name, Handle: h}
		allocs := s.allocs[h]
		if len(allocs) == 0 {
			base.State, base.Detail = room.Waiting, j.Status
			switch why := s.why[h]; {
			case j.Stop, j.Status == jobDead:
				base.State, base.Detail = room.Ended, "the job was stopped before it began"
			case why != "":
				base.Detail += ": " + why
			}
			out = append(out, base)
			continue
		}
		for n, a := range allocs {
			c := base
			if n > 0 {
				c.Handle += "/" + a.ID
			}
			c.State, c.Detail = state(a), detail(a)
			if t := a.TaskStates[taskName]; t != nil {
				c.Began = t.StartedAt
			}
			if c.State == room.Running {
				c.Ends = s.drains[a.NodeID]
			}
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b room.Copy) int { return strings.Compare(a.Worker+a.Handle, b.Worker+b.Handle) })
	return out
}

// state is where an allocation is. One on a node that Nomad does not hear of has ended, as
// far as anybody knows: a worker that lives there goes on all the same.
func state(a *api.AllocationListStub) room.State {
	switch a.ClientStatus {
	case api.AllocClientStatusPending:
		if a.DesiredStatus != api.AllocDesiredStatusRun {
			return room.Ended
		}
		return room.Waiting
	case api.AllocClientStatusComplete, api.AllocClientStatusFailed, api.AllocClientStatusLost, api.AllocClientStatusUnknown:
		return room.Ended
	}
	return room.Running
}

// detail is an allocation's state, where it is and what its task was last said to do.
func detail(a *api.AllocationListStub) string {
	out := a.ClientStatus
	if a.NodeName != "" {
		out += " on " + a.NodeName
	}
	said := ""
	if t := a.TaskStates[taskName]; t != nil {
		for _, ev := range t.Events {
			if told(ev) {
				said = ev.DisplayMessage
			}
		}
	}
	if said == "" {
		said = cmp.Or(a.ClientDescription, a.DesiredDescription)
	}
	switch {
	case a.ClientStatus == api.AllocClientStatusRunning, said == "":
	case a.ClientStatus == api.AllocClientStatusUnknown:
		out += ": Nomad does not hear of the node"
	default:
		out += ": " + text.Clip(strings.Join(strings.Fields(strings.ToValidUTF8(said, "?")), " "), maxTold)
	}
	return out
}

// told reports whether an event says more of an end than that it is one.
func told(ev *api.TaskEvent) bool {
	switch ev.Type {
	case api.TaskNotRestarting, api.TaskKilled, api.TaskReceived, api.TaskSetup, api.TaskStarted:
		return false
	}
	return ev.DisplayMessage != ""
}
