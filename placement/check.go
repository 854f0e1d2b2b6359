package placement

import "github.com/rota-project/rota"

// CheckTask returns a *rota.FieldError if a planner would refuse t: a field is
// out of its range or a label condition does not parse. Whoever declares tasks
// asks it first.
func CheckTask(t rota.Task) error {
	if err := t.Validate(); err != nil {
		return err
	}
	for _, c := range t.Rules.Require {
		if _, err := ParseCondition(c); err != nil {
			return &rota.FieldError{Field: "require", Value: c, Want: err.Error()}
		}
	}
	for _, p := range t.Rules.Prefer {
		if _, err := ParseCondition(p.Label); err != nil {
			return &rota.FieldError{Field: "prefer", Value: p.Label, Want: err.Error()}
		}
	}
	return nil
}
