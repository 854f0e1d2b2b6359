package wire

// spokenForOthers are headers, beside X-Forwarded-*, X-Real-Ip and Forwarded, by
// which proxies, content delivery networks and load balancers tell who the client
// is or what it asked for, by their lengths. Libraries believe them without asking
// whom they come from, so those of strangers are not passed on.
var spokenForOthers = func() (byLength [maxSpoken + 1][]string) {
	for _, name := range []string{
		// The client's address.
		"client-ip", "x-client-ip", "true-client-ip", "forwarded-for", "x-forwarded", "x-original-forwarded-for",
		"x-cluster-client-ip", "x-originating-ip", "x-remote-ip", "x-remote-addr", "x-proxyuser-ip", "x-envoy-external-address",
		"cf-connecting-ip", "cf-connecting-ipv6", "cf-pseudo-ipv4", "fastly-client-ip", "fly-client-ip", "do-connecting-ip",
		"x-azure-clientip", "x-azure-socketip", "x-appengine-user-ip", "x-appengine-remote-addr", "x-vercel-forwarded-for",
		"x-nf-client-connection-ip", "ali-cdn-real-ip", "cdn-src-ip", "proxy-client-ip", "wl-proxy-client-ip",
		// The host, the scheme, the method and the path that it asked for.
		"x-host", "x-original-host", "x-original-proto", "x-original-method", "x-original-uri", "x-original-url", "x-rewrite-url",
		"x-envoy-original-path", "x-scheme", "x-url-scheme", "front-end-https",
	} {
		byLength[len(name)] = append(byLength[len(name)], name)
	}
	return byLength
}()

// maxSpoken is the length of the longest of them.
const maxSpoken = len("x-nf-client-connection-ip")

// SpeaksForOthers says whether the header tells of somebody else than whoever sends
// it, as proxies do.
func (f *Field) SpeaksForOthers() bool {
	switch f.Kind {
	case Forwarded, XForwardedFor, XForwardedOther, ForwardedPrefix, XForwardedUnknown:
		return true
	default:
		return false
	}
}

// speaksForOthers says whether a header of no other kind is one of those.
func speaksForOthers(name []byte) bool {
	if len(name) > maxSpoken {
		return false
	}
	for _, n := range spokenForOthers[len(name)] {
		if equalFold(name, n) {
			return true
		}
	}
	return false
}
