package linux

import (
	"slices"

	"golang.org/x/sys/unix"
)

// A decision is what becomes of a system call: an action, or a question about
// it whose answer leads to further decisions. A filter is one such tree, and
// assemble writes it as a program. Decisions that are equal may be one value.
type decision struct {
	action uint32 // what seccomp returns; 0, which would kill a thread, is never used

	ask       field
	mask      uint32    // of the field, what counts
	answers   []answer  // each value once
	otherwise *decision // for every other value
}

type answer struct {
	value uint32
	then  *decision
}

// A field is the offset of a word in struct seccomp_data. Of an argument it is
// the low half: the kernel takes every argument that is asked about here as an
// int, or ignores its high half, and a comparison of all 64 bits would be
// passed by a number with high bits that the kernel then drops
// (CVE-2019-10063).
type field uint32

const (
	fieldCall field = 0
	fieldArch field = 4
)

// Both architectures are little-endian, so the low half comes first.
func arg(n int) field { return field(16 + 8*n) }

func act(action uint32) *decision { return &decision{action: action} }

func errno(e unix.Errno) *decision { return act(unix.SECCOMP_RET_ERRNO | uint32(e)) }

// on asks about the bits of mask in a field: then for one of the values,
// otherwise for any other.
func on(f field, mask uint32, then, otherwise *decision, values ...uint32) *decision {
	d := &decision{ask: f, mask: mask, otherwise: otherwise}
	for _, v := range values {
		d.answers = append(d.answers, answer{v, then})
	}
	return d
}

const whole = ^uint32(0)

// An assembler writes a program from its end to its start, so that the target
// of every jump, which can only go forward, is known.
type assembler struct {
	rev     []unix.SockFilter // the last instruction first
	actions map[uint32]label
	asked   map[*decision]label
}

// A label is the place of an instruction, counted from the end.
type label int

// assemble returns the program of a tree.
func assemble(d *decision) []unix.SockFilter {
	a := &assembler{actions: map[uint32]label{}, asked: map[*decision]label{}}
	a.decide(d)
	slices.Reverse(a.rev)
	return a.rev
}

func (a *assembler) emit(i unix.SockFilter) label {
	a.rev = append(a.rev, i)
	return label(len(a.rev) - 1)
}

// reach is how far a conditional jump goes, less the two instructions that may
// come between the choice of its targets and the jump.
const reach = 255 - 2

func (a *assembler) near(l label) bool { return len(a.rev)-int(l)-1 <= reach }

// decide writes d, or finds it near enough ahead, and returns its start.
func (a *assembler) decide(d *decision) label {
	if d.answers == nil {
		l, ok := a.actions[d.action]
		if !ok || !a.near(l) {
			l = a.emit(unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: d.action})
			a.actions[d.action] = l
		}
		return l
	}
	spans := ranges(d)
	if len(spans) == 1 {
		return a.decide(spans[0].then)
	}
	l, ok := a.asked[d]
	if !ok {
		a.tree(spans) // ends in what was written last, and so comes next
		if d.mask != whole {
			a.emit(unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: d.mask})
		}
		l = a.emit(unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(d.ask)})
		a.asked[d] = l
	}
	return l
}

// A span is a decision for every value from its first up to the next span's.
type span struct {
	first uint32
	then  *decision
}

// ranges spreads the answers of d over all values, those beside each other with
// one decision as one.
func ranges(d *decision) []span {
	answers := slices.Clone(d.answers)
	slices.SortFunc(answers, func(a, b answer) int {
		if a.value < b.value {
			return -1
		}
		return 1
	})
	spans := []span{{0, d.otherwise}}
	put := func(first uint32, then *decision) {
		last := &spans[len(spans)-1]
		switch {
		case last.first == first:
			last.then = then
		case !same(last.then, then):
			spans = append(spans, span{first, then})
		}
		if n := len(spans); n > 1 && same(spans[n-1].then, spans[n-2].then) {
			spans = spans[:n-1]
		}
	}
	for _, a := range answers {
		put(a.value, a.then)
		if a.value != whole {
			put(a.value+1, d.otherwise)
		}
	}
	return spans
}

func same(a, b *decision) bool {
	return a == b || a.answers == nil && b.answers == nil && a.action == b.action
}

// tree writes a binary search over spans: one comparison for each halving.
func (a *assembler) tree(spans []span) label {
	if len(spans) == 1 {
		return a.decide(spans[0].then)
	}
	middle := len(spans) / 2
	high := a.tree(spans[middle:])
	low := a.tree(spans[:middle])
	if !a.near(high) {
		high = a.jump(high)
	}
	if !a.near(low) {
		low = a.jump(low)
	}
	at := len(a.rev)
	return a.emit(unix.SockFilter{
		Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K,
		Jt:   uint8(at - int(high) - 1),
		Jf:   uint8(at - int(low) - 1),
		K:    spans[middle].first,
	})
}

func (a *assembler) jump(to label) label {
	return a.emit(unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(a.rev) - int(to) - 1)})
}
