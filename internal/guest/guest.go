// Package guest is the wire protocol between the router and a guest, version
// 1. A guest is hostile: everything that it sends is bounded before it is
// kept, and a guest that breaks the protocol costs only its own call.
//
// A frame is a type (1 byte), the number of the call that it belongs to (4),
// the length of its body (4), and the body; numbers are big-endian. The guest
// sends Ready (call 0) once. The router sends Call; the guest answers with
// any of Stdout, Stderr, Value, File and Failure, and ends with Done. Frames
// of another call than the current one are a breach.
//
// Open is a Call whose standard input stays open: the router sends Stdin
// frames, at most Window bytes ahead of what the guest has answered with Taken,
// which of a quarter of that may wait for output, and an empty one at the end; and Signal. A Size frame of the same number
// before Open asks for a terminal, on which standard error is standard output,
// and after it says that its size changed. An MCP server is one Open that lasts
// as long as its sandbox: it runs from Ready on, and what it says waits until
// then. What a guest cannot take so is a Failure.
//
// Files is a Call that the guest's init answers itself, about its own files,
// with the tool's own rights: read with Stdout, write with Taken, list and
// stat with Value (see Entry), and what went wrong with a Failure that begins
// with one of the words of this package and a colon. Stdin, Signal and Size of
// a call that has ended meanwhile are no breach, and are dropped.
package guest

import (
	"encoding/binary"
	"errors"
	"io"
)

// Arguments is the key of the one pair of a Call that a function of a WebAssembly
// module gets: all arguments, as one JSON object.
const Arguments = "arguments"

// Version is what a guest says in Ready.
const Version = 1

// Type is the first byte of a frame.
type Type byte

// The frames.
const (
	Call    Type = 'C' // router: Pairs, the arguments
	Open    Type = 'N' // router: Pairs; its standard input follows
	Stdin   Type = 'I' // router: bytes, empty at the end
	Signal  Type = 'S' // router: the signal's number, 1 byte, to the tool's processes
	Size    Type = 'W' // router: columns and rows of the terminal, 2 bytes each
	Files   Type = 'K' // router: Pairs "op" (read, write, list, stat, remove), "path"; of write the data follows as Stdin
	Taken   Type = 'T' // guest: bytes of Stdin that it took, 4 bytes
	Ready   Type = 'R' // guest: Pairs with "version" and "runtime"
	Stdout  Type = 'O' // guest: bytes
	Stderr  Type = 'E' // guest: bytes
	Value   Type = 'V' // guest: text of the last expression's value; of Files, entries
	File    Type = 'F' // guest: Pairs with "name", "mime", "data"
	Failure Type = 'X' // guest: text; the tool failed
	Done    Type = 'D' // guest: exit status, 4 bytes; nothing follows
)

// The bounds of a frame's body, in bytes, and of its pairs.
const (
	MaxCall  = 16 << 20 // router to guest
	MaxReply = 1 << 20  // guest to router, File aside
	MaxPairs = 1024
	Window   = 256 << 10 // of Stdin
	header   = 9
)

// A Frame is one message.
type Frame struct {
	Type Type
	Call uint32
	Body []byte
}

// ErrProtocol is wrapped by every breach of the protocol.
var ErrProtocol = errors.New("guest broke the protocol")

func breach(what string) error { return errors.Join(ErrProtocol, errors.New(what)) }

// Append appends the encoding of f to b.
func Append(b []byte, f Frame) []byte {
	b = append(b, byte(f.Type))
	b = binary.BigEndian.AppendUint32(b, f.Call)
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Body)))
	return append(b, f.Body...)
}

// Write writes f in one call of w.Write.
func Write(w io.Writer, f Frame) error {
	if len(f.Body) > MaxCall {
		return errors.New("frame is longer than 16 MiB")
	}
	_, err := w.Write(Append(make([]byte, 0, header+len(f.Body)), f))
	return err
}

// Read reads one frame whose body is at most max bytes. It allocates no more
// than what has arrived, rounded up to 64 KiB.
func Read(r io.Reader, max int) (Frame, error) {
	return ReadFunc(r, func(_ Type, n int64) error {
		if n > int64(max) {
			return breach("a frame is longer than allowed")
		}
		return nil
	})
}

// ReadFunc is Read with a bound that depends on the frame: an error of allow,
// which sees the type and the length of the body, is returned before the body
// is read.
func ReadFunc(r io.Reader, allow func(t Type, n int64) error) (Frame, error) {
	return ReadInto(r, nil, allow)
}

// ReadInto is ReadFunc for who keeps no body: it is read into buf, where that
// is long enough.
func ReadInto(r io.Reader, buf []byte, allow func(t Type, n int64) error) (Frame, error) {
	var h [header]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Frame{}, err
	}
	f := Frame{Type: Type(h[0]), Call: binary.BigEndian.Uint32(h[1:])}
	n := int64(binary.BigEndian.Uint32(h[5:]))
	if err := allow(f.Type, n); err != nil {
		return Frame{}, err
	}
	if n <= int64(cap(buf)) {
		f.Body = buf[:n]
		_, err := io.ReadFull(r, f.Body)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return f, err
	}
	const step = 64 << 10
	for int64(len(f.Body)) < n {
		part := make([]byte, min(step, n-int64(len(f.Body))))
		if _, err := io.ReadFull(r, part); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return Frame{}, err
		}
		if f.Body == nil {
			f.Body = part
		} else {
			f.Body = append(f.Body, part...)
		}
	}
	return f, nil
}

// A Pair is one named value.
type Pair struct{ Key, Value string }

// Get returns the value of the first pair of that key.
func Get(ps []Pair, key string) (string, bool) {
	for _, p := range ps {
		if p.Key == key {
			return p.Value, true
		}
	}
	return "", false
}

// AppendPairs encodes ps: their count (2 bytes), then for each the key's
// length (2), the key, the value's length (4), the value.
func AppendPairs(b []byte, ps []Pair) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(ps)))
	for _, p := range ps {
		b = binary.BigEndian.AppendUint16(b, uint16(len(p.Key)))
		b = append(b, p.Key...)
		b = binary.BigEndian.AppendUint32(b, uint32(len(p.Value)))
		b = append(b, p.Value...)
	}
	return b
}

// ParsePairs decodes what AppendPairs made; trailing bytes, a duplicate key
// and more than MaxPairs are errors.
func ParsePairs(b []byte) ([]Pair, error) {
	take := func(n int) (string, bool) {
		if n > len(b) {
			return "", false
		}
		s := string(b[:n])
		b = b[n:]
		return s, true
	}
	s, ok := take(2)
	if !ok {
		return nil, breach("pairs are cut short")
	}
	n := int(binary.BigEndian.Uint16([]byte(s)))
	if n > MaxPairs {
		return nil, breach("too many pairs")
	}
	var ps []Pair
	for range n {
		var p Pair
		k, ok1 := take(2)
		if ok1 {
			p.Key, ok1 = take(int(binary.BigEndian.Uint16([]byte(k))))
		}
		v, ok2 := take(4)
		if ok2 {
			p.Value, ok2 = take(int(binary.BigEndian.Uint32([]byte(v))))
		}
		if !ok1 || !ok2 {
			return nil, breach("pairs are cut short")
		}
		if _, dup := Get(ps, p.Key); dup {
			return nil, breach("a key stands twice")
		}
		ps = append(ps, p)
	}
	if len(b) > 0 {
		return nil, breach("bytes follow the pairs")
	}
	return ps, nil
}
