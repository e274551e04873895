package runners

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
)

// pythons returns the Python interpreters of this machine by version.
func pythons(t *testing.T) []string {
	home, _ := os.UserHomeDir()
	found, _ := filepath.Glob(home + "/.pyenv/versions/3.*/bin/python3")
	var usable []string
	for _, p := range append([]string{"/usr/bin/python3"}, found...) {
		if strings.Contains(p, "/3.6.") || strings.Contains(p, "/3.7.") {
			continue // older than what the runner is for
		}
		if _, err := os.Stat(p); err == nil {
			usable = append(usable, p)
		}
	}
	if len(usable) == 0 {
		t.Skip("this machine has no python3 in /usr/bin or pyenv")
	}
	return usable
}

func py(t *testing.T, g plan.Guest) *peer {
	g.Runner = "python"
	if g.Interpreter == "" {
		g.Interpreter = pythons(t)[0]
	}
	return start(t, g)
}

var pythonCases = []struct {
	name, code string
	want       wanted
}{
	{"print", "print(6*7)", wanted{stdout: "42\n"}},
	{"nothing", "", wanted{}},
	{"comment", "# nothing", wanted{}},
	{"last expression", "x = 'hel'\nx + 'lo'", wanted{value: "'hello'"}},
	{"last is None", "print('a')\nNone", wanted{stdout: "a\n"}},
	{"last is a string alone", "'doc'", wanted{value: "'doc'"}},
	{"last spans lines", "x = 1\n(x +\n 1)", wanted{value: "2"}},
	{"last after a semicolon", "x = 1; x", wanted{value: "1"}},
	{"last is a statement", "x = 1", wanted{}},
	{"last in a block is none", "if True:\n  5", wanted{}},
	{"last of many kinds", "[x for x in range(3)], {'a': 1}, lambda: 0, b'x'[0]", wanted{value: "([0, 1, 2], {'a': 1}, <function <lambda> at"}},
	{"unicode", "print('héé ☃ 𝄞')\n'𝄞'", wanted{stdout: "héé ☃ 𝄞\n", value: "'𝄞'"}},
	{"surrogate", "print('\\ud800')", wanted{stdout: "\\ud800\n"}},
	{"exception", "a=1\nb=2\nraise ValueError('boom')", wanted{status: 1, failure: "line 3, in <module>\n    raise ValueError('boom')"}},
	{"exception in a function", "def f():\n  return 1/0\n\nf()", wanted{status: 1, failure: "line 2, in f\n    return 1/0"}},
	{"exception in the last value's repr", "class A:\n  def __repr__(self): raise KeyError('r')\nA()", wanted{status: 1, failure: "line 2, in __repr__"}},
	{"chained", "try:\n  1/0\nexcept ZeroDivisionError:\n  raise ValueError('two')", wanted{status: 1, failure: "line 2, in <module>"}},
	{"what was printed before", "print('before')\nraise OSError('x')", wanted{stdout: "before\n", status: 1, failure: "OSError: x"}},
	{"syntax error", "a = 1\nb = = 2", wanted{status: 1, failure: "File \"<code>\", line 2"}},
	{"NUL", "a = '\x00'", wanted{status: 1, failure: "null byte"}},
	{"deep", strings.Repeat("(", 5000), wanted{status: 1, failure: "Error"}},
	{"recursion", "def f(): f()\nf()", wanted{status: 1, failure: "RecursionError"}},
	{"base exception", "class B(BaseException): pass\nraise B", wanted{status: 1, failure: "B"}},
	{"interrupt", "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)", wanted{status: 1, failure: "KeyboardInterrupt"}},
	{"exit", "import sys\nprint('x')\nsys.exit()", wanted{stdout: "x\n"}},
	{"exit 3", "import sys\nsys.exit(3)", wanted{status: 3}},
	{"exit with a text", "import sys\nsys.exit('bye')", wanted{status: 1, stderr: "bye\n"}},
	{"exit in a thread", "import sys, threading\nt = threading.Thread(target=sys.exit); t.start(); t.join()\nprint('on')", wanted{stdout: "on\n"}},
	{"_exit", "import os\nprint('x')\nos._exit(4)", wanted{stdout: "x\n", status: 4}},
	{"signal", "import os\nprint('x')\nos.kill(os.getpid(), 9)", wanted{stdout: "x\n", status: 137, failure: "signal 9"}},
	{"crash", "import ctypes\nctypes.string_at(0)", wanted{status: 139, failure: "signal 11"}},
	{"future", "from __future__ import annotations\ndef f(x: nope): pass\nf.__annotations__", wanted{value: "{'x': 'nope'}"}},
	{"main", "import __main__\nx = 5\n__name__, __main__.x, __import__('sys').argv", wanted{value: "('__main__', 5, [''])"}},
	{"nothing of the runner is there", "sorted(k for k in globals() if not k.startswith('__'))", wanted{value: "[]"}},
	{"pickle", "import pickle\nclass A: pass\ntype(pickle.loads(pickle.dumps(A()))) is A", wanted{value: "True"}},
	{"multiprocessing", "import multiprocessing as m\nm.set_start_method('fork')\ndef f(x): return x*x\nwith m.Pool(2) as p: r = p.map(f, range(4))\nr", wanted{value: "[0, 1, 4, 9]"}},
	{"module of the working folder", "open('helper.py','w').write('v = 7')\nimport helper\nhelper.v", wanted{value: "7"}},
	{"order with subprocesses", "import subprocess, os\nprint('a', end='')\nsubprocess.run(['echo', 'b'])\nprint('c', end='')\nos.system('echo d')\nprint('e')", wanted{stdout: "ab\ncd\ne\n"}},
	{"order with descriptor 1", "import os\nprint('a', flush=True)\nos.write(1, b'b\\n')\nprint('c')", wanted{stdout: "a\nb\nc\n"}},
	{"stderr", "import sys\nprint('e', file=sys.stderr)", wanted{stderr: "e\n"}},
	{"C stdio", "import ctypes\nctypes.CDLL(None).printf(b'from C')\nNone", wanted{stdout: "from C"}},
	{"fork that falls off the end", "import os\nprint('one', end='')\npid = os.fork()\nif pid:\n  os.waitpid(pid, 0)\n  print('parent')\nelse:\n  print('child')", wanted{stdout: "onechild\nparent\n"}},
	{"fork that fails", "import os, sys\npid = os.fork()\nif pid == 0:\n  raise ValueError('in the child')\nos.waitpid(pid, 0)[1] >> 8", wanted{value: "1", stderr: "in the child"}},
	{"fork that leaves", "import os, sys\npid = os.fork()\nif pid == 0: sys.exit(5)\nos.waitpid(pid, 0)[1] >> 8", wanted{value: "5"}},
	{"execv", "import os\nprint('before', end=' ')\nos.execv('/bin/sh', ['sh', '-c', 'sleep 0.2; echo after; exit 6'])", wanted{stdout: "before after\n", status: 6}},
	{"child cannot reach the pipe", "import subprocess\nsubprocess.run(['sh', '-c', 'ls /proc/self/fd'], close_fds=False, stdout=subprocess.PIPE).stdout.split()", wanted{value: "[b'0', b'1', b'2', b'3']"}},
	{"closed descriptor 1", "import os\nos.close(1)\n'v'", wanted{value: "'v'"}},
	{"closed descriptor 1, then printed", "import os\nos.close(1)\nprint('x')", wanted{status: 1, failure: "Bad file descriptor"}},
	{"closed stdout", "import sys\nsys.stdout.close()\n5", wanted{value: "5"}},
	{"closed pipe", "import os\nos.close(3)\nprint('x')", wanted{stdout: "x\n", status: 1, stderr: "Bad file descriptor"}},
	{"redirected stdout", "import sys, io\nsys.stdout = io.StringIO()\nprint('lost')\n1", wanted{value: "1"}},
	{"thread left", "import threading, time\nthreading.Thread(target=time.sleep, args=(30,)).start()\n'on'", wanted{value: "'on'"}},
	{"child left", "import subprocess\nsubprocess.Popen(['sleep', '30'])\n'on'", wanted{}},
	{"standard input", "import sys\nsys.stdin.read()", wanted{value: "''"}},
	{"matplotlib's environment", "import os\nos.environ['MPLBACKEND'], os.environ['MPLCONFIGDIR']", wanted{value: "('Agg', '/tmp/.matplotlib')"}},
	{"isolated", "import sys\nsys.flags.isolated, sys.flags.dont_write_bytecode, sys.flags.utf8_mode, sys.path[0].startswith('/')", wanted{value: "(1, 1, 1, True)"}},
	{"value longer than a frame", "'x' * (2 << 20)", wanted{stdout: "'" + strings.Repeat("x", 2<<20) + "'\n"}},
	{"failure longer than a frame", "raise ValueError('x' * (4 << 20))", wanted{status: 1, failure: "[...]"}},
	{"traceback that cannot be shown", "class E(Exception):\n  def __str__(self): raise SystemExit(9)\nraise E", wanted{status: 1, failure: "E"}},
}

func TestPython(t *testing.T) {
	for i, interpreter := range pythons(t) {
		if i > 0 && testing.Short() {
			break
		}
		t.Run(filepath.Base(filepath.Dir(filepath.Dir(interpreter))), func(t *testing.T) {
			for _, c := range pythonCases {
				t.Run(c.name, func(t *testing.T) {
					p := py(t, plan.Guest{Interpreter: interpreter})
					r := p.call("code", c.code)
					if c.name == "child left" || strings.HasPrefix(c.name, "last of many") {
						if !strings.HasPrefix(r.value, c.want.value) {
							t.Error(r.value)
						}
						c.want.value = r.value
					}
					c.want.check(t, r)
					if strings.Contains(r.failure, "runner") {
						t.Errorf("the failure shows the runner: %s", r.failure)
					}
					if r.took > 10*time.Second {
						t.Errorf("took %v", r.took)
					}
					p.wait()
				})
			}
		})
	}
}

func TestPythonReady(t *testing.T) {
	p := py(t, plan.Guest{Preload: []string{"json", "math"}})
	if !strings.HasPrefix(p.runtime, "Python 3.") {
		t.Errorf("runtime %q", p.runtime)
	}
	wanted{value: "True"}.check(t, p.call("code", "import sys\n'json' in sys.modules and 'math' in sys.modules"))
}

func TestPythonPreloadFails(t *testing.T) {
	p := py(t, plan.Guest{Preload: []string{"no_such_module"}})
	wanted{status: 1, failure: "preload: the module no_such_module cannot be imported"}.check(t, p.call("code", "1"))
}

// What a preload prints belongs to no call. (The module "this" prints a poem.)
func TestPythonPreloadPrints(t *testing.T) {
	p := py(t, plan.Guest{Preload: []string{"this"}})
	wanted{stdout: "y\n"}.check(t, p.call("code", "print('y')"))
}

func TestPythonMissingArgument(t *testing.T) {
	wanted{status: 2, failure: "code"}.check(t, py(t, plan.Guest{}).call("x", "1"))
}

func TestInterpreterDoesNotStart(t *testing.T) {
	for name, c := range map[string]struct{ path, want string }{
		"missing": {"/no/such/python3", "not found in the sandbox"},
		"silent":  {"/bin/true", "before it was ready"},
		"quoted":  {"/bin/ls", "cannot access"},
	} {
		p := launch(t, plan.Guest{Runner: "python", Interpreter: c.path})
		if f, err := guest.Read(p.conn, guest.MaxReply); err == nil {
			t.Errorf("%s: frame %c", name, f.Type)
		}
		p.wait()
		if !strings.Contains(p.stderr.String(), c.want) {
			t.Errorf("%s: %q", name, p.stderr.String())
		}
	}
}

func TestPythonSession(t *testing.T) {
	p := py(t, plan.Guest{Session: true})
	wanted{}.check(t, p.call("code", "x = 41\ndef f(): raise KeyError(x)"))
	wanted{value: "42"}.check(t, p.call("code", "x + 1"))
	wanted{status: 1, failure: "raise KeyError(x)"}.check(t, p.call("code", "\n\nf()"))
	wanted{status: 3}.check(t, p.call("code", "import sys; sys.exit(3)"))
	wanted{value: "41"}.check(t, p.call("code", "x"))
	wanted{}.check(t, p.call("code", "import threading, time\nthreading.Thread(target=lambda: (time.sleep(.3), print('late')), daemon=True).start()"))
	time.Sleep(600 * time.Millisecond)
	wanted{stdout: "late\nnow\n"}.check(t, p.call("code", "print('now')"))
	wanted{status: 4}.check(t, p.call("code", "import os; os._exit(4)"))
	p.wait() // the interpreter is gone, and so is the session
}

func TestPythonOut(t *testing.T) {
	p := py(t, plan.Guest{Session: true})
	r := p.call("code", "import os\nOUT = "+quote(p.out)+"\nf = open(OUT + '/open.txt', 'w')\nf.write('not closed')\nopen(OUT + '/plot.png', 'wb').write(bytes(range(256)))\nNone")
	if len(r.files) != 2 || r.files["open.txt"] != "not closed" || len(r.files["plot.png"]) != 256 || r.mimes["plot.png"] != "image/png" {
		t.Errorf("%q %q", r.files, r.mimes)
	}
	r = p.call("code", "f.write(' yet'); f.flush(); os.unlink(OUT + '/plot.png')")
	if len(r.files) != 1 || r.files["open.txt"] != "not closed yet" {
		t.Errorf("%q", r.files)
	}
	r = p.call("code", "open(OUT + '/last.svg', 'w').write('<svg/>')\nos._exit(0)")
	if len(r.files) != 1 || r.mimes["last.svg"] != "image/svg+xml" {
		t.Errorf("%q %q", r.files, r.mimes)
	}
}

func quote(s string) string { return "'" + s + "'" }

func TestPythonFlood(t *testing.T) {
	p := py(t, plan.Guest{})
	p.send("code", "while True: print('y' * 1000)")
	for sum := 0; sum < 4<<20; {
		f, err := guest.Read(p.conn, guest.MaxReply)
		if err != nil || f.Type != guest.Stdout || len(f.Body) > 64<<10 {
			t.Fatalf("%c %d %v", f.Type, len(f.Body), err)
		}
		sum += len(f.Body)
	}
	p.conn.Close()
	p.wait()
}

func TestPythonLastWords(t *testing.T) {
	p := py(t, plan.Guest{})
	p.send("code", "import fcntl, os\nfcntl.fcntl(1, 1031, 1 << 20)\nos.write(1, b'o' * 900000)\nNone")
	time.Sleep(300 * time.Millisecond) // meanwhile the runner cannot send it all
	if r := p.reply(); len(r.stdout) != 900000 || r.status != 0 {
		t.Errorf("%d bytes, status %d", len(r.stdout), r.status)
	}
}

func TestPythonLargeCode(t *testing.T) {
	p := py(t, plan.Guest{})
	wanted{value: "10485760"}.check(t, p.call("code", "len('"+strings.Repeat("x", 10<<20)+"')"))
}

// Code that writes garbage to the pipe costs its own call.
func TestPythonGarbage(t *testing.T) {
	for _, code := range []string{"os.write(3, b'O' * 1000)", "os.write(3, b'D\\0\\0\\0\\7\\0\\0\\0\\4\\0\\0\\0\\0')", "os.write(3, b'D\\0\\0\\0\\1\\0\\0\\0\\0')", "os.write(3, b'C\\0\\0\\0\\1\\0\\0\\0\\0')"} {
		p := py(t, plan.Guest{})
		p.send("code", "import os\n"+code)
		for {
			f, err := guest.Read(p.conn, guest.MaxReply)
			if err != nil {
				break
			}
			if f.Call != 1 || f.Type != guest.Stdout && f.Type != guest.Stderr && f.Type != guest.Failure && f.Type != guest.Done {
				t.Errorf("%s: frame %c of call %d", code, f.Type, f.Call)
			}
		}
		p.wait()
	}
}
