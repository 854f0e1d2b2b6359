// Package sessions is the scheduler's side of the workers' control streams: it
// opens a session for a worker that says hello (a lease and a key in the store),
// renews it, passes on what the worker is granted and writes down what it
// acknowledges.
//
// It decides nothing: grants come from the store by way of the view, and go to
// whichever worker holds them. Any scheduler can serve any worker, and a worker
// whose scheduler died goes on with its session at another.
package sessions
