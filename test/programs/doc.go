// Package programs tries programs on a cluster of real processes, which are killed,
// and connections, which are cut. It has tests and nothing else.
package programs
