package pools

import (
	"bytes"
	"context"
	"crypto/sha256"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

// errNoToken is the answer to a token that is not known, whatever is wrong with it.
var errNoToken = status.Error(codes.PermissionDenied, "unknown join token: it belongs to another cluster, or its pool has given up the worker")

// againFor is how long a worker may ask again whose answer was lost. Later its token is
// good for nothing, however long it would be: who has it and the key, and a certificate
// that was revoked, gets no other one.
const againFor = 2 * time.Minute

// errLookups is the answer to a token that is not known while too many such are shown.
var errLookups = status.Error(codes.ResourceExhausted, "too many unknown join tokens: try again")

// JoinWorker uses a join token up, for a key that may ask again. Anybody may show any
// number of tokens that are no good: they cost no more than a look into the picture of
// the cluster, and take no room from one that is good.
func (k *Control) JoinWorker(ctx context.Context, r *rotav1.JoinWorkerRequest) (*rotav1.JoinWorkerResponse, error) {
	token, err := auth.ParseJoinToken(auth.Secret(r.GetToken()))
	if err != nil {
		return nil, convert.FieldStatus("token", "join token: "+err.Error())
	}
	if len(r.GetPublicKey()) == 0 {
		return nil, convert.FieldStatus("public_key", "public_key: want the worker's public key")
	}
	// The picture may be behind, but nothing that is over there is undone in the store.
	if w := k.pictured(token.Worker); w != nil && token.Is(w.GetTokenHash()) {
		if err := refusal(w, token, r); err != nil {
			return nil, err
		}
		k.cfg.Known(ctx)
	} else if !k.lookups.Allow() {
		return nil, errLookups
	}
	w, mod, err := k.read(ctx, token.Worker)
	if err != nil {
		return nil, err
	}
	if w == nil || !token.Is(w.GetTokenHash()) {
		return nil, errNoToken
	}
	if err := refusal(w, token, r); err != nil {
		return nil, err
	}
	cert, err := k.sign(token.Worker, r.GetPublicKey())
	if err != nil {
		return nil, err
	}
	if w.GetJoinedUnixMs() == 0 {
		key := sha256.Sum256(r.GetPublicKey())
		next := proto.CloneOf(w)
		next.JoinedUnixMs, next.KeyHash = time.Now().UnixMilli(), key[:]
		value, err := record.Encode(next)
		if err != nil {
			return nil, err
		}
		ok, err := k.txn(ctx, []store.Cond{{Key: store.PoolWorkerKey(token.Worker), By: store.ByMod, Revision: mod}},
			[]store.Op{{Key: store.PoolWorkerKey(token.Worker), Value: value}})
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, status.Error(codes.Aborted, "the worker's record has changed meanwhile; try again")
		}
		k.cfg.Logger.Info("worker of a pool joined", "pool", w.GetPool(), "worker", token.Worker)
	}
	return &rotav1.JoinWorkerResponse{Worker: token.Worker, Certificate: cert}, nil
}

// refusal says why a worker may not join with its token; nil if it may.
func refusal(w *storepb.PoolWorker, token auth.JoinToken, r *rotav1.JoinWorkerRequest) error {
	key := sha256.Sum256(r.GetPublicKey())
	switch now := time.Now(); {
	case r.GetWorker() != "" && r.GetWorker() != token.Worker:
		return status.Errorf(codes.PermissionDenied, "the join token is for worker %s, not for %s", token.Worker, text.Clip(r.GetWorker(), text.Short))
	case w.GetJoinedUnixMs() != 0 && (!bytes.Equal(w.GetKeyHash(), key[:]) || now.Sub(time.UnixMilli(w.GetJoinedUnixMs())) > againFor):
		return status.Errorf(codes.PermissionDenied, "the join token of %s was used at %s: this second copy of the worker must end",
			token.Worker, time.UnixMilli(w.GetJoinedUnixMs()).UTC().Format(time.RFC3339))
	case w.GetStoppingUnixMs() != 0 || w.GetLeavingUnixMs() != 0:
		return status.Errorf(codes.PermissionDenied, "worker %s is no longer wanted: %s", token.Worker, w.GetWhy())
	case now.UnixMilli() >= w.GetTokenEndsUnixMs():
		return status.Errorf(codes.PermissionDenied, "the join token of %s expired at %s",
			token.Worker, time.UnixMilli(w.GetTokenEndsUnixMs()).UTC().Format(time.RFC3339))
	}
	return nil
}

// RenewWorker answers another certificate to a worker that has joined.
func (k *Control) RenewWorker(ctx context.Context, r *rotav1.RenewWorkerRequest) (*rotav1.JoinWorkerResponse, error) {
	name := r.GetWorker()
	if err := auth.IsWorker(ctx, name); err != nil {
		return nil, err
	}
	if len(r.GetPublicKey()) == 0 {
		return nil, convert.FieldStatus("public_key", "public_key: want the worker's public key")
	}
	w, _, err := k.read(ctx, name)
	if err != nil {
		return nil, err
	}
	if w == nil || w.GetJoinedUnixMs() == 0 || w.GetStoppingUnixMs() != 0 {
		return nil, status.Errorf(codes.PermissionDenied, "%s is not a worker of a pool", text.Clip(name, text.Short))
	}
	cert, err := k.sign(name, r.GetPublicKey())
	if err != nil {
		return nil, err
	}
	return &rotav1.JoinWorkerResponse{Worker: name, Certificate: cert}, nil
}

// sign is the worker's certificate; empty where there is no TLS.
func (k *Control) sign(worker string, key []byte) ([]byte, error) {
	switch {
	case k.cfg.CA == nil:
		return nil, nil
	case k.cfg.Sign == nil:
		return nil, status.Errorf(codes.Unavailable, "scheduler %s has no certificate authority: start it with --authority, or ask another scheduler", k.cfg.Scheduler)
	}
	cert, err := k.cfg.Sign(worker, key)
	if err != nil {
		return nil, convert.Error(err)
	}
	return cert, nil
}

// pictured is the record of a worker in the picture of the cluster; nil if there is none.
func (k *Control) pictured(name string) (w *storepb.PoolWorker) {
	k.cfg.View.Read(func() { w = k.cfg.View.PoolWorkers[name] })
	return w
}

// read reads the record of a worker from the store; nil if there is none.
func (k *Control) read(ctx context.Context, name string) (*storepb.PoolWorker, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	kv, ok, _, err := k.cfg.Store.Get(ctx, store.PoolWorkerKey(name))
	if err != nil {
		return nil, 0, convert.ReadError(err)
	}
	if !ok {
		return nil, 0, nil
	}
	w := &storepb.PoolWorker{}
	if err := record.Decode(kv.Value, w); err != nil {
		return nil, 0, convert.Error(err)
	}
	return w, kv.Mod, nil
}
