package router

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/casemate/casemate"
)

// The bounds of what is kept of calls with a key.
const (
	maxKeys     = 10_000   // outcomes, in all
	maxKeyed    = 64 << 20 // bytes of them, roughly
	maxKeyName  = 512      // bytes of a key
	maxRemember = 1 << 20  // keys whose outcome is kept no more, or still is
)

type keyID [sha256.Size]byte

// A keyed is one call with a key, which runs or has run. A session knows its
// keys for as long as it lives: those whose outcome is not kept any more are
// nil.
type keyed struct {
	id      keyID
	session *session
	same    [sha256.Size]byte // of what is asked
	cancel  context.CancelCauseFunc
	done    chan struct{} // closed when out is there
	out     *casemate.Outcome

	waiting int // callers; the router's mu guards it, and what follows
	size    int64
	place   *list.Element // in the order of use, once it is over
}

// keyOf is the digest of a session and a key.
func keyOf(s casemate.SessionID, key string) keyID {
	return sha256.Sum256([]byte(string(s) + "\x00" + key))
}

// keyDigest is how a receipt names the key of a call.
func keyDigest(c casemate.Call) casemate.Digest {
	if c.Key == "" {
		return ""
	}
	id := keyOf(c.Session, c.Key)
	return casemate.Digest("sha256:" + hex.EncodeToString(id[:]))
}

// sameness is equal for calls that ask the same: arguments that differ only in
// how they are written do. Streams are not looked at.
func sameness(c casemate.Call) (sum [sha256.Size]byte) {
	args := []byte(c.Arguments)
	if v, _, err := decode(args, true); err == nil {
		if b, err := encode(v); err == nil {
			args = b
		}
	}
	h := sha256.New()
	part := func(b string) { fmt.Fprintf(h, "%d:%s", len(b), b) }
	part(string(c.Tool))
	part(c.Method)
	part(string(args))
	for _, in := range inputDigests(c.Inputs) {
		part(in.Name)
		part(string(in.Digest))
	}
	if !c.Limits.Zero() {
		part(fmt.Sprintf("%+v", c.Limits))
	}
	if c.Files != nil {
		part(c.Files.Op)
		part(c.Files.Path)
	}
	h.Sum(sum[:0])
	return sum
}

// callOnce runs a call that has a key, unless it runs or has run already: then
// the caller joins it, and gets its outcome. A call of which no intent was
// recorded did not run, and its key is free. It is cancelled when every caller
// of it has gone.
func (r *Router) callOnce(ctx context.Context, c casemate.Call) *casemate.Outcome {
	refuse := func(kind casemate.Kind, fix, format string, a ...any) *casemate.Outcome {
		e := &casemate.Error{Op: "call", Kind: kind, Err: fmt.Errorf(format, a...), Fix: fix}
		return &casemate.Outcome{Tool: c.Tool, Error: casemate.JSON(e)}
	}
	switch {
	case c.Session == "":
		return refuse(casemate.Invalid, "name a session, or leave the key out", "key: a key is of a session, and the call names none")
	case len(c.Key) > maxKeyName:
		return refuse(casemate.Invalid, "pass a shorter key", "key: it is longer than %d bytes", maxKeyName)
	}
	id, same := keyOf(c.Session, c.Key), sameness(c)
	r.mu.Lock()
	s := r.sessions[c.Session]
	if s == nil {
		r.mu.Unlock()
		return &casemate.Outcome{Tool: c.Tool, Error: casemate.JSON(gone(c.Session))}
	}
	e, known := s.keys[id]
	switch {
	case known && e == nil:
		r.mu.Unlock()
		return refuse(casemate.Unknown, "casemate log has what became of it; use another key to run it again", "key: its call ran, and what came of it is kept no more")
	case known && e.same != same:
		r.mu.Unlock()
		return refuse(casemate.Conflict, "use another key for another call", "key: it is that of a call of another tool, or with other arguments")
	case !known && r.remembered >= maxRemember:
		r.mu.Unlock()
		return refuse(casemate.Busy, "end sessions that are not used", "key: %d keys are known, which is the limit", maxRemember)
	case !known:
		e = &keyed{id: id, session: s, same: same, done: make(chan struct{})}
		s.keys[id] = e
		r.remembered++
		own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		e.cancel = cancel
		r.owned.Go(func() { r.runKeyed(own, e, c) })
	case e.place != nil:
		r.order.MoveToFront(e.place)
	}
	e.waiting++
	r.mu.Unlock()
	select {
	case <-e.done:
	case <-ctx.Done():
		r.mu.Lock()
		e.waiting--
		last := e.waiting == 0
		r.mu.Unlock()
		if !last {
			return &casemate.Outcome{Tool: c.Tool, Error: casemate.JSON(cancelled(ctx, c.Tool))}
		}
		e.cancel(context.Cause(ctx))
		<-e.done
	}
	out := *e.out
	return &out
}

// runKeyed runs the call of e, and keeps its outcome.
func (r *Router) runKeyed(ctx context.Context, e *keyed, c casemate.Call) {
	defer e.cancel(nil)
	k := r.call(ctx, c)
	e.out = k.out
	close(e.done)
	r.mu.Lock()
	defer r.mu.Unlock()
	s := e.session
	if r.sessions[s.id] != s {
		return
	}
	if !k.intended {
		delete(s.keys, e.id)
		r.remembered--
		return
	}
	e.size = weight(e.out)
	r.keyedBytes += e.size
	e.place = r.order.PushFront(e)
	for r.order.Len() > maxKeys || r.keyedBytes > maxKeyed {
		r.evict(r.order.Back().Value.(*keyed))
	}
}

// evict keeps no more of e than that there was such a key; r.mu is held.
func (r *Router) evict(e *keyed) {
	r.order.Remove(e.place)
	r.keyedBytes -= e.size
	e.session.keys[e.id] = nil
}

// forgetKeys is at the end of a session; r.mu is held.
func (r *Router) forgetKeys(s *session) {
	r.remembered -= len(s.keys)
	for _, e := range s.keys {
		if e != nil && e.place != nil {
			r.order.Remove(e.place)
			r.keyedBytes -= e.size
		}
	}
	s.keys = nil
}

// weight is roughly how many bytes an outcome holds.
func weight(o *casemate.Outcome) int64 {
	n := 4<<10 + len(o.ServerError)
	if r := o.Result; r != nil {
		n += len(r.Raw) + len(r.Structured)
		for _, c := range r.Content {
			n += len(c.Text) + len(c.Data) + len(c.URI) + 128
		}
	}
	for _, c := range o.Changes {
		n += len(c.Path) + len(c.Host) + len(c.Why) + len(c.Kept) + 128
	}
	return int64(n)
}
