// Package e2e tries rota as its users run it: the built binary, real processes,
// an etcd, connections through a proxy that can be cut or held up. Processes are
// killed, stopped and continued; what tasks really did, as they told it
// themselves, is checked against a model of a lock with a fencing token.
//
// Its tests are short in `go test`; `make torture` runs the last one for long.
package e2e
