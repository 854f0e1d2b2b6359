// Package auth decides who may call what. A scheduler puts its interceptors in
// front of every gRPC method; the HTTP side passes through the same methods, so
// there is one table (Policy) and one place that asks it.
//
//	call ─► who?  token │ JWT │ client certificate │ the machine itself
//	     ─► may?  Policy by the matched method, role, namespace ─► 401, 403
//	     ─► rate? per identity ─► 429
//	     ─► call, and one line of audit for what changes something
//
// What is not in the table is denied. The raw path of a request decides nothing.
//
// Secrets never leave it: tokens are kept as hashes, compared in constant time,
// and the type Secret prints as "[redacted]" wherever it ends up.
package auth
