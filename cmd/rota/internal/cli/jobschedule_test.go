package cli

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// TestScheduleFile reads every field, and names each that is wrong with its line.
func TestScheduleFile(t *testing.T) {
	t.Parallel()
	read := func(file string) ([]*rotav1.JobScheduleDefinition, error) {
		a := &app{env: Env{Stdin: strings.NewReader(file)}}
		return a.readSchedules("-")
	}
	paused := true
	want := &rotav1.JobScheduleDefinition{
		Name: "n", Cron: "@daily", TimeZone: "UTC", Overlap: "allow", CatchUpMs: 600_000, Paused: &paused,
		Job: &rotav1.JobDefinition{
			Argv: []string{"x", "5"}, Env: map[string]string{"A": "b"}, Dir: "/d", Stdin: "in", StdinBase64: []byte("in"), TimeoutMs: 1000, GraceMs: 2000,
			Resources: map[string]float64{"cpus": 0.5}, Worker: "w", Require: []string{"a=b"}, Retries: 3, BackoffMs: 4000, MaxBackoffMs: 5000, Rerun: true,
			KeepMs: time.Hour.Milliseconds(),
		},
	}
	one := `{"name": "n", "cron": "@daily", "time_zone": "UTC", "overlap": "allow", "catch_up": "10m", "paused": true, "job": {"argv": ["x", "5"],
"env": {"A": "b"}, "dir": "/d", "stdin": "in", "stdin_base64": "aW4=", "timeout": "1s", "grace": "2s", "resources": {"cpus": 0.5}, "worker": "w",
"require": ["a=b"], "retries": 3, "backoff": "4s", "max_backoff": "5s", "rerun": true, "keep": "1h"}}`
	for _, file := range []string{one, "[" + one + "]", `{"schedules": [` + one + "]}"} {
		got, err := read(file)
		if err != nil || len(got) != 1 || !proto.Equal(got[0], want) {
			t.Errorf("%v %v", err, got)
		}
	}
	fields := want.ProtoReflect().Descriptor().Fields()
	for n := range fields.Len() {
		if !want.ProtoReflect().Has(fields.Get(n)) {
			t.Errorf("%s is not tried", fields.Get(n).Name())
		}
	}
	for file, say := range map[string]string{
		"":                              "no schedule in it",
		"5":                             ":1: schedule: 5: want a table",
		"name: n\ncron: [x]":            ":2: cron: a list: want text",
		"name: n\ncatch_up: 5":          ":2: catch_up: 5: want a duration, such as 10m",
		"name: n\ncatch_up_ms: 5":       ":2: catch_up_ms: unknown field: want one of name, cron",
		"name: n\njob: {argv: x}":       `:2: job.argv: "x": want a list`,
		"name: n\njob:\n  retries: 1.5": ":3: job.retries: 1.5: want a whole number",
		"name: n\njob: {env: {A: [1]}}": ":2: job.env.A: a list: want text",
		"name: n\npaused: 1":            ":2: paused: 1: want true or false",
		"name: n\nname: m":              "is there twice",
	} {
		if _, err := read(file); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: %v, want %s", file, err, say)
		}
	}
}
