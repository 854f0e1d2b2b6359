// Package storepb is the layout of the values in the store, generated from
// store.proto. Package record reads and writes them.
package storepb
