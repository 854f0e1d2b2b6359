package auth_test

import (
	"fmt"

	"github.com/rota-project/rota/auth"
)

// A secret is not shown by mistake.
func ExampleSecret() {
	s := auth.Secret("rota_example")
	fmt.Println(s, s.Reveal())
	// Output: [redacted] rota_example
}
