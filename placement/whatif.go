package placement

import (
	"fmt"

	"github.com/rota-project/rota"
)

// WhatIf returns the plan that there would be after change, which is given a
// clone to tell of tasks and workers: what a file of tasks would cause, say. p
// stays as it is.
func (p *Planner) WhatIf(change func(*Planner) error) (rota.Plan, error) {
	c := p.Clone()
	if err := change(c); err != nil {
		return rota.Plan{}, err
	}
	return c.Plan(), nil
}

// Without returns the plan that there would be if the named workers were lost.
func (p *Planner) Without(names ...string) (rota.Plan, error) {
	return p.WhatIf(func(c *Planner) error {
		for _, name := range names {
			if n, ok := c.byName[name]; !ok || c.workers[n].gone {
				return fmt.Errorf("worker %q: %w", name, rota.ErrNotFound)
			}
			c.RemoveWorker(name)
		}
		return nil
	})
}

// With returns the plan that there would be with n more workers that are like
// the model, but for their names.
func (p *Planner) With(n int, model rota.Worker) (rota.Plan, error) {
	return p.WhatIf(func(c *Planner) error {
		for k := 0; n > 0; k++ {
			w := model
			w.Name = fmt.Sprintf("new-%d", k+1)
			if _, taken := c.byName[w.Name]; taken {
				continue
			}
			if err := c.SetWorker(w); err != nil {
				return err
			}
			n--
		}
		return nil
	})
}
