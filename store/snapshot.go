package store

import (
	"context"
	"io"
)

// Snapshotter is a Store that can be copied as a whole.
type Snapshotter interface {
	// Snapshot writes a copy of what the store has at one moment, with all that was
	// written before the call, and a checksum of it at its end. An error wraps
	// ErrNoQuorum if nothing was written for want of one.
	Snapshot(ctx context.Context, to io.Writer) error
}
