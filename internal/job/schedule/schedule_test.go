package schedule_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/job/schedule"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	out, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestTimes: what comes next, and what the days do on which the clock changes.
func TestTimes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ cron, zone, after, want string }{
		{"*/5 * * * *", "", "2026-12-01T02:03:00Z", "2026-12-01T02:05:00Z 2026-12-01T02:10:00Z"},
		{"@daily", "Europe/Berlin", "2026-12-01T02:03:00Z", "2026-12-02T00:00:00+01:00 2026-12-03T00:00:00+01:00"},
		{"@every 10m", "", "2026-12-01T02:03:00Z", "2026-12-01T02:10:00Z 2026-12-01T02:20:00Z"},
		{"@every 10m", "", "2026-12-01T02:10:00Z", "2026-12-01T02:20:00Z 2026-12-01T02:30:00Z"},
		// A time that does not exist does not come.
		{"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+01:00", "2026-03-30T02:30:00+02:00 2026-03-31T02:30:00+02:00"},
		{"*/30 * * * *", "Europe/Berlin", "2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00 2026-03-29T03:30:00+02:00"},
		// One that the clock shows twice comes twice.
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00+02:00", "2026-10-25T02:30:00+02:00 2026-10-25T02:30:00+01:00"},
		{"0 * * * *", "America/New_York", "2026-11-01T00:30:00-04:00", "2026-11-01T01:00:00-04:00 2026-11-01T01:00:00-05:00"},
	} {
		times, err := schedule.Parse(c.cron, c.zone)
		if err != nil {
			t.Fatal(err)
		}
		one := times.Next(at(t, c.after))
		if got := one.Format(time.RFC3339) + " " + times.Next(one).Format(time.RFC3339); got != c.want {
			t.Errorf("%s in %s after %s: %s, want %s", c.cron, c.zone, c.after, got, c.want)
		}
	}
}

// TestWrong: each wrong field is named.
func TestWrong(t *testing.T) {
	t.Parallel()
	good := schedule.Schedule{Name: "backup", Cron: "0 2 * * *", Job: job.Spec{Argv: []string{"true"}}}
	now := time.Unix(1_800_000_000, 0)
	if err := good.Validate(now); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		field  string
		change func(*schedule.Schedule)
	}{
		{"name", func(s *schedule.Schedule) { s.Name = "" }},
		{"name", func(s *schedule.Schedule) { s.Name = "Backup" }},
		{"name", func(s *schedule.Schedule) { s.Name = strings.Repeat("x", 64) }},
		{"cron", func(s *schedule.Schedule) { s.Cron = "" }},
		{"cron", func(s *schedule.Schedule) { s.Cron = "61 * * * *" }},
		{"cron", func(s *schedule.Schedule) { s.Cron = "* * * * * *" }},
		{"cron", func(s *schedule.Schedule) { s.Cron = "0 0 30 2 *" }},
		{"cron", func(s *schedule.Schedule) { s.Cron = "@reboot" }},
		{"cron", func(s *schedule.Schedule) { s.Cron = "@every 500ms" }},
		{"cron", func(s *schedule.Schedule) { s.Cron = "@every -1m" }},
		{"cron", func(s *schedule.Schedule) { s.Cron = "0 0 * * " + strings.Repeat("1,", 200) + "1" }},
		{"time_zone", func(s *schedule.Schedule) { s.TimeZone = "Mars/Base" }},
		{"time_zone", func(s *schedule.Schedule) { s.TimeZone = "Local" }},
		{"time_zone", func(s *schedule.Schedule) { s.TimeZone = "../../etc/passwd" }},
		{"overlap", func(s *schedule.Schedule) { s.Overlap = "maybe" }},
		{"catch_up", func(s *schedule.Schedule) { s.CatchUp = -1 }},
		{"catch_up", func(s *schedule.Schedule) { s.CatchUp = schedule.MaxCatchUp + 1 }},
		{"job.argv", func(s *schedule.Schedule) { s.Job.Argv = nil }},
		{"job.timeout", func(s *schedule.Schedule) { s.Job.Timeout = -1 }},
	} {
		s := good
		c.change(&s)
		var fe *rota.FieldError
		if err := s.Validate(now); !errors.As(err, &fe) || fe.Field != c.field {
			t.Errorf("%s: %v", c.field, err)
		}
	}
}

// TestLook: of several times that have come only the last may run, and that not late.
func TestLook(t *testing.T) {
	t.Parallel()
	times, err := schedule.Parse("* * * * *", "")
	if err != nil {
		t.Fatal(err)
	}
	since := at(t, "2026-12-01T02:00:00Z")
	for _, c := range []struct {
		after  time.Duration
		due    time.Duration // 0: none
		late   bool
		missed int
	}{
		{-time.Hour, 0, false, 0}, // a clock that was set back
		{59 * time.Second, 0, false, 0},
		{time.Minute, time.Minute, false, 0},
		{80 * time.Second, time.Minute, false, 0},
		{100 * time.Second, time.Minute, true, 1},
		{3 * time.Minute, 3 * time.Minute, false, 2},
		{3*time.Minute + 45*time.Second, 3 * time.Minute, true, 3},
		{10_000 * time.Minute, 10_000 * time.Minute, false, 1000},
		{10_000*time.Minute + 45*time.Second, 10_000 * time.Minute, true, 1000},
	} {
		now := since.Add(c.after)
		got := times.Look(since, now, 30*time.Second)
		if c.missed < 1000 || !c.late { // of what is far back only the count is known
			want := since.Add(c.due)
			if c.due == 0 {
				want = time.Time{}
			}
			if !got.Due.Equal(want) {
				t.Errorf("after %v: due %v, want %v", c.after, got.Due, want)
			}
		}
		if got.Late != c.late || got.Missed != c.missed || !got.Next.After(now) && c.after > 0 {
			t.Errorf("after %v: %+v", c.after, got)
		}
	}
}
