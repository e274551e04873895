package router

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"syscall"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
)

// The bounds of what a guest sends, besides its output limit.
const (
	maxEmpty   = 4096    // frames without a byte: they are free of the output limit
	maxFiles   = 256     // in one reply
	maxNames   = 1 << 10 // bytes of a file's name and type
	commitTime = 30 * time.Second
)

func breach(what string) error { return fmt.Errorf("%w: %s", guest.ErrProtocol, what) }

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
	var buf []byte
	if d.output != nil {
		buf = make([]byte, 64<<10) // what is printed, which guests send in such pieces, is not kept
	}
	for {
		f, err := guest.ReadInto(in, buf, func(t guest.Type, n int64) error {
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
