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

// finish puts the error into the outcome and records it. An outcome that
// cannot be recorded is not handed out.
func (k *call) finish(err error) {
	k.out.Receipt = string(k.ID)
	if err != nil {
		k.out.Error = casemate.JSON(k.named(err))
		k.out.Error.Message = cut(k.out.Error.Message, 4<<10)
	}
	if err := k.record("outcome", k.out); err != nil {
		k.out.Result = nil
		k.out.Error = casemate.JSON(&casemate.Error{Op: "record", Tool: k.Tool, Call: k.ID, Kind: casemate.Internal,
			Err: fmt.Errorf("its outcome cannot be recorded, so it is withheld; the tool may have run: %w", err), Fix: "make room for, and writable, the record file"})
	}
}

// record keeps a receipt of the call; out is nil for the intent.
func (k *call) record(event string, out *casemate.Outcome) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("a fault of the recorder")
		}
	}()
	rc := casemate.Receipt{
		Time: k.r.cfg.Now(), Event: event, Call: k.ID, Tool: k.Tool, Session: k.Session,
		Backend: k.out.Backend, Args: k.args, Decision: k.out.Decision, Method: k.Method, Key: keyDigest(k.Call),
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
				return err
			}
			rc.Output = casemate.Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
		}
	}
	if len(rc.Changes) > 0 {
		if err := fit(&rc); err != nil {
			return err
		}
	}
	return k.r.cfg.Recorder.Record(rc)
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
