package router

import "github.com/casemate/casemate"

// Leave ends the guests of one MCP server that a session has, for a client that
// left and did not end the session: one that comes later gets fresh ones. They
// are gone when it returns, but for one that serves another client's call.
func (r *Router) Leave(id casemate.SessionID, server string) {
	var seats []*seat
	var variants []casemate.Digest
	r.mu.Lock()
	if s := r.sessions[id]; s != nil {
		for _, t := range r.tools {
			if t.Run.MCP == nil || t.Run.MCP.Server != server {
				continue
			}
			key := seatKey(t)
			if o := s.seats[key]; o != nil && o.inside == 0 {
				seats = append(seats, o)
				delete(s.seats, key)
			}
			if v, ok := s.variants[t.guest]; ok {
				variants = append(variants, v)
				delete(s.variants, t.guest)
			}
		}
	}
	r.mu.Unlock()
	for _, o := range seats {
		o.turn <- struct{}{}
		r.seize(o)
		r.empty(o, "its client left")
		r.release(o)
	}
	r.forget(variants...)
}
