package sandboxtest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
)

// A direct is the pipe of a guest whose MCP server's own streams come beside it,
// where the backend hands them out; the cases read them as frames, as those of a
// backend that does not.
type direct struct {
	pipe io.ReadWriteCloser
	in   chan []byte
	call atomic.Uint32

	mu  sync.Mutex // of to
	out io.Reader
	to  *io.PipeWriter
}

// framed returns sb with such a pipe, where it has one.
func framed(sb casemate.Sandbox) casemate.Sandbox {
	has, ok := sb.Guest().(interface {
		Streams() (in io.Writer, out, err io.Reader, ok bool)
	})
	if !ok {
		return sb
	}
	in, out, stderr, ok := has.Streams()
	if !ok {
		return sb
	}
	r, w := io.Pipe()
	d := &direct{pipe: sb.Guest(), in: make(chan []byte, 1024), out: r, to: w}
	var printed sync.WaitGroup
	for t, from := range map[guest.Type]io.Reader{guest.Stdout: out, guest.Stderr: stderr} {
		printed.Go(func() {
			b := make([]byte, 64<<10)
			for {
				n, err := from.Read(b)
				if n > 0 {
					d.say(guest.Frame{Type: t, Body: b[:n]})
				}
				if err != nil {
					return
				}
			}
		})
	}
	go func() {
		for b := range d.in {
			if _, err := in.Write(b); err == nil {
				d.say(guest.Frame{Type: guest.Taken, Body: binary.BigEndian.AppendUint32(nil, uint32(len(b)))})
			}
		}
	}()
	go func() {
		for {
			f, err := guest.Read(d.pipe, guest.MaxReply)
			if err != nil || f.Type == guest.Done {
				printed.Wait() // what it printed comes first
			}
			if err != nil {
				w.CloseWithError(err)
				return
			}
			d.say(f)
		}
	}()
	return directSandbox{sb, d}
}

func (d *direct) say(f guest.Frame) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.Call = d.call.Load()
	guest.Write(d.to, f)
}

func (d *direct) Read(b []byte) (int, error) { return d.out.Read(b) }

// Write takes whole frames.
func (d *direct) Write(b []byte) (int, error) {
	call, body := binary.BigEndian.Uint32(b[1:]), b[9:]
	d.call.Store(call)
	if guest.Type(b[0]) != guest.Stdin {
		return d.pipe.Write(b)
	}
	select {
	case d.in <- append([]byte(nil), body...):
		return len(b), nil
	default:
		return 0, errors.New("more input than a case writes")
	}
}

func (d *direct) Close() error { d.to.Close(); return d.pipe.Close() }

type directSandbox struct {
	casemate.Sandbox
	d *direct
}

// Guest is the pipe.
func (d directSandbox) Guest() io.ReadWriteCloser { return d.d }

// Commit is the sandbox's.
func (d directSandbox) Commit(ctx context.Context, c casemate.CallID) ([]casemate.Change, error) {
	return d.Sandbox.(casemate.Committer).Commit(ctx, c)
}
