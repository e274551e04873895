package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/testenv"
)

// TestBenchIsEnded: whoever ends a bench finds nothing of it left: no server
// that listens, no sandbox, no folder.
func TestBenchIsEnded(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			work := t.TempDir()
			if err := makeFolders(work); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(testenv.Binaries(t).Casemate, "bench", "--quick", "--only", "mcp")
			cmd.Env = scriptEnv(t, work)
			var said bytes.Buffer
			cmd.Stderr = &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			place := filepath.Join(work, "tmp", "casemate-bench-")
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			for !listensIn(place) {
				select {
				case err := <-ended:
					t.Fatalf("%v: %s", err, said.String())
				case <-time.After(20 * time.Millisecond):
				}
			}
			cmd.Process.Signal(sig)
			<-ended
			if got := cmd.ProcessState.ExitCode(); got != casemate.Cancelled.ExitStatus() {
				t.Errorf("exit status %d: %s", got, said.String())
			}
			if left, err := os.ReadDir(filepath.Dir(place)); err != nil || len(left) > 0 {
				t.Errorf("it left %v, %v", left, err)
			}
			if ps := runningIn(place); len(ps) > 0 {
				t.Errorf("still there: %q", ps)
			}
		})
	}
}

// TestBenchIsRefusedAtOnce: what would be lost at the end of minutes of work is
// refused before them.
func TestBenchIsRefusedAtOnce(t *testing.T) {
	for _, args := range [][]string{{"--markdown", "--json"}, {"--svg", "/nonexistent/x.svg"}, {"--svg", "/"}, {"--only", ""}} {
		work := t.TempDir()
		cmd := exec.Command(testenv.Binaries(t).Casemate, append([]string{"bench", "--quick", "--only", "memory"}, args...)...)
		cmd.Env = append(scriptEnv(t, work), "TMPDIR=/nonexistent") // a bench that begins fails here
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != casemate.Invalid.ExitStatus() || !bytes.Contains(out, []byte("fix: ")) || bytes.Contains(out, []byte("casemate-bench")) {
			t.Errorf("%q: exit status %d: %s", args, got, out)
		}
	}
}

// runningIn are the command lines of the processes that were told a path that
// begins so.
func runningIn(place string) (out []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		env, _ := os.ReadFile(d + "/environ")
		args, _ := os.ReadFile(d + "/cmdline")
		if bytes.Contains(env, []byte(place)) || bytes.Contains(args, []byte(place)) {
			out = append(out, strings.TrimRight(strings.ReplaceAll(string(args), "\x00", " "), " "))
		}
	}
	return out
}

func listensIn(place string) bool {
	for _, args := range runningIn(place) {
		if strings.Contains(args, " serve --listen ") {
			return true
		}
	}
	return false
}
