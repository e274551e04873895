package pool

import (
	"slices"

	"github.com/casemate/casemate"
)

// A waiter is a claim that found nothing parked.
type waiter struct {
	session casemate.SessionID
	got     chan handed // of capacity 1
}

type handed struct {
	sb   casemate.Sandbox
	cold bool
	err  error
}

// A queue is the claims that wait for one key: of one session first come first
// served, and the sessions in turn.
type queue struct {
	lines []*line // the first is served next
	n     int
}

type line struct {
	session casemate.SessionID
	waiters []*waiter
}

func (q *queue) push(w *waiter) {
	q.n++
	i := slices.IndexFunc(q.lines, func(l *line) bool { return l.session == w.session })
	if i < 0 {
		q.lines = append(q.lines, &line{w.session, []*waiter{w}})
		return
	}
	q.lines[i].waiters = append(q.lines[i].waiters, w)
}

// pop takes out whoever is next; nil where nobody waits.
func (q *queue) pop() *waiter {
	if q.n == 0 {
		return nil
	}
	q.n--
	l := q.lines[0]
	q.lines = q.lines[1:]
	w := l.waiters[0]
	if l.waiters = l.waiters[1:]; len(l.waiters) > 0 {
		q.lines = append(q.lines, l)
	}
	return w
}

// remove takes w out, and says whether it was there.
func (q *queue) remove(w *waiter) bool {
	for i, l := range q.lines {
		if j := slices.Index(l.waiters, w); j >= 0 {
			q.n--
			if l.waiters = slices.Delete(l.waiters, j, j+1); len(l.waiters) == 0 {
				q.lines = slices.Delete(q.lines, i, i+1)
			}
			return true
		}
	}
	return false
}
