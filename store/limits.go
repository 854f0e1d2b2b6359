package store

import (
	"errors"
	"fmt"
)

// ErrInvalid refuses a Txn that no store takes: an empty key, a key written
// twice, a negative revision. Nothing was done.
var ErrInvalid = errors.New("store: malformed transaction")

// ErrNoSpace refuses a Txn because the store is full. Nothing was done.
var ErrNoSpace = errors.New("store: out of space")

// opOverhead is about what a condition or an operation costs on the wire
// beside its key and its value.
const opOverhead = 32

// Size is about the number of bytes that o takes of MaxTxnBytes.
func (o Op) Size() int { return len(o.Key) + len(o.Value) + opOverhead }

// Size is about the number of bytes that c takes of MaxTxnBytes.
func (c Cond) Size() int { return len(c.Key) + opOverhead }

// CheckTxn returns ErrTooLarge or ErrInvalid, wrapped, for a transaction that
// is over the limits or malformed. Conditions and operations are each counted
// against MaxTxnOps, and all of their bytes together against MaxTxnBytes. Every
// Store calls it before it does anything.
func CheckTxn(conds []Cond, ops []Op) error {
	if len(conds) > MaxTxnOps || len(ops) > MaxTxnOps {
		return fmt.Errorf("%w: %d conditions and %d operations, at most %d of each", ErrTooLarge, len(conds), len(ops), MaxTxnOps)
	}
	size := 0
	for _, c := range conds {
		switch {
		case c.Key == "":
			return fmt.Errorf("%w: a condition on an empty key", ErrInvalid)
		case c.Revision < 0:
			return fmt.Errorf("%w: %q is compared with the negative revision %d", ErrInvalid, c.Key, c.Revision)
		case c.By > ByMod:
			return fmt.Errorf("%w: %q is compared by an unknown revision", ErrInvalid, c.Key)
		}
		size += c.Size()
	}
	seen := make(map[string]struct{}, len(ops))
	for _, o := range ops {
		if o.Key == "" {
			return fmt.Errorf("%w: an operation on an empty key", ErrInvalid)
		}
		if _, twice := seen[o.Key]; twice {
			return fmt.Errorf("%w: %q is written twice", ErrInvalid, o.Key)
		}
		seen[o.Key] = struct{}{}
		size += o.Size()
	}
	if size > MaxTxnBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, MaxTxnBytes)
	}
	return nil
}
