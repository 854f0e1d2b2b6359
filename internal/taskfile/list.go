package taskfile

import (
	"errors"
	"fmt"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/linedoc"
)

// list gathers the tasks of one file.
type list struct {
	file  string
	tasks []rota.Task
	seen  map[string]int // id → line
	said  bool           // something is in it
	most  int            // tasks
}

func newList(file string, most int) *list {
	return &list{file: file, seen: map[string]int{}, most: most}
}

func (l *list) readYAML(data []byte) error {
	if len(data) > MaxYAMLBytes {
		return &Error{File: l.file, Err: fmt.Errorf("more than %d bytes of YAML; write it as JSON lines or CSV", MaxYAMLBytes)}
	}
	docs, err := linedoc.YAML(data, linedoc.MaxMarks)
	return l.addAll(docs, err)
}

func (l *list) readJSON(data []byte) error {
	err := linedoc.JSONItems(data, "tasks", l.addItem, func(doc linedoc.Value) error {
		if doc.Kind == linedoc.Null { // in YAML that is an empty document
			return &Error{File: l.file, Line: doc.Line, Err: errNothing}
		}
		return l.addDocument(doc)
	})
	var own *Error
	if err != nil && !errors.As(err, &own) {
		return l.document(err)
	}
	return err
}

// addAll adds the tasks of each document.
func (l *list) addAll(docs []linedoc.Value, err error) error {
	if err != nil {
		return l.document(err)
	}
	for _, doc := range docs {
		if err := l.addDocument(doc); err != nil {
			return err
		}
	}
	return nil
}

func (l *list) document(err error) error {
	var de *linedoc.Error
	if errors.As(err, &de) {
		return &Error{File: l.file, Line: de.Line, Err: errors.New(de.Text)}
	}
	return &Error{File: l.file, Err: err}
}

func (l *list) addDocument(doc linedoc.Value) error {
	if doc.Kind == linedoc.Null {
		return nil // an empty document
	}
	l.said = true
	switch {
	case doc.Kind == linedoc.List:
		return l.addItems(doc)
	case doc.Kind != linedoc.Table:
		return &Error{File: l.file, Line: doc.Line, Err: fmt.Errorf("want a task or a list of tasks, found %v", doc.Kind)}
	}
	for _, f := range doc.Fields {
		if f.Name != "tasks" {
			continue
		}
		if len(doc.Fields) > 1 {
			other := doc.Fields[0]
			if other.Name == "tasks" {
				other = doc.Fields[1]
			}
			return &Error{File: l.file, Line: other.Line, Err: &rota.FieldError{Field: other.Name, Value: linedoc.Unknown, Want: "nothing beside tasks"}}
		}
		if f.Value.Kind != linedoc.List { // null is what is left of a list that was commented out
			return &Error{File: l.file, Line: f.Line, Err: &rota.FieldError{Field: "tasks", Value: f.Value.Kind, Want: "a list; one without tasks is []"}}
		}
		return l.addItems(f.Value)
	}
	return l.add(doc)
}

func (l *list) addItems(items linedoc.Value) error {
	for _, item := range items.Items {
		if err := l.addItem(item); err != nil {
			return err
		}
	}
	return nil
}

func (l *list) addItem(item linedoc.Value) error {
	if item.Kind != linedoc.Table {
		return &Error{File: l.file, Line: item.Line, Record: len(l.tasks) + 1, Err: fmt.Errorf("want a task, found %v", item.Kind)}
	}
	return l.add(item)
}

// add adds the task that v is.
func (l *list) add(v linedoc.Value) error {
	record := len(l.tasks) + 1
	t, line, err := decodeTask(v)
	if err != nil {
		return &Error{l.file, line, record, err}
	}
	if len(l.tasks) == l.most {
		return &Error{l.file, v.Line, record, fmt.Errorf("more than %d tasks", l.most)}
	}
	if first, twice := l.seen[t.ID]; twice {
		return &Error{l.file, v.Line, record, &rota.FieldError{Field: "id", Value: t.ID, Want: fmt.Sprintf("an id of its own; line %d has it too", first)}}
	}
	l.seen[t.ID] = v.Line
	l.tasks = append(l.tasks, t)
	return nil
}
