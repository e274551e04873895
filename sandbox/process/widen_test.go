package process

import (
	"math/rand/v2"
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

// Whatever a profile holds and whatever a start and a late grant ask, what the
// sandbox really has, seen from inside and from the host, is at most the least of
// the three; and what asks for more gets nothing.
func TestNothingWidens(t *testing.T) { nothingWidens(t) }

func TestNothingWidensAsUser(t *testing.T) {
	subject(t)
	testenv.AsUser(t, nothingWidens)
}

func nothingWidens(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 12 {
		w := &widening{r: r, dir: t.TempDir()}
		os.Chmod(w.dir, 0o755)
		w.try(t)
	}
}

type widening struct {
	r   *rand.Rand
	dir string
}

var widenMounts = [...]string{"/docs", "/work", "/deep/er"}

// tool is one with a random profile.
func (w *widening) tool(t *testing.T) *casemate.Tool {
	p := casemate.Profile{Memory: (96 + w.r.Int64N(128)) << 20, Processes: 8 + w.r.IntN(60), CPU: 0.25 + float64(w.r.IntN(8))/4, Disk: (8 + w.r.Int64N(64)) << 20}
	for _, at := range widenMounts {
		if w.r.IntN(4) == 0 {
			continue
		}
		path := filepath.Join(w.dir, strings.ReplaceAll(at, "/", "_"))
		must(t, os.Mkdir(path, 0o755))
		must(t, os.WriteFile(path+"/f", []byte("canary"), 0o644))
		access := casemate.Read
		if w.r.IntN(2) == 0 {
			access = casemate.Write
		}
		p.Filesystem = append(p.Filesystem, casemate.Mount{Path: path, At: at, Access: access})
	}
	run := []casemate.Run{{Shell: &casemate.Shell{}}, {Python: &casemate.Script{Interpreter: "/usr/bin/python3"}}, {Python: &casemate.Script{Interpreter: "/usr/bin/python3", NoFork: true}}}
	return &casemate.Tool{Name: "any", Run: run[w.r.IntN(len(run))], Security: p}
}

// grant asks for something, now and then for more than p has.
func (w *widening) grant(p casemate.Profile) (g casemate.Grant, more bool) {
	part := func(have int64) int64 {
		switch w.r.IntN(10) {
		case 0:
			more = true
			return have + 1 + w.r.Int64N(have)
		case 1, 2, 3:
			return have - w.r.Int64N(have/3)
		}
		return 0
	}
	g.Memory, g.Disk, g.Processes = part(p.Memory), part(p.Disk), int(part(int64(p.Processes)))
	g.CPU = float64(part(int64(p.CPU*1000))) / 1000
	for _, at := range widenMounts {
		if w.r.IntN(3) > 0 {
			continue
		}
		has := false
		for _, m := range p.Filesystem {
			has = has || m.At == at
		}
		more = more || !has
		g.Without = append(g.Without, at)
	}
	return g, more
}

// less is p with what g takes from it.
func less(p casemate.Profile, g casemate.Grant) casemate.Profile {
	lower := func(to *int64, n int64) {
		if n > 0 {
			*to = min(*to, n)
		}
	}
	lower(&p.Memory, g.Memory)
	lower(&p.Disk, g.Disk)
	if g.Processes > 0 {
		p.Processes = min(p.Processes, g.Processes)
	}
	if g.CPU > 0 {
		p.CPU = min(p.CPU, g.CPU)
	}
	var kept []casemate.Mount
	for _, m := range p.Filesystem {
		left := false
		for _, at := range g.Without {
			left = left || m.At == at
		}
		if !left {
			kept = append(kept, m)
		}
	}
	p.Filesystem = kept
	return p
}

func (w *widening) try(t *testing.T) {
	tool := w.tool(t)
	p := tool.Security
	first, more := w.grant(p)
	b := subject(t).Open(t, tool)
	sb, err := b.Start(t.Context(), casemate.Spec{Tool: tool, Grant: first})
	if more {
		if err == nil {
			t.Errorf("%+v was granted %+v", p, first)
			sb.Close()
		}
		return
	}
	must(t, err)
	defer sb.Close()
	if f, err := guest.Read(sb.Guest(), guest.MaxReply); err != nil || f.Type != guest.Ready {
		t.Fatalf("%+v: %c %q %v", first, f.Type, f.Body, err)
	}
	p = less(p, first)
	second, more := w.grant(p)
	switch err := sb.(casemate.Narrower).Narrow(t.Context(), second); {
	case more && err == nil:
		t.Errorf("%+v was given %+v late", p, second)
		return
	case err == nil:
		p = less(p, second)
	case !more && casemate.KindOf(err) != casemate.Unsupported:
		t.Errorf("%+v of %+v: %v", second, p, err)
	}
	w.look(t, sb, tool, p)
}

// look compares what there is with p.
func (w *widening) look(t *testing.T, sb casemate.Sandbox, tool *casemate.Tool, p casemate.Profile) {
	const probe = `grep -E '^(Seccomp|CapEff|NoNewPrivs):' /proc/self/status; grep 'Max processes' /proc/self/limits; df -B1 --output=size /tmp | tail -1; for d in /docs /work /deep/er; do cat $d/f >/dev/null 2>&1 && echo read $d; (echo x > $d/new) 2>/dev/null && echo wrote $d; done; true`
	key, line := "command", probe
	if tool.Run.Shell == nil {
		key, line = "code", "import subprocess; print(subprocess.run(['sh', '-c', "+strconv.Quote(probe)+"], stdout=-1, text=True).stdout)"
	}
	e := sb.Enforced()
	if e.Memory != nil {
		if n := numberOf(t, seenFromHost(t, sb, "memory", "memory.limit_in_bytes", "memory.max")); n > p.Memory || e.Memory.Limit > p.Memory {
			t.Errorf("memory %d, recorded %d, of %d", n, e.Memory.Limit, p.Memory)
		}
	}
	if e.CPU != nil && e.CPU.Limit > int64(p.CPU*1000) {
		t.Errorf("cpu %d of %v", e.CPU.Limit, p.CPU)
	}
	if e.Processes.Limit > int64(p.Processes) || e.Disk.Limit > p.Disk {
		t.Errorf("recorded %+v %+v, of %+v", e.Processes, e.Disk, p)
	}
	must(t, guest.Write(sb.Guest(), guest.Frame{Type: guest.Call, Call: 1, Body: guest.AppendPairs(nil, []guest.Pair{{Key: key, Value: line}})}))
	out := finished(t, sb)
	facts := map[string]string{}
	var size int64
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		switch {
		case len(f) == 1:
			size = numberOf(t, f[0])
		case len(f) == 2:
			facts[line[:len(line)-1]] = f[1]
			facts[f[0]] = f[1]
		case len(f) > 2 && f[0] == "Max":
			if n := numberOf(t, f[2]); n > int64(p.Processes)+slackSeen {
				t.Errorf("%d processes of %d", n, p.Processes)
			}
		}
	}
	if facts["Seccomp:"] != "2" || facts["NoNewPrivs:"] != "1" || strings.Trim(facts["CapEff:"], "0") != "" {
		t.Errorf("the walls: %q", out)
	}
	if size == 0 || size > (p.Disk+4095)/4096*4096 {
		t.Errorf("a disk of %d, of %d: %q", size, p.Disk, out)
	}
	for _, at := range widenMounts {
		read, wrote := false, false
		for _, m := range p.Filesystem {
			if m.At == at {
				read, wrote = true, m.Access == casemate.Write
			}
		}
		if _, did := facts["read "+at]; did != read {
			t.Errorf("%s: read %v, granted %v", at, did, read)
		}
		if _, did := facts["wrote "+at]; did != wrote {
			t.Errorf("%s: wrote %v, granted %v", at, did, wrote)
		}
	}
}

// slackSeen is at most what the first process of a sandbox adds to the rlimit.
const slackSeen = 32

func numberOf(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	must(t, err)
	return n
}
