package rota_test

import (
	"errors"
	"fmt"

	"github.com/rota-project/rota"
)

// Errors about values name the field.
func ExampleTask_Validate() {
	err := rota.Task{ID: "feed", Replicas: -1}.Validate()
	if f := (*rota.FieldError)(nil); errors.As(err, &f) {
		fmt.Println(f.Field)
	}
	// Output: replicas
}
