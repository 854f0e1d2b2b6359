// Package rota holds the words that every other package of the module speaks:
// tasks, workers, instances, grants, generations, moves and plans.
//
// It is pure: values and their validation, nothing that has a clock, a socket,
// a file or a random source, and no import outside the standard library. It
// never decides anything; deciding is for the packages placement (who should
// run what) and ownership (who may run what).
package rota
