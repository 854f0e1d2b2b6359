// Package nomad builds the agent of HashiCorp Nomad and runs the tests of the engine nomad
// on it: make engines. It is a module of its own, for Nomad is under the Business Source
// License: a test runs it, and nothing of it is linked into what we ship.
package nomad
