package record

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/rota-project/rota"
)

// InstanceKey is the key of an instance's record, in the order of instances: the
// task's id, and for all but the first instance a zero byte and the index in ten
// digits.
func InstanceKey(i rota.Instance) string {
	if i.Index == 0 {
		return i.Task
	}
	var digits [11]byte
	n := uint64(uint32(i.Index))
	for d := 10; d > 0; d-- {
		digits[d] = byte('0' + n%10)
		n /= 10
	}
	return i.Task + string(digits[:])
}

// ParseInstanceKey reads what InstanceKey wrote.
func ParseInstanceKey(key string) (rota.Instance, error) {
	task, digits, ok := strings.Cut(key, "\x00")
	i := rota.Instance{Task: task}
	if ok {
		n, err := strconv.ParseUint(digits, 10, 31)
		if err != nil || n == 0 || len(digits) != 10 {
			return rota.Instance{}, fmt.Errorf("%w: %q is no key of an instance", ErrGarbage, key)
		}
		i.Index = int(n)
	}
	if task == "" {
		return rota.Instance{}, fmt.Errorf("%w: %q is no key of an instance", ErrGarbage, key)
	}
	return i, nil
}

// checkInstance returns an error if the instance has no key of its own.
func checkInstance(i rota.Instance) error {
	if err := checkID(i.Task); err != nil {
		return err
	}
	if i.Index < 0 || i.Index > math.MaxInt32 {
		return &rota.FieldError{Field: "index", Value: i.Index, Want: "zero or more"}
	}
	return nil
}

func checkID(id string) error {
	switch {
	case id == "":
		return &rota.FieldError{Field: "id", Value: id, Want: "a name; it is missing"}
	case strings.IndexByte(id, 0) >= 0:
		return &rota.FieldError{Field: "id", Value: id, Want: "no zero byte"}
	}
	return nil
}
