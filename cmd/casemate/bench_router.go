package main

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/bench"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/pool"
	"github.com/casemate/casemate/router"
)

// benchRouter is the router alone: its backend and its recorder are of the
// bench, and answer at once. Nothing is isolated here, and nothing else in the
// bench is like that.
func benchRouter() (subject bench.Subject, end func(), err error) {
	t := &casemate.Tool{Name: "instant", Description: "A payload.", Parameters: []byte(`{"type":"object","properties":{"code":{"type":"string"}},"required":["code"],"additionalProperties":false}`),
		Run: casemate.Run{Python: &casemate.Script{}}, Security: casemate.Profile{}.WithDefaults()}
	r, err := router.New(router.Config{Tools: []*casemate.Tool{t}, Backends: []casemate.Backend{instant{}}, Recorder: instant{}, Pool: pool.Limits{Max: -1}})
	if err != nil {
		return subject, nil, err
	}
	call := casemate.Call{Tool: t.Name, Arguments: []byte(`{"code":"print(6*7)"}`)}
	run := func(ctx context.Context) (time.Duration, error) {
		began := time.Now()
		o := r.Call(ctx, call)
		took := time.Since(began)
		if o.Error != nil {
			return 0, remote(o.Error)
		}
		return took, nil
	}
	return bench.Subject{Name: "router", Payload: "call", Note: "the router alone, with a backend and a recorder that answer at once", Run: run}, func() { r.Shutdown(context.Background()) }, nil
}

// instant is a backend whose guests answer at once, and a recorder that keeps
// nothing.
type instant struct{}

func (instant) Record(casemate.Receipt) error { return nil }
func (instant) Name() string                  { return "instant" }
func (instant) Probe(context.Context) (casemate.Capabilities, error) {
	return casemate.Capabilities{Name: "instant", Available: true, Assurance: casemate.Weak}, nil
}

func (instant) Start(context.Context, casemate.Spec) (casemate.Sandbox, error) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		guest.Write(far, guest.Frame{Type: guest.Ready, Body: guest.AppendPairs(nil, []guest.Pair{{Key: "version", Value: "1"}})})
		f, err := guest.Read(far, guest.MaxCall)
		if err != nil {
			return
		}
		guest.Write(far, guest.Frame{Type: guest.Stdout, Call: f.Call, Body: []byte(pythonPrints)})
		guest.Write(far, guest.Frame{Type: guest.Done, Call: f.Call, Body: binary.BigEndian.AppendUint32(nil, 0)})
	}()
	return instantGuest{near}, nil
}

type instantGuest struct{ net.Conn }

func (g instantGuest) Guest() io.ReadWriteCloser                   { return g.Conn }
func (g instantGuest) Enforced() casemate.Enforced                 { return casemate.Enforced{} }
func (g instantGuest) Wait(context.Context) (casemate.Exit, error) { return casemate.Exit{}, nil }
