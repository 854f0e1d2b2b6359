// Package bench holds what measures rota beside its peers. It is a module of
// its own, so that peers never enter the product's go.mod; each subpackage
// prints ours, theirs and the ratio in one table. Packages openapi and manifests are tests
// that need modules which the product does not.
package bench
