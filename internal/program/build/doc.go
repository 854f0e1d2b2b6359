// Package build says which build of a function a program's tasks run in. Two
// executables may offer a function under the same name and mean different things
// by it; the tasks of a program are never spread over both unless that was asked.
//
// A worker that offers functions says which build they are by its labels:
//
//	program.set       the set of functions: the path of its main package, unless
//	                  its configuration gives the label
//	program.version   the version of its module where the build has one, else a digest
//	                  of its executable; or the label that its configuration gives
//	program.module    its module; go build FILE... names none
//
// Of those that offer a function, a program takes, in this order,
//
//  1. what its rules (Require) say of these labels; without a rule about
//     program.set or program.module, only sets of its own module, or, if it has
//     none, of those that have none;
//  2. the build that it has begun with, while a worker of it lives;
//  3. its own build, if workers offer it;
//  4. the only one there is. Where there are several it waits, and says which.
//
// Packages program and worker call it on their sides, and package service gathers
// what is offered in a cluster. All but Own is pure.
package build
