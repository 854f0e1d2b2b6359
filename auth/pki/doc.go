// Package pki makes and uses the certificates of a cluster: a small authority of
// its own (Init, Issue, Renew, List) for those who have none, and TLS 1.3
// configurations (Source) that read their files again when they change,
// whoever issued them. Its callers are the command line, and whatever listens or
// dials.
//
// A worker's certificate is bound to its name by a URI in the subject
// alternative names, "rota://worker/NAME" (NAME escaped as a path segment), and
// a scheduler's to its by "rota://scheduler/NAME". Certificates of a PKI of the
// user's own may instead carry a SPIFFE id that ends in "/worker/NAME" or
// "/scheduler/NAME".
//
// The authority's key never leaves its directory, is readable by its owner only,
// and no server needs it. Nothing in here falls back to an older protocol, to a
// connection without a verified peer, or to a certificate that has expired.
package pki
