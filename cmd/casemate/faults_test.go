package main

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/casemate/casemate/internal/testenv"
)

const pooledTool = `
  - name: py
    run: {python: {preload: [json]}}
    pool: {min: 2, max: 2}
    security: {timeout: 90s}
`

// busy is how many sandboxes of a tool serve a call, and how many claims wait.
func (p *place) busy(tool string) (n int) {
	p.t.Helper()
	var v struct {
		Pools []struct {
			Tool          string
			Busy, Waiting int
		}
	}
	if err := json.Unmarshal([]byte(p.run("pool", "--json")), &v); err != nil {
		p.t.Fatal(err)
	}
	for _, x := range v.Pools {
		if x.Tool == tool {
			n += x.Busy + x.Waiting
		}
	}
	return n
}

func TestFaultsOfAPool(t *testing.T) { faultsOfAPool(t) }

func TestFaultsOfAPoolAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, faultsOfAPool)
}

// Killed guests, killed templates and clients that hang up cost a server that
// runs at most the calls that they had: nothing is left, and nobody restarts it.
func faultsOfAPool(t *testing.T) {
	if _, err := os.Stat("/usr/bin/python3"); err != nil {
		testenv.Require(t, "python", &testenv.Unsupported{What: "/usr/bin/python3", Why: err.Error(), Fix: "apt install python3"})
	}
	p := newPlace(t, pooledTool+"host: {allow_degraded: [memory, cpu]}\n") // an ordinary user may have no cgroups
	a := p.api()
	full := func() {
		t.Helper()
		eventually(t, "two sandboxes are parked, and none is busy", func() bool { return len(p.parked("py")) == 2 && p.busy("py") == 0 })
	}
	works := func() {
		t.Helper()
		for range 3 {
			if status, text := a.call(`{"tool":"py","arguments":{"code":"print(6*7)"}}`); status != "done" || text != "42\n" {
				t.Errorf("%s %q", status, text)
			}
		}
	}
	known := func(dead []int) {
		t.Helper()
		eventually(t, "the server knows", func() bool {
			return !slices.ContainsFunc(p.parked("py"), func(pid int) bool { return slices.Contains(dead, pid) })
		})
	}
	full()
	works()
	for range 2 {
		full()
		pids := p.parked("py")
		template, err := strconv.Atoi(stat(pids[0])[1])
		if err != nil || template < 2 {
			t.Fatal(template, err)
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		known(pids)
		works()
		full()
		pids = p.parked("py")
		syscall.Kill(template, syscall.SIGKILL)
		known(pids)
		works()
	}
	full()
	before := len(family(a.cmd.Process.Pid))
	const long = `{"tool":"py","arguments":{"code":"import time\ntime.sleep(80)"}}`
	for range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if code, body := a.do(ctx, "POST", "/v1/calls", long, ""); code != 0 {
			t.Errorf("%d %s", code, body)
		}
		cancel()
	}
	full()
	works()
	full()
	eventually(t, "as many processes as before", func() bool { return len(family(a.cmd.Process.Pid)) <= before })

	all := family(a.cmd.Process.Pid)
	a.cmd.Process.Signal(syscall.SIGTERM)
	a.ends(testWait)
	eventually(t, "nothing of the server is left", func() bool { return len(alive(all)) == 0 })

	b := p.serve().initialize() // whose one client speaks over its standard input
	b.send("tools/call", map[string]any{"name": "py", "arguments": map[string]any{"code": "import time\ntime.sleep(80)"}})
	eventually(t, "its call runs", func() bool { return p.busy("py") == 1 })
	all = family(b.cmd.Process.Pid)
	b.in.Close()
	b.ends(2 * testWait)
	eventually(t, "nothing of the server is left", func() bool { return len(alive(all)) == 0 })
}
