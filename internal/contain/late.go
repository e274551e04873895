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
	LateReaped = 7 // ← the wait status
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

// A Program is being built; base is where its packet will lie.
type Program struct {
	base  uint64
	room  int64 // of the tool's result, in bytes
	data  []byte
	calls [][8]int64
	steps []Step // of each call, for errors
	step  Step
	used  [LateFD]bool // descriptors that are open while it runs
}

func newProgram(base uint64) *Program {
	p := &Program{base: base, data: make([]byte, LateHeader)}
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

// Packet returns the packet that asks for child id; fds is how many descriptors
// come with it.
func (p *Program) Packet(id uint64, fds int) []byte {
	for len(p.data)%8 != 0 {
		p.data = append(p.data, 0)
	}
	copy(p.data, words(LateFork, id, uint64(len(p.data)), uint64(len(p.calls)), uint64(fds), uint64(p.room)))
	b := p.data
	for _, c := range p.calls {
		for _, w := range c {
			b = binary.LittleEndian.AppendUint64(b, uint64(w))
		}
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
