package main

import (
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/spawn"
)

// A rightsWriter sends a copy of a descriptor with the first byte that it
// writes, and closes it.
type rightsWriter struct {
	conn *net.UnixConn
	file *os.File // nil: it is sent
}

func (w *rightsWriter) Write(b []byte) (int, error) {
	if w.file == nil {
		return w.conn.Write(b)
	}
	n, _, err := w.conn.WriteMsgUnix(b, unix.UnixRights(int(w.file.Fd())), nil)
	w.file.Close()
	w.file = nil
	if err != nil {
		return n, err
	}
	if n < len(b) {
		m, err := w.conn.Write(b[n:])
		return n + m, err
	}
	return n, nil
}

// A rightsReader keeps the descriptors that come with what it reads, in their
// order. Only the process that started this one is read so.
type rightsReader struct {
	conn  *net.UnixConn
	files []*os.File
}

func (r *rightsReader) Read(b []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := r.conn.ReadMsgUnix(b, oob)
	for _, fd := range spawn.Rights(oob[:oobn]) {
		r.files = append(r.files, os.NewFile(uintptr(fd), "handed"))
	}
	return n, err
}

// take returns the first descriptor that was not taken, or nil.
func (r *rightsReader) take() *os.File {
	if len(r.files) == 0 {
		return nil
	}
	f := r.files[0]
	r.files = r.files[1:]
	return f
}
