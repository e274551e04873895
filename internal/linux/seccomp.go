package linux

import (
	"crypto/sha256"
	"strconv"

	"golang.org/x/sys/unix"
)

// A Filter is a seccomp program: what each system call of a process gets. The
// zero Filter cannot be installed.
type Filter struct {
	prog []unix.SockFilter
}

// Digest names the program: "sha256:" and the digest of its bytes.
func (f Filter) Digest() string {
	const hex = "0123456789abcdef"
	sum := sha256.Sum256(f.bytes())
	b := []byte("sha256:")
	for _, x := range sum {
		b = append(b, hex[x>>4], hex[x&15])
	}
	return string(b)
}

func (f Filter) bytes() []byte {
	var b []byte
	for _, i := range f.prog {
		b = append(b, byte(i.Code), byte(i.Code>>8), i.Jt, i.Jf, byte(i.K), byte(i.K>>8), byte(i.K>>16), byte(i.K>>24))
	}
	return b
}

// ParseFilter is the inverse of Bytes. It is for a program of one's own: the
// kernel alone checks it.
func ParseFilter(b []byte) (Filter, error) {
	if len(b) == 0 || len(b)%8 != 0 || len(b)/8 > unix.BPF_MAXINSNS {
		return Filter{}, &Error{Op: "read a seccomp filter of " + strconv.Itoa(len(b)) + " bytes", Err: unix.EINVAL}
	}
	prog := make([]unix.SockFilter, 0, len(b)/8)
	for ; len(b) > 0; b = b[8:] {
		prog = append(prog, unix.SockFilter{Code: uint16(b[0]) | uint16(b[1])<<8, Jt: b[2], Jf: b[3],
			K: uint32(b[4]) | uint32(b[5])<<8 | uint32(b[6])<<16 | uint32(b[7])<<24})
	}
	return Filter{prog}, nil
}

// Install puts the filter on all threads of this process and on what it
// starts, for good. It needs no_new_privs.
func (f Filter) Install() error {
	if len(f.prog) == 0 || len(f.prog) > unix.BPF_MAXINSNS {
		return &Error{Op: "install seccomp filter of " + strconv.Itoa(len(f.prog)) + " instructions", Err: unix.EINVAL}
	}
	return install(f.prog)
}
