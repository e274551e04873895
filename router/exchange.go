package router

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/upstream"
)

// The bounds of what a guest sends, besides its output limit.
const (
	maxEmpty   = 4096             // frames without a byte: they are free of the output limit
	maxFiles   = 256              // in one reply
	maxNames   = 1 << 10          // bytes of a file's name and type
	startTime  = 30 * time.Second // until a guest waits
	mourning   = time.Second      // to learn how a guest ended
	commitTime = 30 * time.Second
)

// A live is one guest and its sandbox, from claim to end.
type live struct {
	r     *Router // where it is counted; nil while it is parked
	tool  *tool
	key   casemate.Digest // tool.guest, or a variant of it
	sb    casemate.Sandbox
	pipe  io.ReadWriteCloser
	in    *bufio.Reader
	label casemate.Label // of all that it received
	once  sync.Once

	server *upstream.Server // of a tool of MCP, else nil
	users  int              // calls that it serves; who has its seat guards it
	commit sync.Mutex       // one at a time

	writing sync.Mutex // of the pipe, where there is no server
}

// start starts one sandbox of t, and returns it when its guest has said that
// it is ready, in the version of the protocol that we speak.
func start(ctx context.Context, t *tool, key casemate.Digest) (sb casemate.Sandbox, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, &casemate.Error{Op: "start", Tool: t.Name, Kind: casemate.Timeout, Err: fmt.Errorf("its guest was not ready after %s", startTime), Fix: "see what the tool imports and does when it starts"})
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the backend failed: %v", p)
		}
		if err == nil {
			return
		}
		if sb != nil {
			sb.Close()
			sb = nil
		}
		switch _, typed := errors.AsType[*casemate.Error](err); {
		case ctx.Err() != nil:
			err = cancelled(ctx, t.Name)
		case !typed:
			err = &casemate.Error{Op: "start", Tool: t.Name, Kind: casemate.Internal, Err: err, Fix: "run casemate doctor"}
		}
	}()
	if sb, err = t.backend.Start(ctx, spec(t, key)); err != nil {
		return sb, err
	}
	ready := make(chan error, 1)
	go func() { ready <- readReady(sb.Guest()) }()
	select {
	case err = <-ready:
	case <-ctx.Done():
		sb.Close()
		sb.Guest().Close()
		<-ready
		err = ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("its guest did not say that it is ready: %w", err)
		if !errors.Is(err, guest.ErrProtocol) {
			err = fmt.Errorf("%w%s", err, lastWords(sb))
		} else {
			err = &casemate.Error{Op: "start", Tool: t.Name, Kind: casemate.ToolFailed, Err: err, Fix: "see what the tool's interpreter and modules do when they start"}
		}
	}
	return sb, err
}

func lastWords(sb casemate.Sandbox) string {
	ctx, cancel := context.WithTimeout(context.Background(), mourning)
	defer cancel()
	if e, err := sb.Wait(ctx); err == nil {
		return " (" + ended(e) + ")"
	}
	return ""
}

func readReady(r io.Reader) error {
	f, err := guest.Read(r, 64<<10)
	if err != nil {
		return err
	}
	if f.Type == guest.Failure && f.Call == 0 {
		return breach("it did not start: " + strings.ToValidUTF8(string(f.Body[:min(len(f.Body), 2048)]), "\uFFFD"))
	}
	ps, err := guest.ParsePairs(f.Body)
	if err != nil || f.Type != guest.Ready || f.Call != 0 {
		return breach("its first frame is not Ready")
	}
	if v, _ := guest.Get(ps, "version"); v != strconv.Itoa(guest.Version) {
		return breach("it speaks version " + quote(v) + ", not " + strconv.Itoa(guest.Version))
	}
	return nil
}

func breach(what string) error { return fmt.Errorf("%w: %s", guest.ErrProtocol, what) }

// claim takes a guest that has served nothing; key is the tool's guest, or a
// variant of it, of which none is parked.
func (r *Router) claim(ctx context.Context, t *tool, key casemate.Digest) (g *live, warm bool, err error) {
	var sb casemate.Sandbox
	if key == t.guest && t.parkable() {
		sb, warm, err = r.pool.Claim(ctx, t.digest, t.Tool)
	} else {
		sb, err = start(ctx, t, key)
	}
	if err != nil {
		return nil, false, err
	}
	return r.own(t, key, sb), warm, nil
}

func (r *Router) own(t *tool, key casemate.Digest, sb casemate.Sandbox) *live {
	g := &live{r: r, tool: t, key: key, sb: sb, pipe: sb.Guest()}
	g.in = bufio.NewReaderSize(g.pipe, 32<<10)
	r.mu.Lock()
	r.live[g] = struct{}{}
	r.mu.Unlock()
	return g
}

// close ends the sandbox and returns when nothing of it is left.
func (g *live) close() {
	g.once.Do(func() {
		g.sb.Close()
		g.pipe.Close()
		if g.server != nil {
			g.server.Close()
		}
		g.r.mu.Lock()
		delete(g.r.live, g)
		g.r.mu.Unlock()
	})
}

// A reply is what a guest sent for one call, within its output limit.
type reply struct {
	sent                           time.Time // when the guest had the call
	stdout, stderr, value, failure []byte
	failed                         bool // it sent Failure
	files                          []file
	values                         [][]byte // of Files
	done                           bool
	status                         int32
}

func (rp *reply) empty() bool {
	return len(rp.stdout)+len(rp.stderr)+len(rp.value)+len(rp.failure)+len(rp.files) == 0 && !rp.failed
}

type file struct {
	name, mime string
	data       string
}

var (
	errOutput = errors.New("the output limit is reached")
	errUnsent = errors.New("the guest took no call") // it may be called again, elsewhere
)

// exchange sends a call and collects the reply, until the guest is done, or
// dead, or ctx is. The sandbox is dead then, unless the error is nil. The
// reply is never nil.
func (g *live) exchange(ctx context.Context, d dispatch, failed func(error)) (*reply, error) {
	rp := &reply{}
	over := make(chan error, 1)
	go func() { over <- g.converse(rp, d, failed) }()
	var err error
	select {
	case err = <-over:
	case <-ctx.Done():
		g.close() // also ends the conversation
		<-over
		rp.done, err = false, ctx.Err()
	}
	return rp, err
}

func (g *live) converse(rp *reply, d dispatch, failed func(error)) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("a fault of the router ended the conversation")
		}
	}()
	if g.in.Buffered() > 0 {
		return breach("it spoke between two calls")
	}
	number := rand.Uint32() | 1 // not to be guessed, so that nothing is answered before it is asked
	feed, end, err := g.begin(d, number, failed)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnsent, err)
	}
	rp.sent = time.Now()
	err = collect(g.in, number, d, feed, rp)
	end()
	if errors.Is(err, syscall.ECONNRESET) && rp.empty() {
		// A unix socket is reset, and not at its end, when its peer is gone
		// and has not read all that was sent: a parked guest that was killed.
		return fmt.Errorf("%w: %w", errUnsent, err)
	}
	return err
}

// collect reads the frames of one call up to Done. All that it keeps is
// within d.limit bytes, and what is over it is errOutput, with what came before
// in rp. What the caller gets as it comes is not kept.
func collect(in io.Reader, number uint32, d dispatch, feed *feeder, rp *reply) error {
	left, empty := d.limit, 0
	for {
		f, err := guest.ReadFunc(in, func(t guest.Type, n int64) error {
			switch t {
			case guest.Stdout, guest.Stderr, guest.Value, guest.Failure:
				if n > guest.MaxReply {
					return breach("a frame is longer than allowed")
				}
			case guest.File:
				if n > left+maxNames {
					return errOutput
				}
			case guest.Done:
				if n != 4 {
					return breach("Done does not hold a status")
				}
			case guest.Taken:
				if n != 4 || !d.feeds {
					return breach("a frame says that something was taken, and nothing was sent")
				}
			default:
				return breach("a frame of an unknown type")
			}
			return nil
		})
		if err != nil {
			return err
		}
		if f.Call != number {
			return breach("a frame belongs to another call")
		}
		if len(f.Body) == 0 {
			if empty++; empty > maxEmpty {
				return breach("too many empty frames")
			}
		}
		if f.Type == guest.Done {
			rp.done, rp.status = true, int32(binary.BigEndian.Uint32(f.Body))
			return nil
		}
		if f.Type == guest.File {
			fl, err := parseFile(f.Body)
			if err != nil {
				return err
			}
			if left -= int64(len(fl.data)); left < 0 {
				return errOutput
			}
			if len(rp.files) == maxFiles {
				return breach("more than " + strconv.Itoa(maxFiles) + " files")
			}
			rp.files = append(rp.files, fl)
			continue
		}
		if f.Type == guest.Taken {
			if err := feed.taken(f.Body); err != nil {
				return err
			}
			continue
		}
		if stream := streamOf(f.Type); stream > 0 && d.output != nil {
			if err := d.output(stream, f.Body); err != nil {
				return fmt.Errorf("%w: %w", errCaller, err)
			}
			continue
		}
		to := &rp.stdout
		switch f.Type {
		case guest.Stderr:
			to = &rp.stderr
		case guest.Value:
			if d.frame == guest.Files {
				rp.values = append(rp.values, f.Body)
			}
			to = &rp.value
		case guest.Failure:
			to, rp.failed = &rp.failure, true
		}
		*to = append(*to, f.Body[:min(left, int64(len(f.Body)))]...)
		if left -= int64(len(f.Body)); left < 0 {
			return errOutput
		}
	}
}

// streamOf is the number of the stream that frames of a type belong to; 0 is
// none.
func streamOf(t guest.Type) int {
	switch t {
	case guest.Stdout:
		return 1
	case guest.Stderr:
		return 2
	}
	return 0
}

func parseFile(b []byte) (file, error) {
	ps, err := guest.ParsePairs(b)
	if err != nil {
		return file{}, err
	}
	var fl file
	for _, p := range ps {
		switch p.Key {
		case "name":
			fl.name = p.Value
		case "mime":
			fl.mime = p.Value
		case "data":
			fl.data = p.Value
		default:
			return file{}, breach("a file has an unknown part")
		}
	}
	if fl.name == "" || len(fl.name)+len(fl.mime) > maxNames-64 {
		return file{}, breach("a file has no name, or a long one")
	}
	return fl, nil
}

// ended says how a sandbox ended.
func ended(e casemate.Exit) string {
	switch {
	case e.Limit != "":
		return "the " + e.Limit + " limit"
	case e.Signal != 0:
		return fmt.Sprintf("the tool's process ended with signal %d", e.Signal)
	}
	return fmt.Sprintf("the tool's process ended with status %d", e.Status)
}
