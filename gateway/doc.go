// Package gateway sends each HTTP call of a function to the worker that should
// answer it: the proxy, and everything that decides around the picking of a
// worker, which package balance does.
//
// A Gateway is run by cmd/rota (alone, from an olscheduler file or a
// gateway.yaml), by every scheduler, or by a program of your own: Serve it on a
// listener, or mount its Handler in an http.Server.
//
//	listener ─ first bytes ─┬─ HTTP/1 ── engine.go ──┐
//	                        ├─ TLS ─ ALPN            ├─ call: route, limits, pick,
//	                        └─ HTTP/2 ─ net/http ────┘  retries, health, counts
//
// HTTP/1 runs on an engine of its own, one goroutine a connection, that rewrites
// heads in place and keeps no buffer while a connection is idle. HTTP/2, gRPC
// and whoever mounts Handler run on net/http. Both ask the same policy core.
//
// What it must never do: send a call to a worker that is known to be dead or
// draining, run a call twice that may not be, keep a place on a worker after its
// call is over, read a message in another way than its neighbours would.
package gateway
