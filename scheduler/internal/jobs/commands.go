package jobs

import (
	"cmp"
	"context"
	"slices"
	"strings"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/process/words"
	"github.com/rota-project/rota/scheduler/internal/storepb"
)

// maxListed is how many command lines are answered.
const maxListed = 1000

// templatesOf are the command lines that a worker tells of, within their limits.
func templatesOf(h *rotav1.JobHello) []*storepb.JobTemplate {
	all := make([][]string, len(h.GetTemplates()))
	for n, t := range h.GetTemplates() {
		all[n] = t.GetArgv()
	}
	var out []*storepb.JobTemplate
	for _, argv := range job.Templates(all) {
		out = append(out, &storepb.JobTemplate{Argv: argv})
	}
	return out
}

// ListCommands answers the command lines that workers take as jobs now.
func (c *Control) ListCommands(context.Context, *rotav1.ListCommandsRequest) (*rotav1.ListCommandsResponse, error) {
	out := &rotav1.ListCommandsResponse{}
	found := map[string]*rotav1.JobCommand{}
	for _, w := range c.takers() {
		out.AllWorkers++
		if w.GetAny() {
			out.AnyWorkers++
		}
		for key, argv := range templates(w) {
			if found[key] == nil {
				found[key] = &rotav1.JobCommand{Argv: argv}
				out.Commands = append(out.Commands, found[key])
			}
			found[key].Workers++
		}
	}
	slices.SortFunc(out.GetCommands(), func(a, b *rotav1.JobCommand) int {
		return cmp.Or(cmp.Compare(b.GetWorkers(), a.GetWorkers()), slices.Compare(a.GetArgv(), b.GetArgv()))
	})
	out.Commands = out.GetCommands()[:min(len(out.GetCommands()), maxListed)]
	for _, command := range out.GetCommands() {
		command.Parameters = parameters(command.GetArgv())
	}
	return out, nil
}

// takers are the workers that take jobs now, as they said so; nobody changes that.
func (c *Control) takers() (out []*storepb.JobWorker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.candidates() {
		out = append(out, c.p.workers[w.Name])
	}
	return out
}

// parameters are what has to be said to make a command of a template.
func parameters(argv []string) (out []*rotav1.JobParameter) {
	for n, text := range argv {
		w, err := words.Parse(text)
		if err != nil { // of a worker of a later release
			out = append(out, &rotav1.JobParameter{Word: int64(n), Name: text, Type: "any"})
			continue
		}
		p, ok := w.Parameter()
		if !ok {
			continue
		}
		m := &rotav1.JobParameter{Word: int64(n), Name: w.Name, Type: p.Type, Before: p.Before, After: p.After, Choices: p.Choices, Many: w.Many}
		if p.Low != 0 || p.High != 0 {
			m.Low, m.High = &p.Low, &p.High
		}
		out = append(out, m)
	}
	return out
}

// templates are the command lines that a worker lists, each once. Of a command that it told
// no line of, as workers of the earlier release do, any arguments may be taken.
func templates(w *storepb.JobWorker) map[string][]string {
	out, begun := map[string][]string{}, map[string]bool{}
	for _, t := range w.GetTemplates() {
		out[strings.Join(t.GetArgv(), "\x00")] = t.GetArgv()
		begun[t.GetArgv()[0]] = true
	}
	for _, command := range w.GetCommands() {
		if !begun[command] {
			out[command+"\x00..."] = []string{command, "{arguments:any...}"}
		}
	}
	return out
}
