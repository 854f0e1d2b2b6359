package signin

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// Bounds of what is kept in the store.
const (
	// defaultLife is how long a session lasts at most.
	defaultLife = 12 * time.Hour
	// codeLife is how long a one-time code is good.
	codeLife = time.Minute
	// maxSessions is how many sessions there may be in all; maxOwnSessions how many
	// of one identity: the oldest ends for one more.
	maxSessions    = 10_000
	maxOwnSessions = 16
	// maxRecord is the most bytes that are kept of one.
	maxRecord = 16 << 10
)

// How often one identity may sign in or ask for a code, and how often the store is
// asked about sessions that this scheduler does not know.
const (
	signInEvery, signInBurst = time.Second, 20
	lookEvery, lookBurst     = 50 * time.Millisecond, 50
	lookTime                 = 2 * time.Second
)

// Keeper keeps sessions and codes in the store. It is safe for concurrent use.
type Keeper struct {
	store store.Store
	view  *view.View
	life  time.Duration
	now   func() time.Time
	looks *rate.Limiter
	often *attempts // by identity
}

var _ auth.Sessions = (*Keeper)(nil)

// NewKeeper returns a keeper of sessions that last at most so long; zero means
// defaultLife.
func NewKeeper(s store.Store, v *view.View, life time.Duration) *Keeper {
	return &Keeper{
		store: s, view: v, life: cmp.Or(life, defaultLife), now: time.Now,
		looks: rate.NewLimiter(rate.Every(lookEvery), lookBurst), often: newAttempts(signInEvery, signInBurst),
	}
}

// A cookie's value is the secret and, so that an end can be told from a value that
// never was one, the time at which it expires in Unix seconds: "SECRET.1790000000".
func cookieValue(secret string, ends time.Time) auth.Secret {
	return auth.Secret(secret + "." + strconv.FormatInt(ends.Unix(), 10))
}

func newSecret() string {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// secretLen is the length of the text of a secret.
const secretLen = 43

// hashOf is what the store has in place of a secret. Half of it is enough: nobody can
// find a secret that has a given hash.
func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:16])
}

// split takes a cookie's value apart.
func split(value auth.Secret) (hash string, ends time.Time, ok bool) {
	secret, unix, ok := strings.Cut(value.Reveal(), ".")
	n, err := strconv.ParseInt(unix, 10, 64)
	if !ok || len(secret) != secretLen || err != nil {
		return "", time.Time{}, false
	}
	return hashOf(secret), time.Unix(n, 0), true
}

// Find implements auth.Sessions. A session that another scheduler has made a moment
// ago is looked for in the store.
func (k *Keeper) Find(ctx context.Context, value auth.Secret) (auth.Session, error) {
	hash, ends, ok := split(value)
	if !ok {
		return auth.Session{}, auth.SessionEnded()
	}
	if s, ok := k.known(hash); ok {
		return s, nil
	}
	if !k.now().Before(ends) {
		return auth.Session{}, auth.SessionExpired()
	}
	if !k.looks.Allow() { // others try what never was a session: who has one is not to lose it for that
		return auth.Session{}, status.Error(codes.Unavailable, "too many requests with unknown sessions; try again")
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	_, there, rev, err := k.store.Get(ctx, store.SignInKey(hash))
	if err == nil && there {
		err = k.view.Wait(ctx, rev)
	}
	if err != nil {
		return auth.Session{}, status.Error(codes.Unavailable, "the store does not answer: the session cannot be checked")
	}
	if s, ok := k.known(hash); ok {
		return s, nil
	}
	return auth.Session{}, auth.SessionEnded()
}

// Has implements auth.Sessions.
func (k *Keeper) Has(id string) bool {
	var ok bool
	k.view.Read(func() { _, ok = k.view.SignIns[id] })
	return ok
}

func (k *Keeper) known(hash string) (auth.Session, bool) {
	var m *storepb.SignIn
	k.view.Read(func() { m = k.view.SignIns[hash] })
	if m == nil {
		return auth.Session{}, false
	}
	who, err := fromRecord(m)
	if err != nil {
		return auth.Session{}, false
	}
	return auth.Session{ID: hash, Who: who, Expires: time.UnixMilli(m.GetEndsUnixMs())}, true
}

// begin makes a session. Once it returns, this scheduler knows it.
func (k *Keeper) begin(ctx context.Context, who auth.Identity) (value auth.Secret, s auth.Session, err error) {
	return k.make(ctx, who, nil, nil)
}

// make makes a session together with what else is to be done, if the conditions hold.
func (k *Keeper) make(ctx context.Context, who auth.Identity, conds []store.Cond, ops []store.Op) (value auth.Secret, s auth.Session, err error) {
	now := k.now()
	if !k.often.take(ownerOf(who), now) {
		return "", s, status.Error(codes.ResourceExhausted, "too many sign-ins with these credentials: try again in a few seconds")
	}
	m, err := toRecord(who, now)
	if err != nil {
		return "", s, err
	}
	ends := now.Add(k.life)
	if !who.Expires.IsZero() && who.Expires.Before(ends) {
		ends = who.Expires
	}
	if !now.Before(ends) {
		return "", s, auth.SessionExpired()
	}
	m.EndsUnixMs = ends.UnixMilli()
	body, err := proto.Marshal(m)
	if err != nil {
		return "", s, status.Error(codes.Internal, err.Error())
	}
	over, err := k.room(m)
	if err != nil {
		return "", s, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	lease, _, err := k.store.Grant(ctx, ends.Sub(now))
	if err != nil {
		return "", s, convert.StoreError(err)
	}
	secret := newSecret()
	hash := hashOf(secret)
	ops = append(ops, store.Op{Key: store.SignInKey(hash), Value: body, Lease: lease})
	for _, other := range over {
		ops = append(ops, store.Op{Key: store.SignInKey(other), Delete: true})
	}
	ok, rev, err := k.store.Txn(ctx, conds, ops)
	if err != nil || !ok {
		_ = k.store.Revoke(context.WithoutCancel(ctx), lease)
	}
	switch {
	case err != nil:
		return "", s, convert.StoreError(err)
	case !ok:
		return "", s, errCode
	}
	if err := k.view.Wait(ctx, rev); err != nil {
		return "", s, status.Error(codes.Unavailable, "the store is slow: sign in again")
	}
	return cookieValue(secret, ends), auth.Session{ID: hash, Who: who, Expires: ends}, nil
}

// storeTime bounds what a sign-in waits for the store.
const storeTime = 10 * time.Second

// room lists the sessions that end so that one more of its identity may begin.
func (k *Keeper) room(m *storepb.SignIn) (over []string, err error) {
	own := map[string]int64{}
	total := 0
	k.view.Read(func() {
		total = len(k.view.SignIns)
		for hash, other := range k.view.SignIns {
			if other.GetKind() == m.GetKind() && other.GetId() == m.GetId() {
				own[hash] = other.GetBegunUnixMs()
			}
		}
	})
	for len(own) >= maxOwnSessions {
		oldest := ""
		for hash, begun := range own {
			if oldest == "" || begun < own[oldest] || begun == own[oldest] && hash < oldest {
				oldest = hash
			}
		}
		over = append(over, oldest)
		delete(own, oldest)
	}
	if total-len(over) >= maxSessions {
		return nil, status.Errorf(codes.ResourceExhausted, "%d people are signed in, the maximum: wait until one signs out", total)
	}
	return over, nil
}

// end ends a session, on all schedulers within moments, and on this one at once.
func (k *Keeper) end(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	_, rev, err := k.store.Txn(ctx, nil, []store.Op{{Key: store.SignInKey(id), Delete: true}})
	if err != nil {
		return convert.StoreError(err)
	}
	if err := k.view.Wait(ctx, rev); err != nil {
		return status.Error(codes.Unavailable, "the store is slow: sign out again")
	}
	return nil
}

// errCode refuses a one-time code. It does not say why, to whoever guesses.
var errCode = status.Error(codes.Unauthenticated, "the code is not valid: it was used, or is older than a minute; rota ui makes another")

// makeCode makes a one-time code for whoever asks.
func (k *Keeper) makeCode(ctx context.Context, who auth.Identity) (code auth.Secret, ends time.Time, err error) {
	now := k.now()
	if !k.often.take(ownerOf(who), now) {
		return "", ends, status.Error(codes.ResourceExhausted, "too many codes with these credentials: try again in a few seconds")
	}
	m, err := toRecord(who, now)
	if err != nil {
		return "", ends, err
	}
	ends = now.Add(codeLife)
	m.EndsUnixMs = ends.UnixMilli()
	body, err := proto.Marshal(m)
	if err != nil {
		return "", ends, status.Error(codes.Internal, err.Error())
	}
	lease, _, err := k.store.Grant(ctx, codeLife)
	if err != nil {
		return "", ends, convert.StoreError(err)
	}
	secret := newSecret()
	if _, _, err := k.store.Txn(ctx, nil, []store.Op{{Key: store.SignInCodeKey(hashOf(secret)), Value: body, Lease: lease}}); err != nil {
		return "", ends, convert.StoreError(err)
	}
	return auth.Secret(secret), ends, nil
}

// redeem makes a session of a code, which it uses up in the same step: whoever comes
// second, at whatever scheduler, gets nothing. good is asked who it would be.
func (k *Keeper) redeem(ctx context.Context, code auth.Secret, good func(auth.Identity) error) (value auth.Secret, s auth.Session, err error) {
	if len(code.Reveal()) != secretLen {
		return "", s, errCode
	}
	look, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	key := store.SignInCodeKey(hashOf(code.Reveal()))
	kv, ok, _, err := k.store.Get(look, key)
	if err != nil {
		return "", s, convert.StoreError(err)
	}
	m := &storepb.SignIn{}
	if !ok || record.Decode(kv.Value, m) != nil || !k.now().Before(time.UnixMilli(m.GetEndsUnixMs())) {
		return "", s, errCode
	}
	who, err := fromRecord(m)
	if err != nil {
		return "", s, errCode
	}
	if err := good(who); err != nil {
		return "", s, err
	}
	return k.make(ctx, who, []store.Cond{{Key: key, By: store.ByMod, Revision: kv.Mod, Final: true}}, []store.Op{{Key: key, Delete: true}})
}

// ownerOf is whose sessions are counted together.
func ownerOf(who auth.Identity) string { return string(who.Kind) + "/" + who.ID }

// toRecord is what the store keeps of an identity.
func toRecord(who auth.Identity, now time.Time) (*storepb.SignIn, error) {
	switch who.Kind {
	case auth.ByToken, auth.ByJWT, auth.ByClient:
	default:
		return nil, status.Errorf(codes.PermissionDenied, "%s cannot sign in: this needs a token, a JWT, or a client certificate with a role", who.Name)
	}
	m := &storepb.SignIn{
		Version: record.Version, Kind: string(who.Kind), Id: who.ID, Name: who.Name, Role: who.Role.String(),
		Namespaces: who.Namespaces, Kinds: who.Kinds, BegunUnixMs: now.UnixMilli(),
	}
	if !who.Expires.IsZero() {
		m.CredentialsEndUnixMs = who.Expires.UnixMilli()
	}
	for _, cert := range who.Chain {
		m.Chain = append(m.Chain, cert.Raw)
	}
	if proto.Size(m) > maxRecord {
		return nil, status.Errorf(codes.InvalidArgument, "the identity of these credentials has more than %d bytes", maxRecord)
	}
	return m, nil
}

var errRecord = errors.New("signin: malformed record")

func fromRecord(m *storepb.SignIn) (auth.Identity, error) {
	role, err := auth.ParseRole(m.GetRole())
	if err != nil {
		return auth.Identity{}, fmt.Errorf("%w: %w", errRecord, err)
	}
	who := auth.Identity{
		Kind: auth.Kind(m.GetKind()), ID: m.GetId(), Name: m.GetName(), Role: role, Namespaces: m.GetNamespaces(), Kinds: m.GetKinds(),
	}
	if ms := m.GetCredentialsEndUnixMs(); ms != 0 {
		who.Expires = time.UnixMilli(ms)
	}
	for _, der := range m.GetChain() {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return auth.Identity{}, fmt.Errorf("%w: %w", errRecord, err)
		}
		who.Chain = append(who.Chain, cert)
	}
	return who, nil
}

// attempts says who does something too often. Whoever it does not know any more may
// begin anew.
type attempts struct {
	every time.Duration
	burst int
	mu    sync.Mutex
	of    map[string]*rate.Limiter
	swept time.Time
}

// maxAttempts is how many are told apart; the others are taken for one.
const maxAttempts = 10_000

func newAttempts(every time.Duration, burst int) *attempts {
	return &attempts{every: every, burst: burst, of: map[string]*rate.Limiter{}}
}

func (a *attempts) get(key string, now time.Time) *rate.Limiter {
	l := a.of[key]
	if l == nil && len(a.of) >= maxAttempts && now.Sub(a.swept) > time.Second {
		a.swept = now
		for k, l := range a.of {
			if l.TokensAt(now) >= float64(a.burst) {
				delete(a.of, k)
			}
		}
	}
	if l == nil && len(a.of) >= maxAttempts {
		key = ""
		l = a.of[key]
	}
	if l == nil {
		l = rate.NewLimiter(rate.Every(a.every), a.burst)
		a.of[key] = l
	}
	return l
}

// take counts one, and reports whether it may be.
func (a *attempts) take(key string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.get(key, now).AllowN(now, 1)
}

// left reports whether one more may be, without counting it.
func (a *attempts) left(key string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.get(key, now).TokensAt(now) >= 1
}
