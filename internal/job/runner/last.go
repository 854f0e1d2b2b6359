package runner

import (
	"context"

	"github.com/rota-project/rota/internal/job/output"
	"github.com/rota-project/rota/internal/text"
)

// What is looked at of a failed attempt's output, and how much of it is told, in bytes.
const (
	lookedAt = 8 << 10
	maxLast  = 512
)

// lastOf is the end of an output: of standard error, or, if that is empty, of all.
func lastOf(log *output.Log) string {
	r, err := log.Reader(-lookedAt, false)
	if err != nil {
		return ""
	}
	defer func() { _ = r.Close() }()
	var errs, all []byte
	for {
		c, err := r.Next(context.Background())
		if err != nil { // the end, or what cannot be read
			break
		}
		all = append(all, c.Data...)
		if c.Stream == output.Stderr {
			errs = append(errs, c.Data...)
		}
	}
	more := log.Size() > lookedAt
	if s := text.Last(errs, maxLast, more); s != "" {
		return s
	}
	return text.Last(all, maxLast, more)
}
