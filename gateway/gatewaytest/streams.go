package gatewaytest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/casemate/casemate/internal/guest"
)

// A guest of a command reads its standard input and signals with the words
//
//	cat               write standard input to standard output
//	err TEXT          write to standard error
//	signal            wait for a signal, and print its number
//
// and every guest has files, in memory: all beneath /denied are refused.

// inbox reads what belongs to the running call: standard input as a Reader,
// each piece of which is said to be taken.
type inbox struct {
	in   *bufio.Reader
	call uint32
	send func(guest.Type, uint32, string) bool
	left []byte
	over bool
}

func (b *inbox) Read(p []byte) (int, error) {
	for len(b.left) == 0 {
		if b.over {
			return 0, io.EOF
		}
		f, err := guest.Read(b.in, guest.MaxCall)
		if err != nil {
			return 0, err
		}
		if f.Call != b.call || f.Type != guest.Stdin {
			continue
		}
		b.over, b.left = len(f.Body) == 0, f.Body
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	b.send(guest.Taken, b.call, string(binary.BigEndian.AppendUint32(nil, uint32(n))))
	return n, nil
}

// signal waits for a signal, and returns its number.
func (b *inbox) signal() int {
	for {
		f, err := guest.Read(b.in, guest.MaxCall)
		if err != nil {
			return 0
		}
		if f.Call == b.call && f.Type == guest.Signal {
			return int(f.Body[0])
		}
	}
}

// spoken carries out a word of a command.
func (b *inbox) spoken(word, rest string) {
	switch word {
	case "cat":
		p := make([]byte, 32<<10)
		for {
			n, err := b.Read(p)
			if err != nil || !b.send(guest.Stdout, b.call, string(p[:n])) {
				return
			}
		}
	case "err":
		b.send(guest.Stderr, b.call, rest+"\n")
	case "signal":
		b.send(guest.Stdout, b.call, fmt.Sprintln("signal", b.signal()))
	}
}

// files are those of one guest.
type files map[string][]byte

// serve carries out one request for files.
func (fs files) serve(b *inbox, ps []guest.Pair) {
	op, _ := guest.Get(ps, "op")
	name, _ := guest.Get(ps, "path")
	name = path.Join("/tmp", strings.TrimPrefix(name, "/tmp"))
	if strings.HasPrefix(name, "/tmp/denied") {
		fs.fail(b, guest.PermissionDenied)
		return
	}
	data, ok := fs[name]
	inside := fs.inside(name)
	switch {
	case op == "write" && len(inside) > 0:
		fs.fail(b, guest.IsDirectory)
		return
	case op == "write":
		all, err := io.ReadAll(b)
		if err != nil {
			return
		}
		fs[name] = all
	case op == "list" && len(inside) > 0:
		b.send(guest.Value, b.call, string(guest.AppendEntries(nil, inside)))
	case !ok:
		fs.fail(b, guest.FileNotFound)
		return
	case op == "list":
		fs.fail(b, guest.NotADirectory)
		return
	case op == "read":
		for part := range slices.Chunk(data, 32<<10) {
			b.send(guest.Stdout, b.call, string(part))
		}
	case op == "stat":
		b.send(guest.Value, b.call, string(guest.AppendEntries(nil, []guest.Entry{{Name: path.Base(name), Kind: "file", Size: int64(len(data)), Mode: 0o644}})))
	case op == "remove":
		delete(fs, name)
	}
	b.send(guest.Done, b.call, "\x00\x00\x00\x00")
}

func (fs files) fail(b *inbox, word string) {
	b.send(guest.Failure, b.call, word+": it was refused")
	b.send(guest.Done, b.call, "\x00\x00\x00\x01")
}

// inside lists a folder, which is one where a file is in it.
func (fs files) inside(name string) (es []guest.Entry) {
	for f, data := range fs {
		if path.Dir(f) == name {
			es = append(es, guest.Entry{Name: path.Base(f), Kind: "file", Size: int64(len(data)), Mode: 0o644})
		}
	}
	slices.SortFunc(es, func(a, b guest.Entry) int { return strings.Compare(a.Name, b.Name) })
	return es
}
