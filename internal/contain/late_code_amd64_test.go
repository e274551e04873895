package contain

import (
	"encoding/hex"
	"os/exec"
	"testing"

	"github.com/casemate/casemate/internal/testenv"
)

// interpretersWay runs lists of calls both ways that template.py has, and
// prints for each what the two returned and what they left in memory.
const interpretersWay = `
import ctypes, os, struct, sys, types
m = types.ModuleType("template")
exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), m.__dict__)
code = bytes.fromhex(sys.argv[2])
ways = m.late, m.compiled_late(code)
ANY = m.ANY
GETPID, GETPPID, CLOSE, VM_READ, PIPE2, WRITE, READ = 39, 110, 3, 310, 293, 1, 0
r, w = os.pipe()
pid = os.getpid()
def both(*calls):
    seen = []
    for way in ways:
        buf = ctypes.create_string_buffer(4096)
        at = ctypes.addressof(buf)
        struct.pack_into("<4s12x4s12x", buf, 2048, b"from", b"to..")
        struct.pack_into("<4q", buf, 2080, at + 2048, 4, at + 2064, 4)
        for i, c in enumerate(calls):
            c = [x(at) if callable(x) else x for x in c]
            nr, *args, want = c
            struct.pack_into("<8q", buf, 64 * i, nr, *args, *[0] * (6 - len(args)), want)
        got = way(at, len(calls), buf, 0)
        got = got[0], "pid" if got[1] == pid else got[1]
        seen.append((got, buf[2048:2052].decode() + " " + buf[2064:2068].decode()))
    print(seen[0] == seen[1], seen[0] if seen[0] == seen[1] else seen)
good = GETPID, pid
both()
both(good)
both(good, good, (GETPPID, os.getppid()))
both(good, (GETPID, pid + 1), good)
both((CLOSE, -1, 0), good)
both((CLOSE, -1, -9), good)
both((CLOSE, -1, ANY), good)
both((GETPID, ANY))
both((VM_READ, pid, lambda at: at + 2096, 1, lambda at: at + 2080, 1, 0, 4))
both((VM_READ, pid, lambda at: at + 2096, 1, lambda at: at + 2080, 1, 1, 4))
both((VM_READ, pid, lambda at: at + 2096, 1, lambda at: at + 2080, 2, 0, 4))
both((WRITE, w, lambda at: at + 2048, 2, 2), (READ, r, lambda at: at + 2064, 2, 2), good, (10000, 0))
print("over")
`

// What the machine code does is what the interpreter would have done: the same
// results, at the same call, with the same six arguments.
func TestLateCode(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "").Run(); err != nil {
		testenv.Require(t, "python", &testenv.Unsupported{What: python, Why: err.Error(), Fix: "apt install python3"})
	}
	out, err := exec.Command(python, "-I", "-c", interpretersWay, "../../runners/template.py", hex.EncodeToString(LateCode())).CombinedOutput()
	const want = `True ((0, 0), 'from to..')
True ((1, 0), 'from to..')
True ((3, 0), 'from to..')
True ((1, 'pid'), 'from to..')
True ((0, -9), 'from to..')
True ((2, 0), 'from to..')
True ((2, 0), 'from to..')
True ((1, 0), 'from to..')
True ((1, 0), 'from from')
True ((0, -22), 'from to..')
True ((1, 0), 'from from')
True ((3, -38), 'from fr..')
over
`
	if err != nil || string(out) != want {
		t.Errorf("%v\n%s", err, out)
	}
}
