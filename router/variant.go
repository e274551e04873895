package router

import "github.com/casemate/casemate"

// forget has the pool throw away what is parked of variants that no session
// has any more: the values in them are of clients that left.
func (r *Router) forget(variants ...casemate.Digest) {
	if len(variants) == 0 {
		return
	}
	had := map[casemate.Digest]bool{}
	for _, v := range variants {
		had[v] = true
	}
	r.mu.Lock()
	for _, s := range r.sessions {
		for _, v := range s.variants {
			delete(had, v)
		}
	}
	r.mu.Unlock()
	for v := range had {
		r.pool.Forget(v)
	}
}
