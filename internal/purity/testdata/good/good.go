// Package good is pure.
package good

import (
	"fmt"
	"time"

	"github.com/rota-project/rota"
)

// Good is good.
func Good(i rota.Instance, d time.Duration) string { return fmt.Sprintf("%v %v", i, d/time.Second) }
