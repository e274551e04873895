// Package spawn is the protocol between the router and the spawner: one
// message a packet on a unix SOCK_SEQPACKET pair, with descriptors beside it.
// The router is assumed hijacked: a request can name a pinned tool, narrow
// its grant, give it inputs, stop, continue and end a sandbox, ask for a commit and append a
// record, and nothing else has a message.
package spawn

import (
	"errors"

	"github.com/casemate/casemate/internal/codec"
)

// MaxPacket bounds a message; a record is the longest.
const MaxPacket = 64 << 10

// MaxRecord bounds one line of the record file, in bytes.
const MaxRecord = 48 << 10

// Op is the first number of a message.
type Op uint64

// The messages. Every request of the router carries a number that its answer
// repeats; Exited and Plan have none.
const (
	OpStart     Op = 1 + iota // router: Start → Started with the guest's descriptor, or Failed
	OpCommit                  // router: Commit → Committed, or Failed
	OpKill                    // router: sandbox id → Done when nothing of it is left
	OpRecord                  // router: one line → Done, or Failed
	OpProbe                   // router and operator → Probed
	OpPlan                    // operator, with a descriptor of the plan → Done, or Failed
	OpUndo                    // operator: call → Committed, or Failed
	OpStarted                 // spawner
	OpCommitted               //
	OpDone                    //
	OpProbed                  //
	OpFailed                  //
	OpExited                  // spawner, unasked: a sandbox is gone
	OpFreeze                  // router: Freeze → Done, or Failed
	OpNarrow                  // router: Narrow → Narrowed, or Failed
	OpNarrowed                // spawner: Started, without descriptors
	OpInput                   // router: Input → Done with a descriptor to write it by, or Failed
)

// A Start asks for a sandbox of a pinned tool. Zero limits are the plan's;
// a larger one than the plan's is refused.
type Start struct {
	Digest    string
	Memory    int64
	Disk      int64
	Processes int64
	MilliCPU  int64
	Without   []string // mounts, by At
	Inputs    bool     // make a place for inputs
}

// An Input asks for one file of a sandbox that was started for inputs.
type Input struct {
	ID   uint64
	Name string
}

// A Narrow gives a sandbox that is parked less than it was started with, once.
type Narrow struct {
	ID    uint64
	Start Start // its Digest is that of the sandbox, or ""
}

// A Started says that the guest waits, and what is enforced.
type Started struct {
	ID       uint64
	Pid      int64
	Enforced Enforced
}

// Enforced is casemate.Enforced on the wire.
type Enforced struct {
	Namespaces []string
	Seccomp    string
	Landlock   int64
	NoNewPrivs bool
	Runtime    string // of a container or a module; "" is none
	Uid        string
	Limits     []Limit // memory, processes, cpu, disk
	Degraded   []string
}

// A Limit is one limit that is held.
type Limit struct {
	Name  string
	Value int64
	By    string
}

// A Commit carries what a guest wrote to the host.
type Commit struct {
	ID    uint64
	Call  string
	Since int64 // CLOCK_REALTIME_COARSE at the claim, nanoseconds
}

// A Freeze makes a sandbox stand still, or lets it go on.
type Freeze struct {
	ID uint64
	On bool
}

// A Change is casemate.Change on the wire.
type Change struct{ Path, Host, Did, Why, Kept string }

// An Exited says how a sandbox ended.
type Exited struct {
	ID     uint64
	Status int64
	Signal int64
	Limit  string
	CPU    int64 // nanoseconds
	Memory int64 // bytes
}

// A Failed says why a request was not carried out.
type Failed struct {
	Kind    string // casemate.Kind
	Control string // of unsupported: what is missing
	What    string
	Fix     string
}

func (f *Failed) Error() string { return f.What }

// A Control is one row of a probe.
type Control struct{ Name, State, Why, Fix string }

// A Message is one packet, decoded: the field that Op names is set.
type Message struct {
	Op      Op
	Seq     uint64
	ID      uint64   // of kill
	Start   Start    //
	Commit  Commit   //
	Freeze  Freeze   //
	Narrow  Narrow   //
	Input   Input    //
	Line    string   // of record; the call of undo; the backend of probe, or ""
	Started Started  //
	Changes []Change // of committed
	Probed  []Control
	Failed  Failed
	Exited  Exited
}

// Encode returns m as one packet.
func (m *Message) Encode() ([]byte, error) {
	w := &codec.Writer{}
	w.Uint(uint64(m.Op))
	w.Uint(m.Seq)
	switch m.Op {
	case OpStart:
		m.Start.encode(w)
	case OpNarrow:
		w.Uint(m.Narrow.ID)
		m.Narrow.Start.encode(w)
	case OpCommit:
		w.Uint(m.Commit.ID)
		w.String(m.Commit.Call)
		w.Int(m.Commit.Since)
	case OpInput:
		w.Uint(m.Input.ID)
		w.String(m.Input.Name)
	case OpFreeze:
		w.Uint(m.Freeze.ID)
		w.Bool(m.Freeze.On)
	case OpKill:
		w.Uint(m.ID)
	case OpRecord, OpUndo, OpProbe:
		w.String(m.Line)
	case OpStarted, OpNarrowed:
		w.Uint(m.Started.ID)
		w.Int(m.Started.Pid)
		m.Started.Enforced.encode(w)
	case OpCommitted:
		codec.List(w, m.Changes, func(c Change) {
			for _, s := range []string{c.Path, c.Host, c.Did, c.Why, c.Kept} {
				w.String(s)
			}
		})
	case OpProbed:
		codec.List(w, m.Probed, func(c Control) {
			for _, s := range []string{c.Name, c.State, c.Why, c.Fix} {
				w.String(s)
			}
		})
	case OpFailed:
		for _, s := range []string{m.Failed.Kind, m.Failed.Control, m.Failed.What, m.Failed.Fix} {
			w.String(s)
		}
	case OpExited:
		e := m.Exited
		w.Uint(e.ID)
		w.Int(e.Status)
		w.Int(e.Signal)
		w.String(e.Limit)
		w.Int(e.CPU)
		w.Int(e.Memory)
	}
	if len(w.B) > MaxPacket {
		return nil, errors.New("message is longer than 64 KiB")
	}
	return w.B, nil
}

func (s *Start) encode(w *codec.Writer) {
	w.String(s.Digest)
	w.Int(s.Memory)
	w.Int(s.Disk)
	w.Int(s.Processes)
	w.Int(s.MilliCPU)
	w.Strings(s.Without)
	w.Bool(s.Inputs)
}

func decodeStart(r *codec.Reader) Start {
	return Start{r.String(), r.Int(), r.Int(), r.Int(), r.Int(), r.Strings(), r.Bool()}
}

func (e *Enforced) encode(w *codec.Writer) {
	w.Strings(e.Namespaces)
	w.String(e.Seccomp)
	w.Int(e.Landlock)
	w.Bool(e.NoNewPrivs)
	w.String(e.Runtime)
	w.String(e.Uid)
	codec.List(w, e.Limits, func(l Limit) { w.String(l.Name); w.Int(l.Value); w.String(l.By) })
	w.Strings(e.Degraded)
}

func decodeEnforced(r *codec.Reader) Enforced {
	return Enforced{
		Namespaces: r.Strings(), Seccomp: r.String(), Landlock: r.Int(), NoNewPrivs: r.Bool(), Runtime: r.String(), Uid: r.String(),
		Limits:   codec.ReadList(r, func() Limit { return Limit{Name: r.String(), Value: r.Int(), By: r.String()} }),
		Degraded: r.Strings(),
	}
}

// Decode reads one packet.
func Decode(b []byte) (*Message, error) {
	r := &codec.Reader{B: b}
	m := &Message{Op: Op(r.Uint()), Seq: r.Uint()}
	switch m.Op {
	case OpStart:
		m.Start = decodeStart(r)
	case OpNarrow:
		m.Narrow = Narrow{r.Uint(), decodeStart(r)}
	case OpCommit:
		m.Commit = Commit{r.Uint(), r.String(), r.Int()}
	case OpInput:
		m.Input = Input{r.Uint(), r.String()}
	case OpFreeze:
		m.Freeze = Freeze{r.Uint(), r.Bool()}
	case OpKill:
		m.ID = r.Uint()
	case OpRecord, OpUndo, OpProbe:
		m.Line = r.String()
	case OpStarted, OpNarrowed:
		m.Started = Started{ID: r.Uint(), Pid: r.Int(), Enforced: decodeEnforced(r)}
	case OpCommitted:
		m.Changes = codec.ReadList(r, func() Change { return Change{r.String(), r.String(), r.String(), r.String(), r.String()} })
	case OpProbed:
		m.Probed = codec.ReadList(r, func() Control { return Control{r.String(), r.String(), r.String(), r.String()} })
	case OpFailed:
		m.Failed = Failed{r.String(), r.String(), r.String(), r.String()}
	case OpExited:
		m.Exited = Exited{r.Uint(), r.Int(), r.Int(), r.String(), r.Int(), r.Int()}
	case OpPlan, OpDone:
	default:
		return nil, codec.ErrMalformed
	}
	return m, r.End()
}
