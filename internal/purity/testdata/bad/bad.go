// Package bad does what a pure package must not.
package bad

import (
	"fmt"
	"math/rand/v2"
	"os"
	clock "time"

	_ "github.com/rota-project/rota/internal/purity/testdata/worse"
)

// Bad is bad.
func Bad() {
	go println(clock.Now())
	clock.Sleep(clock.Second)
	fmt.Println(rand.Int(), os.Args)
}
