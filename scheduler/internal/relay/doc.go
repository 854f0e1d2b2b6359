// Package relay brings what workers have written to who reads it: the output of jobs
// and of tasks alike. A worker is asked on a stream that it keeps anyway, and answers on
// one of its own, as fast as the reader takes it. If another scheduler has the worker's
// stream, the call is passed on to that one, once.
//
// Packages jobs and service ask, the gRPC server and package sessions hand in what
// workers send. It must never keep output: what nobody reads stays where it is.
package relay
