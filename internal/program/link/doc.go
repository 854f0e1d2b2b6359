// Package link carries the messages of programs between processes: each process
// is a Node, its connection leads to a Relay on a scheduler node, and the relay
// passes whole batches on to other nodes without opening them. Package program
// is its user.
//
//	task ── Lane ─▶ Node ══ byte stream ══▶ Relay ══ byte stream ══▶ Node ─▶ Inbox ── scheduler function
//
// What package flow promises holds from Send to Inbox: messages of one Lane
// arrive in order and exactly once while both ends live, whatever connections
// break in between, in bounded memory; a Lane whose reader does not read blocks
// nobody but itself. A Pipe is the same within a process.
//
// The carrier is a plain byte stream, not a gRPC stream. A relay that copies
// batches from socket to socket touches each byte once; gRPC would cut them into
// HTTP/2 frames, count flow-control windows of its own under ours and copy twice
// as often, on the one path where that is most of the work. Nothing is lost by
// it: the streams are accepted on the gRPC port itself (see Credentials), after
// TLS if there is TLS, so one address, one certificate and one hole in a
// firewall serve both, and a connection names its credentials in its first frame.
//
// Writers never wait for more to send: while one write is under way what comes
// next gathers, so batches form under load and a lone message leaves at once.
//
// The package must never decide what runs where, and never look into messages.
package link
