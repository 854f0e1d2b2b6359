// Package worse is imported by bad.
package worse

import (
	"sync"
	"time"
)

// Worse is worse.
var Worse = func() time.Time { return time.Unix(0, 0) }

var lock sync.Mutex
