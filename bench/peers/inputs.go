package main

import "strings"

// input is what is sent: by a client, or by a worker.
type input struct {
	name   string
	send   string // empty is a plain GET
	answer string // empty is a plain 200
	look   string // of the request that the worker hears
	header string // of the answer that the client gets
	// races says that whether the worker has heard of the request by then is a matter of
	// who is quicker.
	races bool
}

func get(lines string) string {
	return "GET /run/f HTTP/1.1\r\nHost: a\r\n" + lines + "Connection: close\r\n\r\n"
}

func post(lines, body string) string {
	return "POST /run/f HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n" + body
}

var fromClients = []input{
	{name: "HTTP/1.2", send: "GET /run/f HTTP/1.2\r\nHost: a\r\nConnection: close\r\n\r\n"},
	{name: "HTTP/2.0 as a version", send: "GET /run/f HTTP/2.0\r\nHost: a\r\nConnection: close\r\n\r\n"},
	{name: "`HTTP://` in upper case", send: "GET HTTP://b/run/f HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"},
	{name: "an absolute target with a different Host", send: "GET http://b/run/f HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", look: "Host: "},
	{name: "no Host", send: "GET /run/f HTTP/1.1\r\nConnection: close\r\n\r\n"},
	{name: "two Hosts", send: get("Host: b\r\n")},
	{name: "a trailing dot in Host", send: "GET /run/f HTTP/1.1\r\nHost: a.\r\nConnection: close\r\n\r\n", look: "Host: "},
	{name: "`OPTIONS *`", send: "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"},
	{name: "OPTIONS with `Max-Forwards: 0`", send: "OPTIONS /run/f HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n", look: "max-forwards"},
	{name: "TRACE", send: "TRACE /run/f HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"},
	{name: "Upgrade from HTTP/1.0", send: "GET /run/f HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", look: "upgrade:"},
	{name: "a path that climbs with `/../`", send: "GET /run/f/../g HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", look: "GET "},
	{name: "a path that climbs with `..%2f`", send: "GET /run/f/..%2fg HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", look: "GET "},
	{name: "a malformed escape", send: "GET /run/%zz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", look: "GET "},
	{name: "a bare line feed", send: "GET /run/f HTTP/1.1\nHost: a\nConnection: close\n\n"},
	{name: "a space before a colon", send: get("X : y\r\n")},
	{name: "a folded line", send: get("X: y\r\n z\r\n")},
	{name: "`X-Forwarded-For` from an untrusted client", send: get("X-Forwarded-For: 6.6.6.6\r\n"), look: "x-forwarded-for"},
	{name: "`X-Forwarded-Prefix` from an untrusted client", send: get("X-Forwarded-Prefix: /x\r\n"), look: "x-forwarded-prefix"},
	{name: "Via", send: get(""), look: "via:"},
	{name: "300 header lines", send: get(strings.Repeat("X: y\r\n", 300))},
	{name: "two equal Content-Lengths", send: post("Content-Length: 2\r\nContent-Length: 2\r\n", "ok")},
	{name: "Content-Length and chunked", send: post("Content-Length: 9\r\nTransfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n")},
	{name: "a malformed first chunk", send: post("Transfer-Encoding: chunked\r\n", "ZZ\r\n"), races: true},
	{name: "a malformed chunk after 200 KB", send: post("Transfer-Encoding: chunked\r\n", "30d40\r\n"+strings.Repeat("x", 200_000)+"\r\nZZ\r\n"), races: true},
	{name: "a trailer of 50 KB", send: post("Transfer-Encoding: chunked\r\n", "0\r\nX: "+strings.Repeat("a", 50_000)+"\r\n\r\n"), races: true},
	{name: "chunked in HTTP/1.0", send: "POST /run/f HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
	{name: "an unknown expectation", send: get("Expect: much\r\n")},
}

var fromWorkers = []input{
	{name: "no Date", answer: plain, header: "Date"},
	{name: "two equal Content-Lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"},
	{name: "two different Content-Lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok!"},
	{name: "Content-Length and chunked", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
	{name: "HTTP/1.2", answer: "HTTP/1.2 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"},
	{name: "not HTTP", answer: "what\r\n\r\n"},
	{name: "closes without an answer", answer: "\r\n"},
	{name: "less than its length", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nok"},
	{name: "a malformed chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\nZZ\r\n"},
	{name: "a bare line feed", answer: "HTTP/1.1 200 OK\nContent-Length: 2\nConnection: close\n\nok"},
	{name: "an unrequested 101", answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"},
}
