package mcp

import (
	"github.com/casemate/casemate"
)

// A long result of a call that its client can leave goes to the request that
// waits. A client that was sent a part of it cannot be asked any more, and one
// that is asked is sent no part.

var _ casemate.ResultStream = (*running)(nil)

// attach lets the answer to a request be sent in parts, where it can be.
func (r *running) attach(from *origin) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = from.answer
	if r.answer != nil {
		r.answer.modern = true
	}
}

// detach says whether the request can be answered with questions: it will not
// be sent in parts then.
func (r *running) detach() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.began {
		return false
	}
	r.answer = nil
	return true
}

// Write passes on a part of the result.
func (r *running) Write(b []byte) (int, error) {
	r.mu.Lock()
	a := r.answer
	r.began = r.began || a != nil
	r.mu.Unlock()
	if a == nil {
		return 0, badResult("came while the client was asked something")
	}
	return a.Write(b)
}

// End is that of the answer.
func (r *running) End() (isError bool, err error) { return r.answer.End() }

// finish ends an answer that was begun; the call is over.
func (r *running) finish(o *casemate.Outcome) {
	if r.began {
		r.answer.finish(o)
	}
}
