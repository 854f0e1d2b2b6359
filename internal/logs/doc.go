// Package logs writes the log of a process that must not stand still.
//
// A log is read by others: a terminal that somebody stopped with Ctrl-S, a
// shipper that hangs, a pipe whose reader died, a disk that is full. None of
// them may hold up or end the process that writes. A Writer takes lines at once
// and writes them behind the caller's back; what its queue cannot take is
// dropped, counted, and told of in the log itself. Lines cuts the output of
// other programs into whole lines, so that those of several do not mix.
//
// The roles of the rota binary use it for their standard error and output; it
// must never wait for the reader while somebody waits for it.
package logs
