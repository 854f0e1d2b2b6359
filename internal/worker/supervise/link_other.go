//go:build !unix

package supervise

import (
	"errors"
	"time"
)

// No processes are kept on this system.

func adopt(int) error { return errors.ErrUnsupported }

func writeTo(int, []byte) (int, error) { return 0, errors.ErrUnsupported }

func closeOf(int) error { return errors.ErrUnsupported }

var start = time.Now()

func monotonic() int64 { return int64(time.Since(start)) }

func readFrom(int, []byte) (int, error) { return 0, errors.ErrUnsupported }
