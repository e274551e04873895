package process

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/testenv"
)

// said starts a sandbox, has it answer a call, and returns what it said or why
// it did not.
func said(t *testing.T, p *site, tool *casemate.Tool, code string) (c collected, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	sb, err := p.Start(ctx, casemate.Spec{Tool: tool})
	if err != nil {
		return c, err
	}
	defer sb.Close()
	s := sb.(*sandbox)
	f, err := guest.Read(s.Guest(), guest.MaxReply)
	switch {
	case err != nil:
		return c, err
	case f.Type == guest.Failure:
		return c, &casemate.Error{Op: "start", Tool: tool.Name, Kind: casemate.ToolFailed, Err: errString(f.Body), Fix: "as the router says"}
	case f.Type != guest.Ready:
		t.Fatalf("its first frame is %c", f.Type)
	}
	return python(t, s, code), nil
}

type errString string

func (e errString) Error() string { return string(e) }

// twice is one Python tool with a module of the test's to preload: forked, and
// alone.
func twice(t *testing.T, text string) (p *site, forked, alone *casemate.Tool) {
	t.Helper()
	python, prefix := modules(t, map[string]string{"first": text})
	forked, alone = pythonTools(t)
	for _, tool := range []*casemate.Tool{forked, alone} {
		tool.Run.Python.Interpreter, tool.Run.Python.Preload = python, []string{"first"}
	}
	return siteOf(t, Options{Prefixes: []string{prefix}}, forked, alone), forked, alone
}

func TestPreload(t *testing.T) { preloads(t) }

func TestPreloadAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, preloads)
}

// What a module does while it is imported is the operator's, and has the same
// outcome for a guest that is forked as for one that is not; where that is no
// guest, nothing is left.
func preloads(t *testing.T) {
	for name, c := range map[string]struct {
		module, code string
		says         string // on standard output, or the error
		fails        bool
	}{
		"absent":         {"import no_such_module", "1", "preload: the module first cannot be imported: ModuleNotFoundError: No module named 'no_such_module'", true},
		"syntax":         {"a = = 1", "1", "SyntaxError: invalid syntax\n", true},
		"raises":         {"raise SystemExit(3)", "1", "preload: the module first cannot be imported: SystemExit: 3", true},
		"long word":      {"raise Exception('x' * 1000000)", "1", "preload: the module first cannot be imported: Exception: xxx", true},
		"exits":          {"import os, sys\nsys.stderr.write('last words\\n')\nsys.stderr.flush()\nos._exit(7)", "1", "status 7", true},
		"dies":           {"import os\nos.kill(os.getpid(), 9)", "1", "137", true},
		"prints":         {"import sys\nfor f in sys.stdout, sys.stderr:\n  for i in range(1024): print('x' * 1023, file=f)", "print('on')", "on\n", false},
		"threads":        {"import threading, time\nfor i in range(8): threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()", "print('on')", "on\n", false},
		"descriptors":    {"import os\nheld = [os.open('/dev/null', 0) for i in range(200)]", "print('on')", "on\n", false},
		"changes path":   {"import sys, builtins\nsys.path.insert(0, '/nowhere')\nbuiltins.changed = [1]", "import sys\nprint(sys.path[0], changed)\nchanged.append(2)\nsys.path.insert(0, '/worse')", "/nowhere [1]\n", false},
		"signals":        {"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])", "print('on')", "on\n", false},
		"at exit":        {"import atexit, os\natexit.register(os.write, 1, b'late')", "print('on')", "on\n", false},
		"after fork":     {"import os\nos.register_at_fork(after_in_child=lambda: (_ for _ in ()).throw(Exception('no')))", "print('on')", "on\n", false},
		"own children":   {"import subprocess\np = subprocess.Popen(['sleep', '3600'])", "print('on')", "on\n", false},
		"its own limits": {"import resource\nfor r, n in (resource.RLIMIT_NOFILE, 200), (resource.RLIMIT_NPROC, 24): resource.setrlimit(r, (n, resource.getrlimit(r)[1]))", "print('on')", "on\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			p, forked, alone := twice(t, c.module)
			for _, tool := range []*casemate.Tool{alone, forked, forked} {
				got, err := said(t, p, tool, c.code)
				text := got.stdout
				switch {
				case err != nil && c.fails:
					text = typed(t, err, casemate.ToolFailed, casemate.Internal).Error()
				case err != nil || got.err != nil:
					t.Errorf("%s: %v %v", tool.Name, err, got)
					continue
				case c.fails:
					text = got.failure
				}
				t.Logf("%s: %.300q", tool.Name, text)
				if !strings.Contains(text, c.says) || len(text) > 32<<10 || !c.fails && c.says != "" && text != c.says {
					t.Errorf("%s: %.300q", tool.Name, text)
				}
			}
		})
	}
}

// A program that is no Python, or is never ready, ends the start, and nothing of
// it is left.
func TestInterpreters(t *testing.T) {
	for name, c := range map[string]struct{ script, says string }{
		"another program": {"#!/bin/true", "ended with status 0"},
		"not a program":   {"hello", "is no program of this machine"},
		"garbage":         {"#!/bin/sh\necho garbage of some length >&3; exec sleep 3600", "does not speak as a template"},
		"nothing":         {"#!/bin/sh\necho >&3; exec sleep 3600", "does not speak as a template"},
		"a packet":        {"#!/bin/sh\nhead -c 32 /dev/zero >&3; exec sleep 3600", "does not speak as a template"},
		"is never ready":  {"#!/bin/sh\nexec 3>&-; exec sleep 3600", "not ready after 30 s"},
	} {
		t.Run(name, func(t *testing.T) {
			_, prefix := modules(t, nil)
			forked, _ := pythonTools(t)
			forked.Run.Python.Interpreter = filepath.Join(prefix, "bin", "odd")
			if err := os.WriteFile(forked.Run.Python.Interpreter, []byte(c.script), 0o755); err != nil {
				t.Fatal(err)
			}
			os.Chmod(forked.Run.Python.Interpreter, 0o755)
			p := siteOf(t, Options{Prefixes: []string{prefix}}, forked)
			fault := func() {
				t.Helper()
				_, err := said(t, p, forked, "1")
				if e := typed(t, err, casemate.ToolFailed); !strings.Contains(e.Error(), c.says) {
					t.Error(err)
				}
			}
			fault()
			if name == "is never ready" {
				if left := descendants(p.s.proc.Pid); len(left) > 0 {
					t.Errorf("processes are left: %v", left)
				}
				return
			}
			fault()
			before := p.still(t)
			fault()
			p.settled(t, before)
		})
	}
}

// What a module changes of its interpreter, every child has; what a child
// changes, no other has; and what a module holds, no child has.
func TestPreloadIsNotShared(t *testing.T) {
	p, forked, _ := twice(t, `
import os, sys, builtins, threading, time
sys.path.insert(0, "/nowhere")
builtins.changed = [1]
os.environ["CHANGED"] = "yes"
os.chdir("/proc")
os.umask(0)
held = [os.open("/dev/null", os.O_RDONLY) for i in range(200)]
os.closerange(0, 3)
for i in range(8): threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
open("/tmp/left", "w").write("by the template")
`)
	const code = `
import os, sys, threading
def to(f):
    try: os.fstat(f)
    except OSError: return
    return f
print([f for f in range(4096) if to(f) is not None], len(os.listdir("/proc/self/task")), threading.active_count())
print(sys.path[0], changed, os.environ["CHANGED"], os.getcwd(), [f for f in os.listdir("/tmp") if f == "left"])
sys.path.insert(0, "/worse")
changed.append(2)
os.environ["CHANGED"] = "no"
open("/tmp/left", "w").write("by a child")
`
	const want = "[0, 1, 2, 3] 1 1\n/nowhere [1] yes /tmp []\n"
	for range 3 {
		if c, err := said(t, p, forked, code); err != nil || c.stdout != want {
			t.Errorf("%v %v", c, err)
		}
	}
}
