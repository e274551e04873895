package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
)

// The bounds of background calls; see the package comment.
const (
	maxJobs         = 128
	maxRunning      = 64
	maxRunningOfOne = 32
	keptJob         = time.Hour
)

// jobs are the background calls that are known.
type jobs struct {
	running sync.WaitGroup

	mu     sync.Mutex
	closed bool
	all    map[casemate.CallID]*job
}

// A job is one background call.
type job struct {
	id      casemate.CallID
	owner   gateway.Caller
	tool    casemate.ToolName
	session string // as the caller names it
	key     string
	asked   [sha256.Size]byte // the tool and the arguments
	started time.Time
	cancel  context.CancelFunc
	printed printed
	events  chan casemate.Event // nil where it is no command
	input   *input              // nil where it is not open
	over    chan struct{}       // closed when what follows is there

	ended   time.Time
	outcome *answer
}

// A jobView is what a caller learns of its background call.
type jobView struct {
	Call    casemate.CallID   `json:"call"`
	Receipt casemate.CallID   `json:"receipt"`
	Status  string            `json:"status"` // running, done, or the kind of the error
	Tool    casemate.ToolName `json:"tool"`
	Session string            `json:"session,omitempty"`
	Started time.Time         `json:"started"`
	Ended   *time.Time        `json:"ended,omitempty"`
	Output  span              `json:"output"`
	Outcome *answer           `json:"outcome,omitempty"`
}

// A span is the offsets of the output that is kept.
type span struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

func (j *job) running() bool {
	select {
	case <-j.over:
		return false
	default:
		return true
	}
}

func (j *job) view() jobView {
	v := jobView{Call: j.id, Receipt: j.id, Status: "running", Tool: j.tool, Session: j.session, Started: j.started}
	v.Output.From, v.Output.To = j.printed.span()
	if !j.running() {
		v.Status, v.Ended, v.Outcome = j.outcome.Status, &j.ended, j.outcome
		v.Receipt = cmp.Or(casemate.CallID(j.outcome.Receipt), j.id)
	}
	return v
}

// of returns the background call of that caller, or an Error of kind Gone:
// it never was, or is forgotten, or was another process's.
func (s *jobs) of(caller gateway.Caller, id string) (*job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.all[casemate.CallID(id)]; j != nil && j.owner == caller {
		return j, nil
	}
	return nil, &casemate.Error{Op: "call", Kind: casemate.Gone, Err: errors.New("no background call of yours has this id any more"), Fix: "the record of the call has its outcome"}
}

func (s *jobs) list(caller gateway.Caller) []*job {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*job
	for _, j := range s.all {
		if j.owner == caller {
			list = append(list, j)
		}
	}
	slices.SortFunc(list, func(a, b *job) int {
		return cmp.Or(a.started.Compare(b.started), cmp.Compare(a.id, b.id))
	})
	return list
}

// close lets no more in, and returns when those that run are over.
func (s *jobs) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.running.Wait()
}

// add takes j in, as one that runs, or returns the one that its key stands for
// already.
func (s *jobs) add(j *job) (*job, error) {
	busy := func(n int) error {
		return &casemate.Error{Op: "call", Kind: casemate.Busy, Err: fmt.Errorf("%d background calls run, which is the limit", n), Fix: "try again when some are over"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	running, mine := 0, 0
	var oldest *job // of those that are over, mine first
	for id, o := range s.all {
		// What was asked otherwise the router compares, and what never ran it runs.
		ran := o.running() || httpStatus(o.outcome.Error) == http.StatusOK
		if ran && j.key != "" && o.owner == j.owner && o.session == j.session && o.key == j.key && o.asked == j.asked {
			return o, nil
		}
		switch {
		case o.running():
			running++
			if o.owner == j.owner {
				mine++
			}
		case time.Since(o.ended) > keptJob:
			delete(s.all, id)
		case oldest == nil, o.owner == j.owner && oldest.owner != j.owner,
			(o.owner == j.owner) == (oldest.owner == j.owner) && o.ended.Before(oldest.ended):
			oldest = o
		}
	}
	switch {
	case s.closed:
		return nil, &casemate.Error{Op: "call", Kind: casemate.Busy, Err: errors.New("the server shuts down"), Fix: "start it again"}
	case mine >= maxRunningOfOne:
		return nil, busy(mine)
	case running >= maxRunning:
		return nil, busy(running)
	case len(s.all) >= maxJobs:
		delete(s.all, oldest.id) // some are over: more are kept than may run
	}
	s.all[j.id] = j
	s.running.Add(1)
	return j, nil
}

// An input is the standard input of a background call, while it is open.
type input struct {
	turn  chan struct{} // whoever fills it writes
	read  *io.PipeReader
	write *io.PipeWriter
}

func newInput() *input {
	in := &input{turn: make(chan struct{}, 1)}
	in.read, in.write = io.Pipe()
	return in
}

// command says whether a tool's guest is a command, which can be spoken to
// while it runs.
func command(t *casemate.Tool) bool { return t.Run.Exec != nil || t.Run.Shell != nil }

// begin begins a background call of t, or returns the one that its key stands
// for.
func (a *API) begin(c gateway.Credential, t *casemate.Tool, q *request) (*job, error) {
	if q.open && !command(t) {
		return nil, invalid("leave it out", "stdin: only an exec or shell tool has standard input while it runs")
	}
	q.ID = gateway.NewCall()
	j := &job{id: q.ID, owner: c.Name, tool: q.Tool, session: q.session, key: q.Key, started: time.Now(),
		over:  make(chan struct{}),
		asked: sha256.Sum256([]byte(string(q.Tool) + "\x00" + string(q.Arguments)))}
	ctx, cancel := context.WithCancel(a.ctx)
	j.cancel = cancel
	if command(t) {
		j.events = make(chan casemate.Event, 16)
		q.Events = j.events
	}
	if t.Run.MCP == nil {
		q.Output = func(stream int, b []byte) error { j.printed.add(stream, b); return nil }
	}
	if q.open {
		j.input = newInput()
		q.Stdin = j.input.read
	}
	if was, err := a.jobs.add(j); err != nil || was != j {
		cancel()
		return was, err
	}
	go func() {
		defer a.jobs.running.Done()
		defer cancel()
		o, err := a.run(ctx, c, q)
		out := answer{}
		if err != nil {
			out = failure(err)
		} else {
			out = answerOf(o)
		}
		if j.input != nil {
			j.input.read.CloseWithError(errOver)
			j.input.write.CloseWithError(errOver)
		}
		j.printed.end()
		a.jobs.mu.Lock()
		j.outcome, j.ended = &out, time.Now()
		close(j.over)
		a.jobs.mu.Unlock()
	}()
	return j, nil
}

var errOver = errors.New("the call is over")
