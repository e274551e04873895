package router

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/casemate/casemate"
)

// maxReceipt bounds one record, in bytes of JSON.
const maxReceipt = 32 << 10

// A posted is a receipt that was handed to the recorder.
type posted struct {
	casemate.Receipt
	appended func() error
	n        uint64 // how many outcomes were handed over before it
}

// post hands a receipt to the recorder; one that cannot be told without being
// waited for has appended it when this returns.
func (r *Router) post(rc casemate.Receipt) (p *posted, err error) {
	defer func() {
		if x := recover(); x != nil {
			err = errors.New("a fault of the recorder")
		}
	}()
	p = &posted{Receipt: rc}
	if to, ok := r.cfg.Recorder.(casemate.Poster); ok {
		p.appended, err = to.Post(rc)
		return p, err
	}
	p.appended = func() error { return nil }
	return p, r.cfg.Recorder.Record(rc)
}

// intend hands the intent to the recorder. Nothing runs before recorded.
func (k *call) intend() error {
	k.r.mu.Lock()
	before := k.r.outcomes
	k.r.mu.Unlock()
	rc, err := k.receipt("intent", nil)
	if err == nil {
		k.intent, err = k.r.post(rc)
	}
	if err != nil {
		return k.unrecorded(err)
	}
	k.intent.n, k.intended = before, true
	return nil
}

// recorded returns when the intent is appended, and with it every outcome that
// was handed over before. That costs no more waiting than the intent alone: a
// recorder appends in the order in which it was told. It may be called again.
func (k *call) recorded() error {
	if k.intent == nil {
		return nil
	}
	err := k.intent.appended()
	if err == nil {
		err = k.r.settle(k.intent.n)
	}
	if err != nil {
		k.intended = false
		return k.unrecorded(err)
	}
	k.intent = nil
	return nil
}

func (k *call) unrecorded(err error) error {
	k.refused = true
	return &casemate.Error{Op: "record", Tool: k.Tool, Call: k.ID, Kind: casemate.Internal, Err: fmt.Errorf("the intent cannot be recorded, so it does not run: %w", err), Fix: "make room for, and writable, the record file"}
}

// owe notes an outcome that was handed over, and that nobody waits for.
func (r *Router) owe(p *posted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes++
	p.n = r.outcomes
	r.owed = append(r.owed, p)
}

// settle sees to it that the outcomes up to the nth are appended; one that was
// not is handed over again, and may then stand twice, where a spawner ended
// between appending and saying so. After an error it is still owed. One at a
// time does this: what another takes out of the list is not appended yet.
func (r *Router) settle(n uint64) error {
	r.settling.Lock()
	defer r.settling.Unlock()
	for {
		r.mu.Lock()
		if len(r.owed) == 0 || r.owed[0].n > n {
			r.mu.Unlock()
			return nil
		}
		p := r.owed[0]
		r.owed = r.owed[1:]
		r.mu.Unlock()
		err := p.appended()
		if err != nil {
			err = r.again(p)
		}
		if err != nil {
			r.mu.Lock()
			r.owed = append([]*posted{p}, r.owed...)
			r.mu.Unlock()
			return fmt.Errorf("the outcome of the call %s is not recorded: %w", p.Call, err)
		}
	}
}

// again hands p over once more, and waits for it.
func (r *Router) again(p *posted) error {
	q, err := r.post(p.Receipt)
	if err != nil {
		return err
	}
	return q.appended()
}

// finish puts the error into the outcome and hands it to the recorder. A call
// that ran is not held up until it is appended: the calls after it are. An
// outcome that cannot be handed over is not handed out.
func (k *call) finish(err error) {
	k.out.Receipt = string(k.ID)
	if err != nil {
		k.out.Error = casemate.JSON(k.named(err))
		k.out.Error.Message = cut(k.out.Error.Message, 4<<10)
	}
	if k.ending != nil {
		k.bury()
		return
	}
	if err := k.conclude(k.out); err != nil && !k.refused { // what did not run has nothing to withhold
		k.out.Result = nil
		k.out.Error = casemate.JSON(&casemate.Error{Op: "record", Tool: k.Tool, Call: k.ID, Kind: casemate.Internal,
			Err: fmt.Errorf("its outcome cannot be recorded, so it is withheld; the tool may have run: %w", err), Fix: "make room for, and writable, the record file"})
	}
}

// conclude hands an outcome over.
func (k *call) conclude(out *casemate.Outcome) error {
	rc, err := k.receipt("outcome", out)
	if err != nil {
		return err
	}
	p, err := k.r.post(rc)
	switch {
	case err != nil:
		return err
	case k.intended:
		k.r.owe(p)
		return nil
	}
	return p.appended() // what was refused may come by the million
}

// receipt is a receipt of the call; out is nil for the intent.
func (k *call) receipt(event string, out *casemate.Outcome) (casemate.Receipt, error) {
	rc := casemate.Receipt{
		Time: k.r.cfg.Now(), Event: event, Call: k.ID, Tool: k.Tool, Session: k.Session,
		Backend: k.out.Backend, Args: k.args, Decision: k.out.Decision, Method: k.Method, Key: keyDigest(k.Call),
	}
	rc.Inputs = k.inputs
	if !k.Limits.Zero() {
		rc.Limits = &k.Limits
	}
	if k.tool != nil {
		rc.Digest = k.tool.digest
	}
	if out != nil {
		rc.Label, rc.Enforced, rc.Usage, rc.Changes, rc.Error = out.Label, out.Enforced, out.Usage, out.Changes, out.Error
		if out.Result != nil {
			h := sha256.New()
			if out.Result.Streamed {
				h = k.passed
			} else if out.Result.Raw != nil {
				h.Write(out.Result.Raw)
			} else if err := json.NewEncoder(h).Encode(out.Result); err != nil {
				return rc, err
			}
			rc.Output = casemate.Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
		}
	}
	if len(rc.Changes) > 0 {
		return rc, fit(&rc)
	}
	return rc, nil
}

// fit shortens the list of changes, saying so, until the receipt is within its
// bound. Everything else in it is small, or it is refused.
func fit(rc *casemate.Receipt) error {
	all := rc.Changes
	if len(all) > 256 {
		rc.Changes = shorten(all, 256)
	}
	for {
		b, err := json.Marshal(rc)
		if err != nil {
			return err
		}
		if len(b) <= maxReceipt {
			return nil
		}
		n := len(rc.Changes) / 2
		if n == 0 {
			return errors.New("the record is longer than 32 KiB")
		}
		rc.Changes = shorten(all, n)
	}
}

// shorten keeps n entries, the last of which says how many are left out.
func shorten(all []casemate.Change, n int) []casemate.Change {
	keep := append([]casemate.Change{}, all[:n-1]...)
	return append(keep, casemate.Change{Did: "omitted", Why: fmt.Sprintf("%d more changes are not in this record", len(all)-len(keep))})
}
