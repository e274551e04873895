package runners

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
)

func node18(t *testing.T, g plan.Guest) *peer {
	path, err := exec.LookPath("node")
	if err != nil {
		t.Skip("this machine has no node: " + err.Error())
	}
	out, err := exec.Command(path, "-p", "process.versions.node.split('.')[0]").Output()
	if v, _ := strconv.Atoi(strings.TrimSpace(string(out))); err != nil || v < 18 {
		t.Skipf("node is older than 18: %s %v", out, err)
	}
	g.Runner, g.Interpreter = "node", path
	return start(t, g)
}

func TestNode(t *testing.T) {
	for _, c := range []struct {
		name, code string
		want       wanted
	}{
		{"log", "console.log(6*7)", wanted{stdout: "42\n"}},
		{"nothing", "", wanted{}},
		{"last expression", "const x = 'hel'\nx + 'lo'", wanted{value: "'hello'"}},
		{"last is undefined", "undefined", wanted{}},
		{"last is null", "null", wanted{value: "null"}},
		{"last is an object", "({a: [1, {b: 2}]})", wanted{value: "{ a: [ 1, { b: 2 } ] }"}},
		{"last is a promise", "Promise.resolve(5)", wanted{value: "5"}},
		{"unicode", "console.log('héé ☃ 𝄞')", wanted{stdout: "héé ☃ 𝄞\n"}},
		{"order of streams", "console.error('e'); console.log('o')", wanted{stdout: "o\n", stderr: "e\n"}},
		{"exception", "const a = 1\nconst b = 2\nthrow new Error('boom')", wanted{status: 1, failure: "<code>:3:7"}},
		{"exception in a function", "function f() {\n  null.x\n}\nf()", wanted{status: 1, failure: "at f (<code>:2:8)"}},
		{"no error thrown", "throw 'text'", wanted{status: 1, failure: "Uncaught 'text'"}},
		{"syntax error", "let a = 1\nlet = = 2", wanted{status: 1, failure: "<code>:2"}},
		{"exception in a timer", "setTimeout(() => {\n throw new Error('later') }, 10)", wanted{status: 1, failure: "<code>:2:8"}},
		{"unhandled rejection", "Promise.reject(new Error('no'))\n1", wanted{status: 1, failure: "Error: no"}},
		{"rejected value", "Promise.reject(new Error('no'))", wanted{status: 1, failure: "Error: no"}},
		{"timer", "setTimeout(() => console.log('later'), 50); 'now'", wanted{stdout: "later\n", value: "'now'"}},
		{"await", "const v = await Promise.resolve(4)\nconsole.log(v)", wanted{stdout: "4\n"}},
		{"await, last line", "const v = await Promise.resolve(4)\nv + 1;", wanted{value: "5"}},
		{"await, last line alone", "await Promise.resolve(4)", wanted{value: "4"}},
		{"await, last line goes on", "const v = await Promise.resolve(4)\nv\n+ 1", wanted{}},
		{"await, last line is a block's", "if (await Promise.resolve(1)) {\n  console.log('y')\n}", wanted{stdout: "y\n"}},
		{"await, last of a line", "console.log(1); await null; [4][0]", wanted{stdout: "1\n", value: "4"}},
		{"await, no expression after a semicolon", "for (let i = 0; i < await 1; i++) console.log('a; b')", wanted{stdout: "a; b\n"}},
		{"await, a line that opens with a bracket", "const f = await (() => 5)\n(4)", wanted{}},
		{"await in an async function alone", "var g = 1; (async () => { await null; return g })()", wanted{value: "1"}},
		{"return", "return 5", wanted{value: "5"}},
		{"await, return", "const v = await Promise.resolve(4)\nif (v) {\n  return 'r'\n}", wanted{value: "'r'"}},
		{"await, line of an exception", "await null\n\nthrow new Error('x')", wanted{status: 1, failure: "<code>:3:7"}},
		{"await, column of an exception", "await null; null.x\n1", wanted{status: 1, failure: "<code>:1:18"}},
		{"await, never", "await new Promise(() => {})", wanted{status: 13, failure: "nothing will settle"}},
		{"require", "require('path').join('a', 'b')", wanted{value: "'a/b'"}},
		{"require of the working folder", "require('fs').writeFileSync('m.js', 'module.exports = 7')\nrequire('./m')", wanted{value: "7"}},
		{"import", "const { join } = await import('path')\njoin('a', 'b')", wanted{value: "'a/b'"}},
		{"import in a script", "import('path').then((m) => m.join('a', 'b'))", wanted{value: "'a/b'"}},
		{"exit", "console.log('x'); process.exit(3)", wanted{stdout: "x\n", status: 3}},
		{"exit code", "process.exitCode = 4; 1", wanted{value: "1", status: 4}},
		{"much, then exit", "process.stdout.write('x'.repeat(1 << 20)); process.exit(0)", wanted{stdout: strings.Repeat("x", 1<<20)}},
		{"signal", "process.kill(process.pid, 'SIGKILL'); setTimeout(() => {}, 5000)", wanted{status: 137, failure: "signal 9"}},
		{"order with a child", "console.log('a'); require('child_process').spawnSync('echo', ['b'], {stdio: 'inherit'}); console.log('c')", wanted{stdout: "a\nb\nc\n"}},
		{"child's output is awaited", "require('child_process').exec('sleep 0.1; echo b', (e, out) => console.log(out.trim()))\nundefined", wanted{stdout: "b\n"}},
		{"child cannot reach the pipe", "require('child_process').spawnSync('ls', ['/proc/self/fd'], {stdio: ['ignore', 'pipe', 'ignore']}).stdout.toString().split('\\n').length", wanted{value: "5"}},
		{"worker", "const { Worker } = require('worker_threads')\nnew Worker('console.log(\"w\")', {eval: true})\nundefined", wanted{stdout: "w\n"}},
		{"nothing of the runner is there", "[typeof send, typeof call, typeof PIPE, process.argv.length, require.main === undefined]", wanted{value: "[ 'undefined', 'undefined', 'undefined', 2, false ]"}},
		{"closed stdout", "require('fs').closeSync(1); console.log('x'); 5", wanted{value: "5"}},
		{"closed pipe", "require('fs').closeSync(3); console.log('x')", wanted{stdout: "x\n", status: 1}},
		{"standard input", "require('fs').readFileSync(0, 'utf8')", wanted{value: "''"}},
		{"value that cannot be shown", "({[require('util').inspect.custom]() { throw new Error('shy') }})", wanted{status: 1, failure: "Error: shy"}},
		{"value longer than a frame", "({toString() {}, [require('util').inspect.custom]: () => 'x'.repeat(2 << 20)})", wanted{stdout: strings.Repeat("x", 2<<20) + "\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := node18(t, plan.Guest{})
			r := p.call("code", c.code)
			c.want.check(t, r)
			if strings.Contains(r.failure, "runner") {
				t.Errorf("the failure shows the runner: %s", r.failure)
			}
			p.wait()
		})
	}
}

func TestNodeSession(t *testing.T) {
	p := node18(t, plan.Guest{Session: true, Preload: []string{"util"}})
	if !strings.HasPrefix(p.runtime, "Node ") {
		t.Errorf("runtime %q", p.runtime)
	}
	wanted{}.check(t, p.call("code", "const x = 41; var y = 1; globalThis.z = 2; function f() { throw new Error('f') }; undefined"))
	wanted{value: "44"}.check(t, p.call("code", "x + y + z"))
	wanted{status: 1, failure: "at f (<code>:1:"}.check(t, p.call("code", "\nf()"))
	wanted{status: 1, failure: "x is not"}.check(t, p.call("code", "setTimeout(() => { throw new Error('x is not') }, 1); await new Promise((r) => setTimeout(r, 100))"))
	wanted{value: "41"}.check(t, p.call("code", "x"))
	wanted{status: 2, failure: "code"}.check(t, p.call("x", "1"))
	r := p.call("code", "require('fs').writeFileSync("+quote(p.out+"/a.json")+", '{}'); process.exit(0)")
	if r.files["a.json"] != "{}" || r.mimes["a.json"] != "application/json" {
		t.Errorf("%v %v", r.files, r.mimes)
	}
	p.wait()
}

func TestNodePreloadFails(t *testing.T) {
	p := node18(t, plan.Guest{Preload: []string{"no-such-module"}})
	wanted{status: 1, failure: "preload: the module no-such-module"}.check(t, p.call("code", "1"))
}

func TestNodeFlood(t *testing.T) {
	p := node18(t, plan.Guest{})
	p.send("code", "for (;;) console.log('y'.repeat(1000))")
	time.Sleep(300 * time.Millisecond)
	for sum := 0; sum < 4<<20; {
		f, err := guest.Read(p.conn, guest.MaxReply)
		if err != nil || f.Type != guest.Stdout || len(f.Body) > 64<<10 {
			t.Fatalf("%c %d %v", f.Type, len(f.Body), err)
		}
		sum += len(f.Body)
	}
}

func TestNodeLargeCode(t *testing.T) {
	wanted{value: "10485760"}.check(t, node18(t, plan.Guest{}).call("code", "'"+strings.Repeat("x", 10<<20)+"'.length"))
}
