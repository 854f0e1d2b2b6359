package jsonpb_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/jsonpb"
)

func TestMarshal(t *testing.T) {
	t.Parallel()
	since := timestamppb.New(time.Date(2026, 3, 1, 12, 0, 0, 5000, time.UTC))
	for name, c := range map[string]struct {
		msg  proto.Message
		want string
	}{
		"zero values are there": {
			&rotav1.Task{Id: "a"},
			`{"id":"a","group":"","key":"","weight":0,"priority":0,"kind":"","instances":[]}`,
		},
		"64-bit integers are numbers": {
			&rotav1.Instance{Index: math.MinInt64, Generation: math.MaxUint64, Since: since},
			`{"index":-9223372036854775808,"worker":"","generation":18446744073709551615,"state":"","since":"2026-03-01T12:00:00.000005Z","error":"","restarts":0}`,
		},
		"an absent message is null": {
			&rotav1.TaskEvent{Type: "synced"},
			`{"type":"synced","task":null}`,
		},
		"bytes are base64, maps are sorted": {
			&rotav1.TaskDefinition{PayloadBase64: []byte{0, 255}, Resources: map[string]float64{"b": 1.5, "a": 1e300}},
			`{"id":"","kind":"","group":"","key":"","weight":0,"priority":0,"payload":"","payload_base64":"AP8=","replicas":0,"mode":"",` +
				`"resources":{"a":1e+300,"b":1.5},"require":[],"prefer":[],"affinity":[],"spread":null,"gang":"","pinned":"","preempt":false}`,
		},
		"what JSON has no number for": {
			&rotav1.Preference{Label: "x", Weight: math.NaN()},
			`{"label":"x","weight":"NaN"}`,
		},
		"text": {
			&rotav1.GetTaskRequest{Id: "\"\\/\n\x01<é\u2028\x7f\xff"},
			"{\"id\":\"\\\"\\\\/\\n\\u0001<é\\u2028\\u007f\ufffd\"}",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := jsonpb.Marshal(c.msg)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if !json.Valid(got) {
				t.Error("no JSON")
			}
		})
	}
}

func TestMarshalRefusesATimeOutOfRange(t *testing.T) {
	t.Parallel()
	_, err := jsonpb.Marshal(&rotav1.Instance{Since: &timestamppb.Timestamp{Seconds: math.MaxInt64}})
	if err == nil || !strings.Contains(err.Error(), "since") {
		t.Fatalf("got %v, want an error that names since", err)
	}
}

func TestUnmarshal(t *testing.T) {
	t.Parallel()
	var in rotav1.Instance
	if err := jsonpb.Unmarshal([]byte(`{"index": 3, "generation": "18446744073709551615"}`), &in); err != nil {
		t.Fatal(err)
	}
	if in.GetIndex() != 3 || in.GetGeneration() != math.MaxUint64 {
		t.Fatalf("got %v", &in)
	}
	for text, field := range map[string]string{
		`{"weigth": 1}`:           "weigth",
		`{"weight": "a lot"}`:     "weight",
		`{"weight": 1}{}`:         "",
		`{"id": "a", "id": "b"}`:  "id",
		`{"replicas": 1.5}`:       "replicas",
		`{"prefer": {"label":1}}`: "",
		`{`:                       "",
		``:                        "",
	} {
		err := jsonpb.Unmarshal([]byte(text), &rotav1.TaskDefinition{})
		je, ok := err.(*jsonpb.Error) //nolint:errorlint // the documented type
		if !ok {
			t.Errorf("%s: got %v, want a *jsonpb.Error", text, err)
			continue
		}
		if je.Field != field {
			t.Errorf("%s: field %q, want %q (%s)", text, je.Field, field, je.Text)
		}
		if strings.ContainsRune(je.Text, '\u00a0') || strings.HasPrefix(je.Text, "proto:") || strings.Contains(je.Text, "EOF") {
			t.Errorf("%s: %q is not our wording", text, je.Text)
		}
	}
}

// FuzzRoundTrip: what is read, written and read again is the same.
func FuzzRoundTrip(f *testing.F) {
	f.Add(`{"id":"a","weight":1e-7,"payload":"x\u0000y","resources":{"cpu":2},"prefer":[{"label":"a","weight":1}]}`)
	f.Add(`{"spread":{"label":"zone","shares":{"":-0.0}},"payload_base64":"AP8="}`)
	f.Fuzz(func(t *testing.T, text string) {
		first := &rotav1.TaskDefinition{}
		if jsonpb.Unmarshal([]byte(text), first) != nil {
			return
		}
		out, err := jsonpb.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		second := &rotav1.TaskDefinition{}
		if err := jsonpb.Unmarshal(out, second); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		again, err := jsonpb.Marshal(second)
		if err != nil {
			t.Fatal(err)
		}
		if string(out) != string(again) {
			t.Fatalf("first %s\nthen  %s", out, again)
		}
	})
}

func BenchmarkMarshalTask(b *testing.B) {
	task := &rotav1.Task{
		Id: "ORD-LAX", Group: "ORD", Weight: 6387, Kind: "task",
		Instances: []*rotav1.Instance{{Worker: "w1", Generation: 12345, State: "running", Since: timestamppb.New(time.Unix(1e9, 0))}},
	}
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = jsonpb.Append(buf[:0], task); err != nil {
			b.Fatal(err)
		}
	}
}
