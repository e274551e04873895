package process

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/testenv"
)

// The folder of an interpreter lies in a home folder or a repository: a socket
// of the host's in it is not reached, as in any other grant; its programs run.
func TestPrefixSocket(t *testing.T) {
	dir := t.TempDir()
	for path := dir; path != os.TempDir() && path != "/"; path = filepath.Dir(path) {
		os.Chmod(path, 0o755)
	}
	os.WriteFile(filepath.Join(dir, "program"), []byte("#!/bin/sh\necho runs\n"), 0o755)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	os.Chmod(filepath.Join(dir, "s"), 0o777)
	tool := &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}}
	g, err := Compile(tool, Options{Prefixes: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	p := &plan.Plan{Guests: []plan.Guest{g}}
	if os.Geteuid() != 0 {
		p.Host.AllowDegraded = []string{"memory", "cpu"}
	}
	sb, err := open(t, testenv.Binaries(t).Init, p).Start(t.Context(), casemate.Spec{Tool: tool})
	if err != nil {
		t.Fatal(err)
	}
	defer sb.Close()
	run(sb, dir+"/program; perl -MIO::Socket::UNIX -e 'print \"reached\" if IO::Socket::UNIX->new(Peer => $ARGV[0])' "+dir+"/s")
	if out := finished(t, sb); out != "runs\n" {
		t.Errorf("%q", out)
	}
	l.(*net.UnixListener).SetDeadline(time.Now().Add(100 * time.Millisecond))
	if c, err := l.Accept(); err == nil {
		c.Close()
		t.Error("the host's socket was reached")
	}
}
