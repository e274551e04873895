package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/casemate/casemate"
)

// The bounds of the door.
const (
	MaxBody         = 8 << 20          // bytes of one request body
	maxBodies       = 64 << 20         // bytes of all request bodies in memory at once
	bodyTime        = 30 * time.Second // for a body to arrive
	pieceTime       = 5 * time.Minute  // for the next piece of a body that is streamed
	defaultRequests = 256              // requests at once, streams too
	minToken        = 16               // bytes
)

// A Config is what the door checks by.
type Config struct {
	// Token is the bearer token of DefaultCaller, at least 16 bytes; "" only
	// where there are other credentials.
	Token string
	// Credentials are the other callers.
	Credentials []Credential
	// Local, unless nil, is the credential of requests without a token: for a
	// listener that only its user reaches.
	Local *Credential

	// Hosts are the names, beside loopback and the listener's address, that
	// clients may call this server by: "casemate.example" on any port, or
	// "casemate.example:8443".
	Hosts []string

	// Streams says of which requests the body is read by the route, as it
	// comes, and not by the door; nil is of none.
	Streams func(*http.Request) bool
	// Requests is how many may be served at once, streams too; 0 is 256. Where
	// there are several callers, one has three quarters of them at most.
	Requests int

	Log *slog.Logger // nil discards
}

// Handler is the door before routes, whose keys are patterns of
// http.ServeMux. A route finds its caller by CallerOf, and a body that was
// read in full.
func Handler(c Config, routes map[string]http.Handler) (http.Handler, error) {
	known, err := c.credentials()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for pattern, h := range routes {
		mux.Handle(pattern, h)
	}
	if c.Requests == 0 {
		c.Requests = defaultRequests
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &door{Config: c, known: known, of: map[Caller]int{}, routes: mux}, nil
}

type door struct {
	Config
	known  []known
	bodies atomic.Int64 // bytes in memory
	routes http.Handler

	mu      sync.Mutex
	serving int            // requests
	of      map[Caller]int // of them, each caller's
}

// enter takes a place for one request of a caller, where there is one.
func (d *door) enter(c Caller) bool {
	most := d.Requests
	if len(d.known) > 1 || len(d.known) > 0 && d.Local != nil {
		most -= most / 4
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.serving >= d.Requests || d.of[c] >= most {
		return false
	}
	d.serving++
	d.of[c]++
	return true
}

func (d *door) leave(c Caller) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.serving--
	d.of[c]--
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer d.recover(w, r)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if !hostAllowed(r, d.Hosts) {
		refuse(w, r, http.StatusMisdirectedRequest, "this server does not go by that host")
		return
	}
	if !originAllowed(r) {
		refuse(w, r, http.StatusForbidden, "requests of other sites are refused")
		return
	}
	switch r.Method {
	case http.MethodOptions, http.MethodTrace, http.MethodConnect:
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, DELETE")
		refuse(w, r, http.StatusMethodNotAllowed, "method not allowed")
		return
	}
	if r.URL.Path == "/healthz" && r.Method == http.MethodGet {
		io.WriteString(w, "ok\n")
		return
	}
	caller, ok := d.authorized(r)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Bearer realm="casemate"`)
		refuse(w, r, http.StatusUnauthorized, "a bearer token is needed")
		return
	}
	caller, err := narrow(caller, r)
	if err != nil {
		status := http.StatusForbidden
		if casemate.KindOf(err) == casemate.Invalid {
			status = http.StatusBadRequest
		}
		refuse(w, r, status, err.Error())
		return
	}
	if !d.enter(caller.Name) {
		w.Header().Set("Retry-After", "1")
		refuse(w, r, http.StatusServiceUnavailable, "too many requests at once")
		return
	}
	defer d.leave(caller.Name)
	if d.Streams != nil && d.Streams(r) {
		r.Body = &streamed{r.Body, http.NewResponseController(w)}
	} else {
		free, ok := d.readBody(w, r)
		if !ok {
			return
		}
		defer free()
	}
	d.routes.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), credentialKey{}, caller)))
}

// readBody reads the body of r into memory and puts it back. If it reports
// false, it has answered.
func (d *door) readBody(w http.ResponseWriter, r *http.Request) (free func(), ok bool) {
	if r.ContentLength == 0 {
		return func() {}, true
	}
	want := r.ContentLength
	if want > MaxBody {
		tooLarge(w, r)
		return nil, false
	}
	if want < 0 { // unknown
		want = MaxBody
	}
	free = func() { d.bodies.Add(-want) }
	if d.bodies.Add(want) > maxBodies {
		free()
		w.Header().Set("Retry-After", "1")
		refuse(w, r, http.StatusServiceUnavailable, "too many bytes at once")
		return nil, false
	}
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(bodyTime)) // an error means a transport without deadlines
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err == nil {
		rc.SetReadDeadline(time.Time{})
		r.Body = io.NopCloser(bytes.NewReader(body))
		return free, true
	}
	free()
	if _, over := errors.AsType[*http.MaxBytesError](err); over {
		tooLarge(w, r)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		refuse(w, r, http.StatusRequestTimeout, "the body did not arrive in time")
	} else {
		refuse(w, r, http.StatusBadRequest, "the body could not be read")
	}
	return nil, false
}

func tooLarge(w http.ResponseWriter, r *http.Request) {
	refuse(w, r, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", MaxBody))
}

func (d *door) recover(w http.ResponseWriter, r *http.Request) {
	x := recover()
	if x == nil {
		return
	}
	if x == http.ErrAbortHandler {
		panic(x)
	}
	d.Log.Error("a request made a route panic", "panic", fmt.Sprint(x))
	refuse(w, r, http.StatusInternalServerError, "internal error")
}

// refuse answers in the words of the API where the API was asked, else in
// plain text.
func refuse(w http.ResponseWriter, r *http.Request, status int, why string) {
	if !strings.HasPrefix(r.URL.Path, "/v1/") {
		http.Error(w, why, status)
		return
	}
	e := casemate.ErrorJSON{Kind: casemate.Invalid, Message: why}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Kind = casemate.Denied
	case http.StatusServiceUnavailable:
		e.Kind = casemate.Busy
	case http.StatusRequestTimeout:
		e.Kind = casemate.Timeout
	case http.StatusInternalServerError:
		e.Kind = casemate.Internal
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"status": e.Kind, "error": e}) // an error means that the client is gone
}

// A streamed body must not stand still.
type streamed struct {
	io.ReadCloser
	rc *http.ResponseController
}

func (s *streamed) Read(p []byte) (int, error) {
	s.rc.SetReadDeadline(time.Now().Add(pieceTime)) // an error means a transport without deadlines
	n, err := s.ReadCloser.Read(p)
	s.rc.SetReadDeadline(time.Time{}) // which would also end the call of a client that waits for its answer
	return n, err
}
