package router

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
)

// The bounds of waiting calls; see the package comment.
const (
	waitingPerTool  = 4 // times PerTool are inside, running or waiting
	waitingInAll    = 2 // times Concurrency
	waitingPerGuest = 8
	maxBytes        = 256 << 20
)

// counts is what is counted of one tool; the router's mu guards it but for
// slots. It outlives a reload.
type counts struct {
	inside      int // calls that run or wait
	minute, day window
	slots       *gate // one for each call that runs
	tally       Tally
}

func newCounts(perTool int) *counts {
	return &counts{minute: window{span: time.Minute}, day: window{span: 24 * time.Hour}, slots: newGate(perTool)}
}

// seed counts calls of before, as if they had been booked here.
func (c *counts) seed(recent []time.Time, epoch time.Time) {
	for _, t := range recent {
		at := min(t.Sub(epoch), 0) // a clock that was set back must not let more through
		c.minute.at, c.day.at = append(c.minute.at, at), append(c.day.at, at)
	}
}

// A window counts events in the last span of time.
type window struct {
	span time.Duration
	at   []time.Duration // since the router's epoch, oldest first; negative before it
}

// wait is how long until one more is within most; 0 is now.
func (w *window) wait(now time.Duration, most int) time.Duration {
	for len(w.at) > 0 && now-w.at[0] >= w.span {
		w.at = w.at[1:]
	}
	if most == 0 || len(w.at) < most {
		return 0
	}
	return w.at[len(w.at)-most] + w.span - now
}

// take counts one event; nothing is kept where there is no bound.
func (w *window) take(now time.Duration, most int) {
	if most > 0 {
		w.at = append(w.at, now)
	}
}

// decide says whether a call may run, and why. It is the one function that
// does, for Call and for Why; r.mu is held. It books nothing: see book.
func (r *Router) decide(t *tool, s *session, pairs []guest.Pair) (*casemate.Decision, *casemate.Error) {
	now := r.cfg.Now().Sub(r.epoch)
	deny := func(k casemate.Kind, fix, format string, a ...any) (*casemate.Decision, *casemate.Error) {
		err := fmt.Errorf(format, a...)
		return &casemate.Decision{Effect: "deny", Reasons: []string{err.Error()}},
			&casemate.Error{Op: "call", Tool: t.Name, Kind: k, Err: err, Fix: fix}
	}
	if t.refused != nil {
		e := *t.refused
		return &casemate.Decision{Effect: "deny", Reasons: []string{"it cannot be enforced here: " + e.Error()}}, &e
	}
	if err := checkArgv(t.Tool, pairs); err != nil {
		return deny(casemate.Invalid, err.fix, "%s", err.what)
	}
	rate := t.profile.Rate
	if wait := t.counts.minute.wait(now, rate.PerMinute); wait > 0 {
		return deny(casemate.Busy, fmt.Sprintf("try again in %s", wait.Round(time.Second)+time.Second), "rate: %d calls a minute is its limit", rate.PerMinute)
	}
	if wait := t.counts.day.wait(now, rate.PerDay); wait > 0 {
		return deny(casemate.Busy, fmt.Sprintf("try again in %s", wait.Round(time.Minute)+time.Minute), "rate: %d calls a day is its limit", rate.PerDay)
	}
	if s != nil && rate.PerSession > 0 && s.calls[t.Name] >= rate.PerSession {
		return deny(casemate.Denied, "begin another session", "rate: %d calls a session is its limit", rate.PerSession)
	}
	if most := waitingPerTool * r.cfg.PerTool; crowded(t.counts.inside, most, s != nil && s.busy <= 1) {
		return deny(casemate.Busy, "try again when some are over", "%d calls of it run or wait, which is the limit", most)
	}
	if s != nil && t.profile.Scope == casemate.ScopeSession {
		most := waitingPerGuest
		if t.Run.MCP != nil {
			most += perServer
		}
		if seat := s.seats[seatKey(t)]; seat != nil && seat.inside > most {
			return deny(casemate.Busy, "wait for the answer of one call before the next", "%d calls wait for its guest in this session, which is the limit", waitingPerGuest)
		}
	}
	return &casemate.Decision{Effect: "allow", Reasons: []string{
		"the arguments are what its parameters ask for", "its rates and the bounds on calls are kept", "it runs under its own profile, and nothing wider",
	}}, nil
}

// book counts a call that was allowed; r.mu is held.
func (r *Router) book(t *tool, s *session) {
	now := r.cfg.Now().Sub(r.epoch)
	t.counts.minute.take(now, t.profile.Rate.PerMinute)
	t.counts.day.take(now, t.profile.Rate.PerDay)
	t.counts.inside++
	if s != nil {
		s.calls[t.Name]++
	}
}

type argvError struct{ what, fix string }

// checkArgv keeps arguments from being what they are not when they become
// elements of a command line: NUL ends an element early, and a value that
// begins with "-" and is an element alone is an option, unless a literal "--"
// stands before it or its role says that it is meant so.
func checkArgv(t *casemate.Tool, pairs []guest.Pair) *argvError {
	nul := func(name string) *argvError {
		return &argvError{quote(name) + ": holds a NUL byte, which ends a command-line argument", "pass it without"}
	}
	if t.Run.Shell != nil {
		if v, _ := guest.Get(pairs, "command"); strings.ContainsRune(v, 0) {
			return nul("command")
		}
	}
	var elements []string
	switch r := t.Run; {
	case r.Exec != nil:
		elements = r.Exec.Command
	case r.Wasm != nil:
		elements = r.Wasm.Args
	}
	dashes := slices.Index(elements, "--")
	for i, el := range elements {
		name, _ := casemate.Element(el)
		if name == "" {
			continue
		}
		v, ok := guest.Get(pairs, name)
		if !ok {
			continue
		}
		if strings.ContainsRune(v, 0) {
			return nul(name)
		}
		if strings.HasPrefix(v, "-") && t.Roles[name] != casemate.RoleOption && (dashes < 0 || dashes > i) {
			return &argvError{fmt.Sprintf("%s: %s begins with \"-\", which would be an option of the program", quote(name), quote(v)),
				"pass a value that begins otherwise; or put \"--\" before it in the command, or give it the role option, in the manifest"}
		}
	}
	return nil
}

// pairsOf are the arguments as the guest gets them: strings as they are, every
// other value as its JSON text.
func pairsOf(args map[string]any) ([]guest.Pair, error) {
	if len(args) > guest.MaxPairs {
		return nil, fmt.Errorf("there are more than %d arguments", guest.MaxPairs)
	}
	var ps []guest.Pair
	total := 2
	for k, v := range args {
		s, isText := v.(string)
		if !isText {
			b, err := encode(v)
			if err != nil {
				return nil, err
			}
			s = string(b)
		}
		ps = append(ps, guest.Pair{Key: k, Value: s})
		total += 6 + len(k) + len(s)
	}
	if total > guest.MaxCall {
		return nil, errors.New("the arguments are longer than a guest is sent")
	}
	slices.SortFunc(ps, func(a, b guest.Pair) int { return strings.Compare(a.Key, b.Key) })
	return ps, nil
}
