// Package schedule says when the jobs of a schedule are due: it checks a schedule, finds
// its times, and decides what becomes of those that have come. The scheduler goes by it.
//
// It is pure: no clock, no store. A time of the calendar that the clock leaps over, as
// summer time begins, does not come; one that the clock shows twice comes twice.
package schedule

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // machines without time zones are many: images have none

	"github.com/hashicorp/cronexpr"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/internal/uuid"
)

// Limits and defaults.
const (
	// Max is how many schedules a cluster has at most.
	Max = 1000
	// MaxWaiting is how many jobs of one schedule may wait for a worker: while there are as
	// many, the next is skipped.
	MaxWaiting = 100
	// MaxCatchUp bounds CatchUp.
	MaxCatchUp = 7 * 24 * time.Hour
	// DefaultCatchUp stands for a CatchUp of zero.
	DefaultCatchUp = time.Minute
	// MaxEvery bounds what stands after @every; the least is a second.
	MaxEvery = 366 * 24 * time.Hour

	maxCron   = 200 // bytes
	maxMissed = 1000
)

// What becomes of a time at which an earlier job of the schedule has not ended.
const (
	Skip    = "skip"
	Allow   = "allow"
	Replace = "replace"
)

// Schedule is a job that is to run again and again.
type Schedule struct {
	Name string
	// Cron has five fields, or is @hourly, @daily, @weekly, @monthly, @yearly or
	// "@every DURATION".
	Cron string
	// TimeZone is a name of the IANA database. Empty means UTC.
	TimeZone string
	// Overlap is Skip, Allow or Replace. Empty means Skip.
	Overlap string
	// CatchUp is how late a job may be declared. Zero means DefaultCatchUp.
	CatchUp time.Duration
	Paused  bool
	Job     job.Spec
}

var name = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Normalize returns s with the defaults of its empty fields spelled out.
func (s Schedule) Normalize() Schedule {
	if s.TimeZone == "" {
		s.TimeZone = "UTC"
	}
	if s.Overlap == "" {
		s.Overlap = Skip
	}
	if s.CatchUp == 0 {
		s.CatchUp = DefaultCatchUp
	}
	s.Job = s.Job.Normalize()
	return s
}

// Validate returns a *rota.FieldError for the first field that is not as its documentation
// says. now is when it is declared: a time must come after that.
func (s Schedule) Validate(now time.Time) error {
	if !name.MatchString(s.Name) {
		return &rota.FieldError{Field: "name", Value: text.Clip(s.Name, text.Short), Want: "1 to 63 small letters, digits and dashes, with no dash at either end"}
	}
	times, err := Parse(s.Cron, s.TimeZone)
	if err != nil {
		return err
	}
	if times.Next(now).IsZero() {
		return &rota.FieldError{Field: "cron", Value: s.Cron, Want: "times that come"}
	}
	switch s.Overlap {
	case "", Skip, Allow, Replace:
	default:
		return &rota.FieldError{Field: "overlap", Value: text.Clip(s.Overlap, text.Short), Want: "skip, allow or replace"}
	}
	if s.CatchUp < 0 || s.CatchUp > MaxCatchUp {
		return &rota.FieldError{Field: "catch_up", Value: s.CatchUp.String(), Want: fmt.Sprintf("zero to %v", MaxCatchUp)}
	}
	return Within("job", s.Job.Validate())
}

// Within puts the name of a table before the field of an error.
func Within(table string, err error) error {
	if fe, ok := err.(*rota.FieldError); ok { //nolint:errorlint // Validate wraps nothing
		return &rota.FieldError{Field: table + "." + fe.Field, Value: fe.Value, Want: fe.Want}
	}
	return err
}

// Times are those of a schedule. They are for one goroutine at a time.
type Times struct {
	every time.Duration // or
	expr  *cronexpr.Expression
	zone  *time.Location
}

var words = map[string]bool{"@hourly": true, "@daily": true, "@midnight": true, "@weekly": true, "@monthly": true, "@yearly": true, "@annually": true}

// Parse reads the times of a schedule. The error is a *rota.FieldError.
func Parse(cron, timeZone string) (*Times, error) {
	wrong := func(want string) error {
		return &rota.FieldError{Field: "cron", Value: text.Clip(cron, text.Short), Want: want}
	}
	zone, err := time.LoadLocation(timeZone)
	if err != nil || timeZone == "Local" {
		return nil, &rota.FieldError{Field: "time_zone", Value: text.Clip(timeZone, text.Short), Want: "a time zone such as Europe/Berlin, or UTC"}
	}
	fields := strings.Fields(cron)
	switch {
	case len(cron) > maxCron:
		return nil, wrong(fmt.Sprintf("at most %d bytes", maxCron))
	case len(fields) == 2 && fields[0] == "@every":
		d, err := time.ParseDuration(fields[1])
		if err != nil || d < time.Second || d > MaxEvery || d%time.Second != 0 {
			return nil, wrong("after @every whole seconds, from 1s to 8784h")
		}
		return &Times{every: d, zone: zone}, nil
	case len(fields) == 1 && words[fields[0]], len(fields) == 5:
	default:
		return nil, wrong("five fields (minute, hour, day, month, weekday), @hourly, @daily, @weekly, @monthly, @yearly or @every 10m")
	}
	expr, err := cronexpr.Parse(strings.Join(fields, " "))
	if err != nil {
		return nil, wrong("five fields of cron: " + err.Error())
	}
	return &Times{expr: expr, zone: zone}, nil
}

// Next is the first time after t; zero if there is none.
func (t *Times) Next(after time.Time) time.Time {
	if t.expr != nil {
		return t.expr.Next(after.In(t.zone))
	}
	n := after.Unix() / int64(t.every/time.Second)
	return time.Unix((n+1)*int64(t.every/time.Second), 0).In(t.zone)
}

// Come is what has come of a schedule's times.
type Come struct {
	// Due is the last time that has come; zero if none has. If more than 1,000 have and all
	// are late, it is a moment after them.
	Due time.Time
	// Late says that it came too long ago for a job to be declared.
	Late bool
	// Missed is how many came before it, and it itself if it is late; of many, 1,000.
	Missed int
	// Next is the first that has not come; zero if there is none.
	Next time.Time
}

// Look says what has come since a time, which is not one of them.
func (t *Times) Look(since, now time.Time, catchUp time.Duration) (c Come) {
	for c.Next = t.Next(since); !c.Next.IsZero() && !c.Next.After(now); c.Next = t.Next(c.Due) {
		if !c.Due.IsZero() {
			c.Missed++
		}
		if c.Due = c.Next; c.Missed < maxMissed {
			continue
		}
		c.Missed = maxMissed
		// Whoever was away for so long need not know each.
		if from := now.Add(-catchUp); c.Due.Before(from) {
			if jump := t.Next(from); !jump.IsZero() && !jump.After(now) {
				c.Due = jump
			} else {
				return Come{Due: from.Truncate(time.Second).In(t.zone), Late: true, Missed: maxMissed, Next: t.Next(now)}
			}
		}
	}
	if c.Late = !c.Due.IsZero() && now.Sub(c.Due) > catchUp; c.Late {
		c.Missed = min(c.Missed+1, maxMissed)
	}
	return c
}

// ID is the id of the job of a schedule for a time: always the same, and in the order of
// time among the ids of other jobs.
func ID(schedule string, due time.Time) string {
	return uuid.At(due, fmt.Sprintf("job schedule %s at %d", schedule, due.Unix()))
}
