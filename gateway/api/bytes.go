package api

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
)

func (a *API) putFile(w http.ResponseWriter, r *http.Request) {
	p, err := a.placeOf(r)
	if err != nil {
		fail(w, err)
		return
	}
	u := &upload{from: r.Body}
	ans, err := a.write(r.Context(), p, r.URL.Query().Get("path"), u, func() {
		if r.ContentLength < 0 || r.ContentLength > gateway.MaxBody { // nobody reads what still comes
			w.Header().Set("Connection", "close")
			http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
		}
	})
	if err != nil {
		fail(w, err)
		return
	}
	answered(w, fileStatus(ans.Error), ans)
}

// write writes one file. Where what u reads breaks off, the file is removed:
// half a file must not look like a whole one. failed is called when the rest
// of it is of no use, before its last read is waited for.
func (a *API) write(ctx context.Context, p place, path string, u *upload, failed func()) (answer, error) {
	ans, err := a.fileCall(ctx, p, gateway.NewCall(), &casemate.FileRequest{Op: "write", Path: path, Data: u})
	if err != nil || ans.Error != nil {
		failed()
	}
	if broke := u.close(); broke != nil && err == nil && ans.Error == nil {
		a.fileCall(ctx, p, gateway.NewCall(), &casemate.FileRequest{Op: "remove", Path: path})
		return answer{}, invalid("send it again", "the body broke off, so that the file was removed")
	}
	return ans, err
}

// An upload is what is written to a file. When it breaks off it is at its end:
// an error would cancel the call.
type upload struct {
	mu    sync.Mutex
	from  io.Reader
	err   error // why it broke off
	ended bool
}

func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended || u.err != nil {
		return 0, io.EOF
	}
	n, err := u.from.Read(p)
	if err != nil && err != io.EOF {
		u.err, err = err, io.EOF
	}
	return n, err
}

// close ends the upload; nothing reads from it any more when it returns.
func (u *upload) close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended = true
	return u.err
}

// A file is an answer that begins with the first byte, so that what fails
// before can still be said. Where its client reads no more the rest is dropped.
type file struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	id    casemate.CallID
	begun bool
	err   error
}

func (f *file) begin() {
	if !f.begun {
		f.begun = true
		f.w.Header().Set("Content-Type", "application/octet-stream")
		f.w.Header().Set(receiptHeader, string(f.id))
		f.w.WriteHeader(http.StatusOK)
	}
}

func (f *file) Write(b []byte) (int, error) {
	f.begin()
	if f.err == nil {
		f.rc.SetWriteDeadline(time.Now().Add(writeTime)) // an error means a transport without deadlines
		_, f.err = f.w.Write(b)
		f.rc.SetWriteDeadline(time.Time{})
	}
	return len(b), nil
}
