// Package rota defines the types that all other packages of the module share: tasks,
// workers, instances, grants, generations, moves and plans.
//
// It is pure: values and their validation. It uses no clock, socket, file or random source,
// and imports only the standard library. It decides nothing; the packages placement (who
// should run what) and ownership (who may run what) decide.
package rota
