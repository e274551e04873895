package plan

import (
	"bytes"
	"reflect"
	"testing"
)

var full = Plan{
	Host: Host{Records: "/r", Store: "/s", AllowDegraded: []string{"memory"}, Without: []string{"seccomp"}},
	Guests: []Guest{{Tool: "t", Digest: "sha256:x", Runner: "exec", Function: "f", Stdin: "in", Interpreter: "/i", Cwd: "/tmp",
		Command: []Arg{{Text: "/bin/echo"}, {Name: "text"}}, Options: []string{"o"}, Preload: []string{"json"}, Env: []string{"A=b"}, DenySyscalls: []string{"connect"},
		Mounts:   []Mount{{Source: "/h", At: "/g", Write: true, Execute: true, Prefix: true, Names: []string{".git"}, Pinned: []string{"/h/c"}}},
		Loopback: true, HostNetwork: true, Session: true, Fork: true, Inputs: true, MilliCPU: 1, Memory: 2, Disk: 3, Processes: 4, Output: 5, Timeout: 6,
		Backend: "oci", Layers: []string{"/l"}, Runtime: "/r", Version: "r 1", File: "1 2", Bundle: "{}", Module: "/m"}, {Tool: "empty"}},
}

func TestPlanRoundTrip(t *testing.T) {
	got, err := Decode(full.Encode())
	if err != nil || !reflect.DeepEqual(*got, full) {
		t.Fatalf("%+v %v", got, err)
	}
	g, err := DecodeGuest(EncodeGuest(full.Guests[0]))
	if err != nil || !reflect.DeepEqual(g, full.Guests[0]) {
		t.Fatalf("%+v %v", g, err)
	}
	if _, err := Decode(full.Encode()[:20]); err == nil {
		t.Fatal("half a plan was accepted")
	}
}

// Every field of a guest must be in the encoding: one that is not would be
// silently dropped on the way to the spawner.
func TestEveryFieldIsEncoded(t *testing.T) {
	for _, v := range []reflect.Value{reflect.ValueOf(full.Host), reflect.ValueOf(full.Guests[0]), reflect.ValueOf(full.Guests[0].Mounts[0])} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s.%s is not set in the test's plan", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(full.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := Decode(b); err == nil && !bytes.Equal(p.Encode(), b) {
			t.Fatal("two encodings of one plan")
		}
	})
}
