package program

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/rota-project/rota"
)

// TaskFunc is a task function that uses channels. In has messages from the scheduler
// function and is closed to tell the task to exit; out takes messages to the scheduler
// function. The task need not close out. args[0] is the task's own name, "elevator-2",
// which Index splits; the Args of its Spec follow.
type TaskFunc func(in <-chan Msg, out chan<- Msg, args []string, env map[string]string) error

// Task is a TaskFunc as a value.
type Task interface {
	Run(in <-chan Msg, out chan<- Msg, args []string, env map[string]string) error
}

// ConnFunc is a task function or a scheduler function that uses contexts. Recv returns
// io.EOF to tell it to exit in order; its context ends when it must exit at once.
type ConnFunc func(ctx context.Context, c Conn) error

// SchedFunc is a scheduler function that uses channels. The program ends when it returns.
// In is not closed while the function runs, so a loop may read it without checking. If the
// program ends for another reason, events gets Shutdown; it is closed when all tasks have
// ended. A function that has not returned after twice the program's grace from then is
// given up.
type SchedFunc func(in <-chan Msg, out chan<- Msg, events <-chan Event)

// SchedTask is a SchedFunc as a value.
type SchedTask interface {
	Run(in <-chan Msg, out chan<- Msg, events <-chan Event)
}

// Index splits the name of a task, "elevator-2", into the name of its function and its
// index.
func Index(task string) (name string, index int, err error) {
	at := strings.LastIndexByte(task, '-')
	if at > 0 {
		name = task[:at]
		index, err = strconv.Atoi(task[at+1:])
	}
	if at <= 0 || err != nil || index < 0 || strconv.Itoa(index) != task[at+1:] {
		return "", 0, &rota.FieldError{Field: "task", Value: task, Want: "the name of a function, -, and an index"}
	}
	return name, index, nil
}

// Registrar is where task functions can be registered: Functions, or a worker of a cluster.
type Registrar interface {
	RegisterTask(name string, t Task) error
	RegisterTaskFunc(name string, f TaskFunc) error
	RegisterTaskConn(name string, f ConnFunc) error
}

// Functions are the task functions that a worker, or this process, offers. The zero value
// is empty and ready to use.
type Functions struct {
	mu      sync.Mutex
	byName  map[string]ConnFunc
	changed chan struct{} // closed at the next registration
}

// Default has the functions that the package-level Register functions register. InProcess
// and Local offer them unless WithFunctions is given.
var Default Functions

// RegisterTaskFunc registers f under name in Default.
func RegisterTaskFunc(name string, f TaskFunc) error { return Default.RegisterTaskFunc(name, f) }

// RegisterTask registers t under name in Default.
func RegisterTask(name string, t Task) error { return Default.RegisterTask(name, t) }

// RegisterTaskConn registers f under name in Default.
func RegisterTaskConn(name string, f ConnFunc) error { return Default.RegisterTaskConn(name, f) }

// RegisterTask registers t under name. It is an error if the name is taken.
func (fs *Functions) RegisterTask(name string, t Task) error {
	if t == nil {
		return &rota.FieldError{Field: "task", Value: t, Want: "a value, for " + name}
	}
	return fs.RegisterTaskFunc(name, t.Run)
}

// RegisterTaskFunc registers f under name. It is an error if the name is taken.
func (fs *Functions) RegisterTaskFunc(name string, f TaskFunc) error {
	if f == nil {
		return &rota.FieldError{Field: "task", Value: nil, Want: "a function, for " + name}
	}
	return fs.RegisterTaskConn(name, taskChannels(f))
}

// RegisterTaskConn registers f under name. It is an error if the name is taken.
func (fs *Functions) RegisterTaskConn(name string, f ConnFunc) error {
	if err := validName("task", name); err != nil {
		return err
	}
	if f == nil {
		return &rota.FieldError{Field: "task", Value: nil, Want: "a function, for " + name}
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.byName[name] != nil {
		return &rota.FieldError{Field: "task", Value: name, Want: "a name that is not registered yet"}
	}
	if fs.byName == nil {
		fs.byName = map[string]ConnFunc{}
	}
	fs.byName[name] = f
	if fs.changed != nil {
		close(fs.changed)
		fs.changed = nil
	}
	return nil
}

// Names returns the registered names, in order.
func (fs *Functions) Names() []string {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return slices.Sorted(maps.Keys(fs.byName))
}

func (fs *Functions) get(name string) ConnFunc {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.byName[name]
}

// lacks returns those of names that nobody registered, and a channel that is
// closed when that may have changed.
func (fs *Functions) lacks(names []string) (missing []string, changed <-chan struct{}) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, n := range names {
		if fs.byName[n] == nil && !slices.Contains(missing, n) {
			missing = append(missing, n)
		}
	}
	if fs.changed == nil {
		fs.changed = make(chan struct{})
	}
	return missing, fs.changed
}

// validName checks a name that a person gave.
func validName(field, name string) error {
	if strings.Contains(name, "/") {
		return &rota.FieldError{Field: field, Value: name, Want: "a name without /"}
	}
	if err := (rota.Task{ID: name}).Validate(); err != nil {
		if fe := (*rota.FieldError)(nil); errors.As(err, &fe) {
			return &rota.FieldError{Field: field, Value: fe.Value, Want: fe.Want}
		}
		return err
	}
	return nil
}
