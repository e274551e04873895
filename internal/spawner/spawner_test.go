package spawner

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/cgroup"
	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/merge"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/spawn"
)

// Whatever a request holds, the guest that comes of it has at most what the
// plan has.
func TestNarrow(t *testing.T) {
	g := plan.Guest{Memory: 100, Disk: 100, Processes: 10, Mounts: []plan.Mount{{Source: "/a", At: "/a", Write: true}, {Source: "/b", At: "/b"}}}
	for _, r := range []spawn.Start{{Memory: 101}, {Disk: 1 << 62}, {Processes: 11}, {Without: []string{"/c"}}, {Without: []string{"/a/"}}} {
		if got, err := narrow(g, r); err == nil {
			t.Errorf("%+v gave %+v", r, got)
		}
	}
	got, err := narrow(g, spawn.Start{Memory: 50, Without: []string{"/a"}})
	want := plan.Guest{Memory: 50, Disk: 100, Processes: 10, Mounts: g.Mounts[1:]}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
	if len(g.Mounts) != 2 || g.Mounts[0].At != "/a" {
		t.Error("the plan itself was narrowed")
	}
	s := &server{plan: &plan.Plan{Guests: []plan.Guest{{Digest: "x"}}}}
	if _, _, err := s.guestOf(spawn.Start{Digest: "y"}); err == nil {
		t.Error("a tool that is not in the plan was found")
	}
}

func TestCallIDsAreOnePathElement(t *testing.T) {
	for _, id := range []string{"", "c", "..", "c_/x", "c_x/../y", "c_\x00", strings.Repeat("a", 65), "c_.."} {
		if goodCall(id) {
			t.Errorf("%q", id)
		}
	}
	if !goodCall("c_abcdefghijklmnopqrstuvwxyz") {
		t.Error("a good one was refused")
	}
}

// One record is one line; it is appended, and a link at its place is not
// followed.
func TestRecords(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "records")
	os.WriteFile(path, []byte("before\n"), 0o600)
	s := &server{}
	load := func(p *plan.Plan) error {
		f, err := memory("plan", p.Encode())
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		return s.setPlan(fd)
	}
	if err := load(&plan.Plan{Host: plan.Host{Records: path}}); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"", "a\nb", "a\x00", strings.Repeat("x", spawn.MaxRecord+1)} {
		if s.record(line) == nil {
			t.Errorf("%.20q was appended", line)
		}
	}
	if err := s.record(`{"a":1}`); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "before\n{\"a\":1}\n" {
		t.Errorf("%q", b)
	}
	os.Symlink(path, dir+"/link")
	s = &server{}
	if load(&plan.Plan{Host: plan.Host{Records: dir + "/link"}}) == nil {
		t.Error("a link was followed")
	}
}

func TestMountBelow(t *testing.T) {
	if got, err := mountBelow("/proc"); err != nil || got != "" && !strings.HasPrefix(got, "/proc/") {
		t.Errorf("%q", got)
	}
	if got, err := mountBelow("/"); err != nil || got == "" {
		t.Error("nothing is mounted below /")
	}
	if got := unescape(`/a\040b\134c`); got != `/a b\c` {
		t.Errorf("%q", got)
	}
}

// What a failed step says always has a kind, and for what is missing a fix.
func TestExplain(t *testing.T) {
	for _, k := range []contain.Kind{contain.Proc, contain.Landlock, contain.Grant, contain.Stage, contain.Pivot} {
		f := explain(&contain.Report{Step: string(k), What: "no", Errno: int64(unix.EPERM)})
		if f.Kind != "unsupported" || f.Fix == "" || !strings.Contains(f.What, string(k)) {
			t.Errorf("%s: %+v", k, f)
		}
	}
	if f := explainClone(unix.EAGAIN).(*spawn.Failed); f.Kind != "busy" {
		t.Errorf("%+v", f)
	}
	if f := explainClone(unix.EPERM).(*spawn.Failed); f.Kind != "unsupported" || f.Fix == "" {
		t.Errorf("%+v", f)
	}
}

func TestMergeMessages(t *testing.T) {
	q := &mergeRequest{true, true, "/h", "/a", []string{".git"}, []string{"/h/c"}, 5, []byte("k")}
	got, err := decodeMergeRequest(q.encode())
	if err != nil || !reflect.DeepEqual(got, q) {
		t.Errorf("%+v %v", got, err)
	}
	r := &mergeReply{"e", []merge.Change{{Path: "/p", Did: merge.Held, Why: "w"}}, []byte("k")}
	back, err := decodeMergeReply(r.encode())
	if err != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("%+v %v", back, err)
	}
}

// Answers about many or long paths stay within one message.
func TestShorten(t *testing.T) {
	var cs []spawn.Change
	for range 200 {
		cs = append(cs, spawn.Change{Path: strings.Repeat("p", 3000), Did: "created"})
	}
	m := &spawn.Message{Op: spawn.OpCommitted, Changes: shorten(cs)}
	if _, err := m.Encode(); err != nil {
		t.Error(err)
	}
	if last := m.Changes[len(m.Changes)-1]; last.Did != "more" {
		t.Errorf("%+v", last)
	}
}

// A namespace that is the host's, or that nobody has seen, is no wall.
func TestNamespacesAreSeen(t *testing.T) {
	s := &server{spaces: []string{"user:[1]", "mnt:[1]", "pid:[1]", "net:[1]", "ipc:[1]", "uts:[1]", "cgroup:[1]", "time:[1]"}}
	own := []string{"user:[2]", "mnt:[2]", "pid:[2]", "net:[2]", "ipc:[2]", "uts:[2]", "cgroup:[2]"}
	b := &box{group: &cgroup.Group{}}
	if e, err := s.enforced(b, &contain.Report{Spaces: own}, plan.Host{}, nil); err != nil || len(e.Namespaces) != 7 {
		t.Errorf("%+v %v", e, err)
	}
	for i := range own {
		shared := append([]string{}, own...)
		shared[i] = s.spaces[i]
		unseen := append(append([]string{}, own[:i]...), own[i+1:]...)
		for _, spaces := range [][]string{shared, unseen} {
			if e, err := s.enforced(b, &contain.Report{Spaces: spaces}, plan.Host{}, nil); err == nil {
				t.Errorf("%v passed as %v", spaces, e.Namespaces)
			}
		}
	}
}

// What a child does is not taken from one that had fewer groups to enter, or
// fewer walls to make.
func TestProgramsAreOfTheHost(t *testing.T) {
	tmpl := &template{s: &server{filters: map[string]string{}}, programs: map[string]*contain.Program{}}
	seen := map[*contain.Program]string{}
	for _, x := range []struct {
		groups  int
		without []string
	}{{2, nil}, {3, nil}, {3, []string{"landlock"}}} {
		p, err := tmpl.programOf(plan.Guest{Digest: "d", Runner: "python", Fork: true, Cwd: "/tmp"}, contain.Late{Cgroups: x.groups}, plan.Host{Without: x.without})
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[p]; ok {
			t.Errorf("%+v does what %s does", x, other)
		}
		seen[p] = strings.Join(append(x.without, "in groups"), " ")
	}
}

// A number that passed from a process of a sandbox to a stranger is the
// stranger's.
func TestStrangersAreNotLimited(t *testing.T) {
	stranger := exec.Command("/bin/sleep", "60")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer stranger.Wait()
	defer stranger.Process.Kill()
	var before, after unix.Rlimit
	unix.Prlimit(stranger.Process.Pid, unix.RLIMIT_NPROC, nil, &before)
	if err := limitProcess(stranger.Process.Pid, "pid:[1]", 5); err == nil {
		t.Error("a process of another namespace was limited")
	}
	unix.Prlimit(stranger.Process.Pid, unix.RLIMIT_NPROC, nil, &after)
	if before != after {
		t.Errorf("%+v, before %+v", after, before)
	}
}
