package spawn

import (
	"bytes"
	"os"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

var messages = []Message{
	{Op: OpStart, Seq: 1, Start: Start{"sha256:x", 1, 2, 3, 4, []string{"/a"}, true}},
	{Op: OpCommit, Seq: 2, Commit: Commit{7, "c_x", 9}},
	{Op: OpKill, Seq: 3, ID: 7}, {Op: OpRecord, Seq: 4, Line: "{}"}, {Op: OpProbe, Seq: 5, Line: "oci"}, {Op: OpPlan, Seq: 6}, {Op: OpUndo, Seq: 7, Line: "c_x"},
	{Op: OpStarted, Seq: 1, Started: Started{7, 42, Enforced{[]string{"user"}, "sha256:y", 7, true, "runc 1", "own", []Limit{{"memory", 1, "cgroup"}}, []string{"cpu"}}}},
	{Op: OpCommitted, Seq: 2, Changes: []Change{{"/p", "/h", "created", "why", "kept"}}}, {Op: OpDone, Seq: 3},
	{Op: OpProbed, Seq: 5, Probed: []Control{{"seccomp", "on", "", ""}}}, {Op: OpFailed, Seq: 1, Failed: Failed{"denied", "c", "w", "f"}},
	{Op: OpNarrow, Seq: 8, Narrow: Narrow{7, Start{"sha256:x", 1, 2, 3, 4, []string{"/a"}, true}}},
	{Op: OpNarrowed, Seq: 8, Started: Started{ID: 7, Enforced: Enforced{Limits: []Limit{{"memory", 1, "cgroup"}}}}},
	{Op: OpInput, Seq: 8, Input: Input{7, "a"}},
	{Op: OpFreeze, Seq: 8, Freeze: Freeze{7, true}},
	{Op: OpExited, Exited: Exited{7, 1, 9, "memory", 10, 11}},
}

func TestRoundTrip(t *testing.T) {
	for _, m := range messages {
		b, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(b)
		if err != nil || !reflect.DeepEqual(*got, m) {
			t.Errorf("%d: %v\n%+v\n%+v", m.Op, err, m, got)
		}
		if _, err := Decode(b[:len(b)-1]); err == nil {
			t.Errorf("%d: a message that is cut was accepted", m.Op)
		}
		if _, err := Decode(append(b, 0)); err == nil {
			t.Errorf("%d: a message that goes on was accepted", m.Op)
		}
	}
	if _, err := Decode([]byte{99, 1}); err == nil {
		t.Error("an unknown message was accepted")
	}
	if _, err := (&Message{Op: OpRecord, Line: string(make([]byte, MaxPacket))}).Encode(); err == nil {
		t.Error("a message over the bound was encoded")
	}
}

// Descriptors come with their message, and none that came with a malformed
// one stays open.
func TestDescriptors(t *testing.T) {
	a, b, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	from, to := NewConn(a), NewConn(b)
	defer to.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := from.Send(&Message{Op: OpStarted, Seq: 1}, int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	_, fds, err := to.Recv()
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	unix.Close(fds[0])
	if err := unix.Sendmsg(int(a.Fd()), []byte{99}, unix.UnixRights(int(w.Fd())), nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := to.Recv(); err == nil {
		t.Fatal("malformed, and accepted")
	}
	w.Close() // the last one, unless the receiver kept its own
	if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("the pipe is still open")
	}
	from.Close()
	if _, _, err := to.Recv(); err == nil {
		t.Error("no end")
	}
}

// What is asked of a connection that was closed touches no other file that got
// its number: a second close once ended the connection of another spawner.
func TestClosedIsClosed(t *testing.T) {
	a, b, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	old := NewConn(a)
	NewConn(b).Close()
	old.Close()
	c, d, err := Pair() // has the numbers of the first
	if err != nil {
		t.Fatal(err)
	}
	from, to := NewConn(c), NewConn(d)
	defer from.Close()
	defer to.Close()
	old.Shutdown()
	old.Close()
	if _, _, err := old.Recv(); err == nil {
		t.Error("received after the close")
	}
	if err := old.Send(&Message{Op: OpDone, Seq: 1}); err == nil {
		t.Error("sent after the close")
	}
	if err := from.Send(&Message{Op: OpDone, Seq: 2}); err != nil {
		t.Fatal(err)
	}
	if m, _, err := to.Recv(); err != nil || m.Seq != 2 {
		t.Errorf("%v %v", m, err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range messages {
		b, _ := m.Encode()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		if again, err := m.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("two encodings of one message: %x %x %v", b, again, err)
		}
	})
}
