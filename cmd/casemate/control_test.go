package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"testing"
	"time"

	"github.com/casemate/casemate"
)

func TestMessage(t *testing.T) {
	var b bytes.Buffer
	in := message{ID: 7, Op: opCall, Body: json.RawMessage(`{"tool":"x"}`)}
	if err := writeMessage(&b, in); err != nil {
		t.Fatal(err)
	}
	whole := bytes.Clone(b.Bytes())
	out, err := readMessage(&b, 1000)
	if err != nil || out.ID != 7 || out.Op != opCall || string(out.Body) != string(in.Body) {
		t.Fatalf("%+v %v", out, err)
	}
	for name, bad := range map[string][]byte{
		"cut":      whole[:len(whole)-1],
		"long":     append(binary.BigEndian.AppendUint32(nil, 1001), make([]byte, 1001)...),
		"huge":     {255, 255, 255, 255},
		"not JSON": append(binary.BigEndian.AppendUint32(nil, 1), '{'),
		"empty":    {},
	} {
		if m, err := readMessage(bytes.NewReader(bad), 1000); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

func FuzzMessage(f *testing.F) {
	var b bytes.Buffer
	writeMessage(&b, message{ID: 1, Op: opStop, Body: json.RawMessage(`{"all":true}`)})
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		if m, err := readMessage(r, 1<<16); err == nil {
			if err := writeMessage(io.Discard, m); err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
		}
	})
}

// TestClient drives a client against the other end of a real socket.
func TestClient(t *testing.T) {
	pair := func() (*client, net.Conn) {
		l, err := net.Listen("unix", t.TempDir()+"/s")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		a, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return newClient(a, 1<<10), b
	}
	t.Run("a cancelled call is told and still answers", func(t *testing.T) {
		c, far := pair()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			call, _ := readMessage(far, 1<<20)
			cancel()
			told, _ := readMessage(far, 1<<20)
			var in cancelBody
			json.Unmarshal(told.Body, &in)
			if told.Op != opCancel || in.ID != call.ID {
				t.Errorf("the router was told %+v", told)
			}
			writeMessage(far, message{ID: call.ID, Body: json.RawMessage(`{"error":{"kind":"cancelled"}}`)})
		}()
		var o casemate.Outcome
		if err := c.do(ctx, opCall, callBody{}, &o); err != nil || o.Error == nil || o.Error.Kind != casemate.Cancelled {
			t.Errorf("%+v %v", o, err)
		}
	})
	for name, reply := range map[string]func(io.Writer){
		"a router that is gone": func(io.Writer) {},
		"a reply longer than agreed": func(w io.Writer) {
			writeMessage(w, message{ID: 1, Body: make(json.RawMessage, 0)})
			w.Write([]byte{0, 1, 0, 0})
		},
		"garbage": func(w io.Writer) { w.Write([]byte("\x00\x00\x00\x04oops")) },
	} {
		t.Run(name, func(t *testing.T) {
			c, far := pair()
			go func() { readMessage(far, 1<<20); reply(far); far.Close() }()
			done := make(chan error, 1)
			go func() {
				err := c.do(t.Context(), opStatus, nil, nil)
				for err == nil {
					err = c.do(t.Context(), opStatus, nil, nil)
				}
				done <- err
			}()
			select {
			case err := <-done:
				if casemate.KindOf(err) != casemate.Internal {
					t.Errorf("%v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the request hangs")
			}
		})
	}
	t.Run("why the router gave up", func(t *testing.T) {
		c, far := pair()
		go writeMessage(far, message{Error: &casemate.ErrorJSON{Kind: casemate.Unsupported, Message: "no seccomp", Fix: "another kernel"}})
		err := c.do(t.Context(), opReady, nil, nil)
		if j := casemate.JSON(err); j == nil || j.Kind != casemate.Unsupported || j.Fix != "another kernel" {
			t.Errorf("%+v", j)
		}
	})
}
