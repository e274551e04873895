package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/pool"
)

// The bounds of a start.
const (
	startTime = 30 * time.Second // until a guest waits
	mourning  = time.Second      // to learn how a guest ended
)

// start starts one sandbox of t, and returns it when its guest has said that
// it is ready, in the version of the protocol that we speak. It has what the
// grant says.
func start(ctx context.Context, t *tool, grant casemate.Grant) (sb casemate.Sandbox, err error) {
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
	if sb, err = t.backend.Start(ctx, casemate.Spec{Tool: t.Tool, Grant: grant}); err != nil {
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

// claim takes a guest that has served nothing, and says whether it was parked.
// Where none is, it waits for its session's turn to have one started.
func (r *Router) claim(ctx context.Context, session casemate.SessionID, t *tool, k *pool.Kind) (g *live, warm bool, err error) {
	sb, warm, err := r.pool.Claim(ctx, session, k)
	if err != nil {
		if ctx.Err() != nil {
			err = cancelled(ctx, t.Name)
		}
		return nil, false, err
	}
	return r.own(t, k.Key.Guest, sb), warm, nil
}
