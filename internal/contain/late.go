package contain

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// A child of a template (runners/template.py) makes its own walls, in the
// memory of a forked interpreter, where no Go runs. What it does is computed by
// the spawner, as data: a Program is a list of system calls with every argument
// in place, and the one result that each may have. The child carries them out
// in order and ends at the first that gives another result.

// The packets between the spawner and a template, all numbers 8 bytes,
// little-endian. To the template: kind, id, and of Fork the offset and count of
// the calls, the count of descriptors, and the bytes that the tool's result may
// have. From it, and from its children: kind,
// id, and two values.
const (
	LateFork   = 1 // → fork a child, which carries the calls out
	LateReap   = 2 // → id is a process of the template's; → LateReaped
	LateHello  = 3 // ← where packets are put in the template's memory, and how long one may be
	LateForked = 4 // ← the number that the child has for the template, or minus an errno
	LateReady  = 5 // ← of the child: its walls are up; the upper folders come with it
	LateFailed = 6 // ← of the child: the call that failed, and its result
	LateReaped = 7 // ← the wait status, nanoseconds of processor time
)

// LateHeader is the length of a packet's head, in bytes.
const LateHeader = 48

// LateReport is the length of what a template and its children answer.
const LateReport = 32

// LateFD is the number of the first descriptor that came with LateFork, in the
// child: standard output and error, the guest's end of its pipe, then what the
// program uses.
const LateFD = 100

// LateFDs is how many descriptors may come with LateFork.
const LateFDs = 64

// A Program is what every child of one guest does. Two things differ from child
// to child, and Packet fills them in: its id, and its user.
type Program struct {
	base  uint64 // where its packet will lie
	room  int64  // of the tool's result, in bytes
	data  []byte
	calls [][8]int64
	steps []Step // of each call, for errors
	step  Step
	subs  []string     // folders that are new for each child, so far
	used  [LateFD]bool // descriptors that are open while it runs

	Seccomp  string // digest of the filter
	Landlock int64  // version of the kernel's interface

	ids   []int    // offsets of data with the id
	users [][2]int // call and argument with the user
	texts []int    // offsets of data with the user, in userDigits digits
}

// userDigits is how many digits a user has in a text.
const userDigits = 10

func newProgram(base uint64) *Program {
	p := &Program{base: base, data: make([]byte, LateHeader), ids: []int{8}}
	for fd := range 4 { // standard ones, and the connection to the spawner
		p.used[fd] = true
	}
	return p
}

// call adds a system call that must return want.
func (p *Program) call(want int64, nr int64, args ...any) {
	c := [8]int64{nr, 0, 0, 0, 0, 0, 0, want}
	for i, a := range args {
		switch a := a.(type) {
		case int:
			c[1+i] = int64(a)
		case uint64:
			c[1+i] = int64(a)
		case string:
			c[1+i] = int64(p.text(a))
		case []byte:
			c[1+i] = int64(p.bytes(a))
		default:
			panic("contain: bug: argument of a late call")
		}
	}
	p.calls = append(p.calls, c)
	p.steps = append(p.steps, p.step)
}

// open is call for one that returns a new descriptor: the lowest free one.
func (p *Program) open(nr int64, args ...any) int {
	fd := 0
	for p.used[fd] {
		fd++
	}
	p.used[fd] = true
	p.call(int64(fd), nr, args...)
	return fd
}

func (p *Program) close(fd int) {
	p.used[fd] = false
	p.call(0, unix.SYS_CLOSE, fd)
}

// bytes puts b into the packet and returns where it will lie.
func (p *Program) bytes(b []byte) uint64 {
	for len(p.data)%8 != 0 {
		p.data = append(p.data, 0)
	}
	at := p.base + uint64(len(p.data))
	p.data = append(p.data, b...)
	return at
}

func (p *Program) text(s string) uint64 { return p.bytes(append([]byte(s), 0)) }

// words is a structure of 64-bit numbers.
func words(ws ...uint64) []byte {
	var b []byte
	for _, w := range ws {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// Packet appends to b, which is empty, the packet that asks for child id, of a
// user as the template's user namespace numbers it; fds is how many descriptors
// come with it. It may be called from any goroutine once the program is whole.
func (p *Program) Packet(b []byte, id uint64, user, fds int) []byte {
	b = append(b, p.data...)
	for _, at := range p.ids {
		binary.LittleEndian.PutUint64(b[at:], id)
	}
	for _, at := range p.texts {
		for i, n := userDigits-1, user; i >= 0; i, n = i-1, n/10 {
			b[at+i] = byte('0' + n%10)
		}
	}
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	at := len(b)
	for _, w := range [...]struct{ at, v int }{{0, LateFork}, {16, at}, {24, len(p.calls)}, {32, fds}, {40, int(p.room)}} {
		binary.LittleEndian.PutUint64(b[w.at:], uint64(w.v))
	}
	for _, c := range p.calls {
		for _, w := range c {
			b = binary.LittleEndian.AppendUint64(b, uint64(w))
		}
	}
	for _, u := range p.users {
		binary.LittleEndian.PutUint64(b[at+64*u[0]+8*(1+u[1]):], uint64(user))
	}
	return b
}

// Failed is the report of a child whose call i gave result.
func (p *Program) Failed(i, result int64) *Report {
	if i < 0 || i >= int64(len(p.steps)) {
		return &Report{Step: "late", What: "the template broke its protocol"}
	}
	s := p.steps[i]
	r := &Report{Step: string(s.Kind), What: "unexpected result"}
	if result < 0 {
		errno := unix.Errno(-result)
		r.What, r.Errno = errno.Error(), int64(errno)
	}
	if s.Path != "" {
		r.What = "/" + s.Path + ": " + r.What
	}
	return r
}
