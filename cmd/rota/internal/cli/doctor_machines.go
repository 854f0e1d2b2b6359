package cli

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/timestamppb"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/internal/text"
)

// addEnd says when something ends, which is what good text says of it.
func (c *checks) addEnd(name, what string, ends, now time.Time, mend string) {
	switch left := ends.Sub(now); {
	case left <= 0:
		c.add(checkFail, name, mend, "%s ended on %s", what, ends.UTC().Format(time.DateTime))
	case left < endsSoon:
		c.add(checkWarn, name, mend, "%s ends in %v, on %s", what, left.Round(time.Minute), ends.UTC().Format(time.DateTime))
	default:
		c.add(checkOK, name, "", "%s is good until %s", what, ends.UTC().Format(time.DateOnly))
	}
}

// checkServed checks the certificate that a scheduler has shown, and those that vouch
// for it.
func checkServed(c *checks, name string, info credentials.AuthInfo, now time.Time) {
	tls, ok := info.(credentials.TLSInfo)
	if !ok || len(tls.State.PeerCertificates) == 0 {
		return
	}
	leaf := tls.State.PeerCertificates[0]
	c.addEnd(name, "its certificate", leaf.NotAfter, now, "rota cert renew, on its machine")
	if ca := longestChain(tls.State.VerifiedChains); !ca.IsZero() && ca.Sub(now) < endsSoon {
		c.addEnd(name, "the authority of its certificate", ca, now, "make a new authority: rota cert init")
	}
}

// longestChain is when the authorities of the chain end that is good for longest;
// zero if there is none.
func longestChain(chains [][]*x509.Certificate) (ends time.Time) {
	for _, chain := range chains {
		if len(chain) < 2 {
			continue
		}
		first := slices.MinFunc(chain[1:], func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
		if first.NotAfter.After(ends) {
			ends = first.NotAfter
		}
	}
	return ends
}

// checkCaller checks with what this machine's calls are let in.
func checkCaller(c *checks, who *rotav1.Caller, now time.Time) {
	text := fmt.Sprintf("%s %q", who.GetKind(), who.GetName())
	if who.GetRole() != "" {
		text += ", role " + who.GetRole()
	}
	switch ends := who.GetEnds(); {
	case who == nil || who.GetKind() == "anonymous": // an older scheduler, or a store that is looked into
	case ends == nil:
		c.add(checkOK, "caller", "", "%s, does not end", text)
	case who.GetKind() == "jwt": // it is short-lived, and there is always another
		c.add(checkOK, "caller", "", "%s, good until %s", text, ends.AsTime().UTC().Format(time.DateTime))
	default:
		c.addEnd("caller", text, ends.AsTime(), now, "make another: rota token create, or rota cert renew")
	}
}

// clocksApart is how far clocks may be apart.
const clocksApart = time.Second

// clocks are the clocks of machines, as compared with this one's.
type clocks []clock

type clock struct {
	name  string
	ahead time.Duration
}

func (c *clocks) add(name string, ahead time.Duration) { *c = append(*c, clock{name, ahead}) }

// note adds the clock of who answered that it is now, between two times of this
// machine's. What may be the way of the message counts as no difference.
func (c *clocks) note(name string, now *timestamppb.Timestamp, sent, received time.Time) (ahead time.Duration, known bool) {
	if now == nil {
		return 0, false // an older version
	}
	way := received.Sub(sent) / 2
	if ahead = now.AsTime().Sub(sent.Add(way)); ahead.Abs() <= way {
		ahead = 0
	}
	c.add(name, ahead)
	return ahead, true
}

// check checks that they agree. unknown is how many workers have not told theirs.
func (c clocks) check(to *checks, unknown int) {
	if len(c) == 0 {
		return
	}
	all := append(slices.Clone(c), clock{"this machine", 0})
	slices.SortStableFunc(all, func(a, b clock) int { return cmp.Compare(a.ahead, b.ahead) })
	middle := all[(len(all)-1)/2].ahead
	rest := ""
	if unknown > 0 {
		rest = fmt.Sprintf("; %s not known", text.Count(unknown, "worker's is", "workers' are"))
	}
	var apart []string
	for _, one := range all {
		switch d := one.ahead - middle; {
		case d > clocksApart:
			apart = append(apart, fmt.Sprintf("%s is %v ahead", one.name, shortly(d)))
		case d < -clocksApart:
			apart = append(apart, fmt.Sprintf("%s is %v behind", one.name, shortly(-d)))
		}
	}
	if len(apart) == 0 {
		to.add(checkOK, "clocks", "", "%d agree within %v%s", len(all), clocksApart, rest)
		return
	}
	to.add(checkWarn, "clocks", "synchronize them by NTP: expiry of certificates and tokens and displayed times depend on them; leases do not",
		"of %d: %s%s", len(all), someNames(apart), rest)
}

func shortly(d time.Duration) time.Duration {
	if d > time.Minute {
		return d.Round(time.Second)
	}
	return d.Round(100 * time.Millisecond)
}

// workersSeen are the workers as the schedulers list them.
type workersSeen struct {
	list  []*rotav1.Worker // of the first that answered
	err   error            // of the last that did not
	found bool
	clock map[string]bool
	ends  map[string]time.Time
}

func (w *workersSeen) note(list []*rotav1.Worker, err error) {
	if err != nil {
		w.err = err
		return
	}
	if !w.found {
		w.found, w.list, w.clock, w.ends = true, list, map[string]bool{}, map[string]time.Time{}
	}
	for _, one := range list {
		if one.ClockAheadMs != nil {
			w.clock[one.GetName()] = true
		}
		if ends := one.GetCertificateEnds(); ends != nil {
			w.ends[one.GetName()] = ends.AsTime()
		}
	}
}

// unknown is how many living workers have not told their clocks.
func (w *workersSeen) unknown() (n int) {
	for _, one := range w.list {
		if one.GetScheduler() != "" && one.GetState() != "lost" && one.GetState() != "away" && !w.clock[one.GetName()] {
			n++
		}
	}
	return n
}

// check checks that workers live, are of one version, and have certificates for long.
func (w *workersSeen) check(c *checks, now time.Time) {
	if !w.found {
		status, mend := checkFail, "read the scheduler's log"
		if mayNot(w.err) {
			status, mend = checkWarn, "use a token with the role viewer"
		}
		c.add(status, "workers", mend, "not seen: %s", oneLine(w.err))
		return
	}
	var lost, versions []string
	ready := 0
	for _, one := range w.list {
		switch one.GetState() {
		case "lost":
			lost = append(lost, one.GetName())
			continue
		case "ready":
			ready++
		}
		if !slices.Contains(versions, one.GetVersion()) {
			versions = append(versions, one.GetVersion())
		}
	}
	switch {
	case ready == 0:
		c.add(checkFail, "workers", "start one: rota worker", "none is ready")
	case len(lost) > 0:
		c.add(checkWarn, "workers", "start them again; a worker that stays away is forgotten after a while", "%d ready, %d lost: %s", ready, len(lost), someNames(lost))
	case len(versions) > 1:
		c.add(checkWarn, "workers", "finish the upgrade", "%d ready, of versions %s", ready, strings.Join(versions, ", "))
	default:
		c.add(checkOK, "workers", "", "%d ready", ready)
	}
	w.checkEnds(c, now)
}

// renewedBefore is how long before its end the worker of a pool has renewed its
// certificate, which is good for a day, unless something keeps it from that.
const renewedBefore = 6 * time.Hour

// checkEnds checks the certificates of workers, in one line.
func (w *workersSeen) checkEnds(c *checks, now time.Time) {
	if len(w.ends) == 0 {
		return
	}
	var soon []clock // by what is left
	first := time.Time{}
	for name, ends := range w.ends {
		if first.IsZero() || ends.Before(first) {
			first = ends
		}
		due := endsSoon
		if strings.HasPrefix(name, engine.NamePrefix) {
			due = renewedBefore
		}
		if left := ends.Sub(now); left < due {
			soon = append(soon, clock{name, left})
		}
	}
	if len(soon) == 0 {
		c.add(checkOK, "workers' certificates", "", "%d are good until %s at the least", len(w.ends), first.UTC().Format(time.DateOnly))
		return
	}
	slices.SortFunc(soon, func(a, b clock) int { return cmp.Or(cmp.Compare(a.ahead, b.ahead), cmp.Compare(a.name, b.name)) })
	texts := make([]string, len(soon))
	status := checkWarn
	for n, one := range soon {
		texts[n] = fmt.Sprintf("%s ends in %v", one.name, one.ahead.Round(time.Minute))
		if one.ahead <= 0 {
			status, texts[n] = checkFail, one.name+" has ended"
		}
	}
	c.add(status, "workers' certificates", "rota cert renew, on their machines", "of %d: %s", len(w.ends), someNames(texts))
}
