package process

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/testenv"
)

// A session's processes live on after a call, and what they wrote is carried
// all the same: they are stopped for it, and go on.
func TestSessionCommits(t *testing.T) { sessionCommits(t) }

func TestSessionCommitsAsUser(t *testing.T) {
	subject(t)
	testenv.AsUser(t, sessionCommits)
}

func sessionCommits(t *testing.T) {
	dir := t.TempDir()
	tool := &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}, Security: casemate.Profile{Scope: casemate.ScopeSession,
		Filesystem: []casemate.Mount{{Path: dir, At: "/work", Access: casemate.Write}}}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	sb, err := subject(t).Open(t, tool).Start(ctx, casemate.Spec{Tool: tool})
	if err != nil {
		t.Fatal(err)
	}
	defer sb.Close()
	if f, err := guest.Read(sb.Guest(), guest.MaxReply); err != nil || f.Type != guest.Ready {
		t.Fatal(f.Type, err)
	}
	// It counts in a file, with setsid and without; and it always starts
	// something, so that a stop meets parents which wait for a stopped child.
	const count = `n=0; while :; do n=$((n+1)); echo $n > /work/NAME; sleep 0.01; done`
	run(sb, "("+strings.ReplaceAll(count, "NAME", "a")+") & setsid sh -c '"+strings.ReplaceAll(count, "NAME", "b")+"' & for i in 1 2 3; do (while :; do /bin/true; done) & done; sleep 0.1")
	finished(t, sb)
	var last [2]string
	for i := range 8 {
		if i > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		if cs, err := sb.(casemate.Committer).Commit(ctx, casemate.CallID("c_"+strconv.Itoa(i))); err != nil || len(cs) != 2 {
			t.Fatalf("commit %d: %v %v", i, cs, err)
		}
		for j, name := range []string{"a", "b"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || string(b) == last[j] {
				t.Errorf("commit %d: %s holds %q, and before %q: %v", i, name, b, last[j], err)
			}
			last[j] = string(b)
		}
	}
}

// finished reads what a call answers to its end, and returns its output.
func finished(t *testing.T, sb casemate.Sandbox) (stdout string) {
	t.Helper()
	for {
		f, err := guest.Read(sb.Guest(), guest.MaxReply)
		if err != nil {
			t.Fatal(err)
		}
		switch f.Type {
		case guest.Stdout:
			stdout += string(f.Body)
		case guest.Done:
			return stdout
		}
	}
}
