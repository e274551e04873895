package router

import "github.com/casemate/casemate"

// Stale says that sandboxes of these guests are made differently from now on,
// by another interpreter say: what is parked of them serves nobody.
func (r *Router) Stale(guests ...casemate.Digest) { r.pool.Stale(guests...) }

// Pressure says that the machine lacks memory: what is parked gives way before
// anything else has to.
func (r *Router) Pressure() { r.pool.Pressure() }
