package attack

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestOutsideIsRefused: no attempt is made where it is no sandbox.
func TestOutsideIsRefused(t *testing.T) {
	if err := Inside(); err == nil || !strings.Contains(err.Error(), "no sandbox") {
		t.Error(err)
	}
	var out bytes.Buffer
	if err := Serve(strings.NewReader(`{"do":[["pids"]]}`), &out); err == nil || out.Len() > 0 {
		t.Errorf("%v %s", err, out.String())
	}
	for _, text := range []string{"", "[]", `{"do":[[]]}`, `{"do":"pids"}`, strings.Repeat("x", 100)} {
		if err := Serve(strings.NewReader(text), &out); err == nil || out.Len() > 0 {
			t.Errorf("%q: %v %s", text, err, out.String())
		}
	}
}

// TestAttemptsCanSucceed: what only looks, or writes into a folder of the
// test's own, gets through where there is no wall.
func TestAttemptsCanSucceed(t *testing.T) {
	dir := t.TempDir()
	leak, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	t.Setenv("BASH_ENV", "CANARY")
	for _, c := range []struct {
		do   []string
		says string
	}{
		{[]string{"fds"}, dir},
		{[]string{"environ"}, "CANARY"},
		{[]string{"run", dir + "/tiny"}, "it ran"},
		{[]string{"plant", dir + "/a/b", "x"}, ""},
		{[]string{"exists", dir + "/a/b"}, "-rwx"},
		{[]string{"fixed", dir}, "to be written"},
		{[]string{"masks", dir}, "is a folder with"},
		{[]string{"magic", "1", "/proc"}, "has type"},
		{[]string{"random"}, "getrandom"},
		{[]string{"spaces"}, "mnt:["},
		{[]string{"privilege"}, "nnp="},
		{[]string{"disk", dir, "2"}, "2"},
		{[]string{"files", dir, "10"}, "10"},
	} {
		if o := Try(c.do[0], c.do[1:]...); !o.Through || !strings.Contains(o.Got, c.says) {
			t.Errorf("%+v", o)
		}
	}
	for _, do := range [][]string{{"nothing"}, {"read"}} {
		if o := Try(do[0], do[1:]...); o.Through || !strings.HasPrefix(o.Got, NotMade) {
			t.Errorf("%+v", o)
		}
	}
}
