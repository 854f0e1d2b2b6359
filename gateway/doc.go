// Package gateway sends each HTTP call of a function to the worker that should
// answer it: the proxy, and everything that decides around the picking of a
// worker, which package balance does.
//
// A Gateway is run by cmd/rota (alone, from an olscheduler file or a
// gateway.yaml), by every scheduler, or by a program of your own: Serve it on a
// listener, or mount its Handler in an http.Server.
//
//	listener ─ first bytes ─┬─ HTTP/1 ─── conn ────┐               ┌─ HTTP/1, kept connections
//	              (TLS)     └─ HTTP/2 ─── stream ──┼─ exchange ────┤
//	http.Server ── Handler ────────────── handled ─┘      │        └─ HTTP/2, by net/http, where
//	                                                    call          a worker needs it
//	                                      (route, limits, pick, retries, health, counts)
//
// An exchange is one call: it asks workers until one has answered. Who calls is
// behind the interface client, of which there are three: an HTTP/1 connection
// (engine.go, http1.go), which has one goroutine, rewrites heads in place and
// keeps no buffer while it is idle; a stream of an HTTP/2 connection (http2.go,
// stream.go; the protocol itself is in internal/h2); and a request that net/http
// has read (handler.go). Every rule of the exchange and the call holds for all.
//
// What knows nothing of calls stands in rooms of its own, in internal: workers and the
// connections to them (upstream), what is known of a call and what came of it (outcome),
// what holds calls back (limit) and what is counted (meter); bodies (body), connections
// (sock, tcp), HTTP on bytes (wire, h2) and the pure parts of rules (paths, headers, split,
// proxyproto).
//
// What it must never do: send a call to a worker that is known to be dead or
// draining, run a call twice that may not be, keep a place on a worker after its
// call is over, read a message in another way than its neighbours would.
package gateway
