// Package escheduler has the names of the old escheduler and is package peer below,
// to try what users of the old one saw. It is for tests alone: a replica is a worker
// and a master at once, so that it pairs those of one process, and knows of no others.
package escheduler
