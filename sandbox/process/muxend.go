package process

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
)

// mourn waits for the end of a guest that closed its socket, and returns what
// its processes still print.
func (m *mux) mourn(p []byte) int {
	if m.done || m.asked.Load() == 0 {
		m.err = io.EOF
		return 0
	}
	if m.mourned {
		m.last()
		return 0
	}
	if !m.waiting {
		if err := m.watch(); err != nil {
			m.fail(err)
			return 0
		}
		m.waiting = true
		set := m.set
		m.owned.Go(func() {
			select {
			case <-m.gone:
				set.SetReadDeadline(time.Unix(1, 0)) // poll returns
			case <-m.closed:
			}
		})
	}
	select {
	case <-m.gone:
		m.mourned, m.owed = true, [2]int{maxPipe, maxPipe}
		return 0
	default:
	}
	if m.hot == [3]bool{} {
		if err := m.poll(); !errors.Is(err, os.ErrDeadlineExceeded) {
			m.fail(err)
		}
	}
	return m.serve(p)
}

// last answers a call whose guest is gone, where that ended by itself.
func (m *mux) last() {
	x, known := m.exited()
	if !known || x.Limit != "" || m.killed.Load() {
		m.err = io.EOF
		return
	}
	number, status := uint32(m.asked.Load()), uint32(x.Status)
	if x.Signal != 0 {
		status = uint32(128 + x.Signal)
		why := "python was ended by signal " + strconv.FormatInt(x.Signal, 10) + " (" + unix.Signal(x.Signal).String() + ")"
		m.ready = guest.Append(m.ready, guest.Frame{Type: guest.Failure, Call: number, Body: []byte(why)})
	}
	m.ready = guest.Append(m.ready, guest.Frame{Type: guest.Done, Call: number, Body: binary.BigEndian.AppendUint32(nil, status)})
	m.done = true
}
