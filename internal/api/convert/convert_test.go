package convert_test

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/convert"
)

// full is a task with every field set.
func full() rota.Task {
	return rota.Task{
		ID: "a", Kind: "k", Group: "g", Key: "key", Weight: 2.5, Priority: -1, Payload: []byte("text"),
		Replicas: 3, Mode: rota.Available, Resources: map[string]float64{"cpus": 2},
		Rules: rota.Rules{
			Require:  []string{"zone=a", "!spot"},
			Prefer:   []rota.Preference{{Label: "disk=ssd", Weight: 3}},
			Affinity: []rota.Affinity{{Task: "b", Anti: true, Required: true}, {Group: "h", Weight: 4}},
			Spread:   &rota.Spread{Label: "zone", Shares: map[string]float64{"a": 1}, ByGroup: true},
			Gang:     "gang", Pinned: "w1", Preempt: true,
		},
	}
}

func TestTaskRoundTrip(t *testing.T) {
	t.Parallel()
	binary := full()
	binary.Payload = []byte{0xff, 0}
	for _, task := range []rota.Task{{ID: "only-id"}, full(), binary} {
		got, err := convert.TaskFromProto(convert.TaskToProto(task))
		if err != nil {
			t.Fatal(err)
		}
		if !got.Equal(task) {
			t.Errorf("got %+v, want %+v", got, task)
		}
	}
}

// TestNoFieldIsForgotten fails when the API gets a field that convert leaves out.
func TestNoFieldIsForgotten(t *testing.T) {
	t.Parallel()
	def := convert.TaskToProto(full())
	requireAll(t, def.ProtoReflect(), "payload_base64")
	requireAll(t, convert.PlanToProto(rota.Plan{
		Moves:   []rota.Move{{Instance: rota.Instance{Task: "a", Index: 1}, From: "w1", To: "w2", Reason: "r", Forced: true}},
		Waiting: []rota.Waiting{{Instance: rota.Instance{Task: "b", Index: 2}, Reason: "r"}},
		Summary: rota.Summary{Forced: 1, Chosen: 2, Placed: 3, Stopped: 4, Waiting: 5, ImbalanceBefore: 6, ImbalanceAfter: 7},
	}, map[rota.Instance]bool{{Task: "b", Index: 2}: true}).ProtoReflect())
}

func requireAll(t *testing.T, m protoreflect.Message, except ...protoreflect.Name) {
	t.Helper()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if len(except) > 0 && fd.Name() == except[0] {
			continue
		}
		if !m.Has(fd) {
			t.Errorf("%s.%s is not set", m.Descriptor().Name(), fd.Name())
			continue
		}
		if fd.Message() != nil && !fd.IsMap() && !fd.IsList() {
			requireAll(t, m.Get(fd).Message())
		}
		if fd.IsList() && fd.Message() != nil && fd.Name() != "affinity" { // whose fields exclude each other
			requireAll(t, m.Get(fd).List().Get(0).Message())
		}
	}
}

func TestTasksFromProtoNamesTheField(t *testing.T) {
	t.Parallel()
	ok := &rotav1.TaskDefinition{Id: "a"}
	for field, defs := range map[string][]*rotav1.TaskDefinition{
		"tasks[1].id":             {ok, {}},
		"tasks[2].id":             {ok, {Id: "b"}, {Id: "a"}},
		"tasks[0].weight":         {{Id: "a", Weight: math.NaN()}},
		"tasks[1].payload_base64": {ok, {Id: "b", Payload: "x", PayloadBase64: []byte("y")}},
		"tasks[0].replicas":       {{Id: "a", Replicas: math.MaxInt64}},
		"tasks[1].mode":           {ok, {Id: "b", Mode: "sometimes"}},
	} {
		_, err := convert.TasksFromProto(defs)
		var fe *rota.FieldError
		if !errors.As(err, &fe) || fe.Field != field {
			t.Errorf("got %v, want an error of the field %s", err, field)
			continue
		}
		answer := convert.Error(err)
		if status.Code(answer) != codes.InvalidArgument || convert.Field(answer) != field {
			t.Errorf("%s: status %v with the field %q", field, status.Code(answer), convert.Field(answer))
		}
	}
}

func TestErrorCodes(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]codes.Code{
		nil: codes.OK,
		fmt.Errorf("task x: %w", rota.ErrNotFound):   codes.NotFound,
		rota.ErrNameAlive:                            codes.AlreadyExists,
		rota.ErrTooManyWorkers:                       codes.ResourceExhausted,
		rota.ErrNewerVersion:                         codes.FailedPrecondition,
		errors.New("disk on fire"):                   codes.Internal,
		status.Error(codes.Unavailable, "no leader"): codes.Unavailable,
	} {
		if got := status.Code(convert.Error(err)); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}

func TestListsAreEqualBothWays(t *testing.T) {
	t.Parallel()
	defs := convert.TasksToProto([]rota.Task{{ID: "a"}, full2()})
	tasks, err := convert.TasksFromProto(defs)
	if err != nil {
		t.Fatal(err)
	}
	for i, def := range convert.TasksToProto(tasks) {
		if !proto.Equal(def, defs[i]) {
			t.Errorf("task %d: got %v, want %v", i, def, defs[i])
		}
	}
}

func full2() rota.Task {
	t := full()
	t.ID = "b"
	return t
}
