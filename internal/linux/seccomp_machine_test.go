package linux

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// A data is struct seccomp_data: what a filter sees.
type data struct {
	nr, arch uint32
	args     [6]uint64
}

func (d data) word(f field) uint32 {
	switch {
	case f == fieldCall:
		return d.nr
	case f == fieldArch:
		return d.arch
	}
	n := (f - 16) / 8
	if f%8 == 0 {
		return uint32(d.args[n])
	}
	return uint32(d.args[n] >> 32)
}

// execute is the part of the kernel's classic BPF machine that programs here
// use. It also returns how many instructions ran.
func execute(t testing.TB, prog []unix.SockFilter, d data) (action uint32, steps int) {
	t.Helper()
	var a uint32
	for pc := 0; pc < len(prog); pc++ {
		i := prog[pc]
		steps++
		jump := func(yes bool) {
			if yes {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		}
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = d.word(field(i.K))
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= i.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(a >= i.K)
		case unix.BPF_RET | unix.BPF_K:
			return i.K, steps
		default:
			t.Fatalf("instruction %d: %+v", pc, i)
		}
	}
	t.Fatal("the program has no end")
	return 0, 0
}

// answerOf decides by the tree, as its definition says.
func (d *decision) answerOf(s data) uint32 {
	for d.answers != nil {
		next := d.otherwise
		for _, a := range d.answers {
			if a.value == s.word(d.ask)&d.mask {
				next = a.then
			}
		}
		d = next
	}
	return d.action
}

// randomTree is a tree over few fields and clustered values, so that ranges
// touch, repeat and cover the ends; decisions are shared between branches.
func randomTree(r *rand.Rand, depth int, shared *[]*decision) *decision {
	if len(*shared) > 0 && r.IntN(4) == 0 {
		return (*shared)[r.IntN(len(*shared))]
	}
	if depth == 0 || r.IntN(5) == 0 {
		return act(unix.SECCOMP_RET_ERRNO | uint32(1+r.IntN(40)))
	}
	d := &decision{
		ask:       []field{fieldCall, fieldArch, arg(0), arg(2), arg(5)}[r.IntN(5)],
		mask:      []uint32{whole, 0xff, 0xf0f}[r.IntN(3)],
		otherwise: randomTree(r, depth-1, shared),
	}
	seen := map[uint32]bool{}
	for range 1 + r.IntN(1<<(1+2*depth)) {
		v := randomValue(r)
		if !seen[v] {
			seen[v] = true
			d.answers = append(d.answers, answer{v, randomTree(r, depth-1, shared)})
		}
	}
	*shared = append(*shared, d)
	return d
}

func randomValue(r *rand.Rand) uint32 {
	switch r.IntN(8) {
	case 0:
		return whole
	case 1:
		return r.Uint32()
	}
	return uint32(r.IntN(600))
}

// checkTree compares a tree with its program, on values around those it asks
// about.
func checkTree(t *testing.T, seed uint64) (instructions int) {
	r := rand.New(rand.NewPCG(seed, 1))
	tree := randomTree(r, 3, &[]*decision{})
	prog := assemble(tree)
	for range 200 {
		d := data{nr: randomValue(r), arch: randomValue(r)}
		for i := range d.args {
			d.args[i] = uint64(r.Uint32())<<32 | uint64(randomValue(r))
		}
		if got, _ := execute(t, prog, d); got != tree.answerOf(d) {
			t.Fatalf("seed %d: %+v gives %#x, the tree says %#x", seed, d, got, tree.answerOf(d))
		}
	}
	return len(prog)
}

func TestAssembledProgramDecidesAsItsTree(t *testing.T) {
	long := 0
	for seed := range uint64(60) {
		if checkTree(t, seed) > 1000 {
			long++
		}
	}
	if long < 5 {
		t.Fatalf("only %d programs were long enough to need far jumps", long)
	}
}

func FuzzAssemble(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { checkTree(t, seed) })
}
