package merge

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// A planner walks the upper tree beside the host's folder and writes down
// what Apply shall do.
type planner struct {
	g       Grant
	lift    lifted
	pinned  [][]string // folded
	entries int        // how many more may be looked at
	bytes   int64      // how many more may be carried
	disk    int64      // the upper file system's size
	steps   []Step
	gone    []int // steps whose entry the host may have deleted meanwhile
}

// A place is one folder in the walk.
type place struct {
	rel    string
	comps  []string // of the host path, folded
	upper  int
	host   int    // -1: the host has no such folder yet
	opaque bool   // the guest saw only the upper tree here
	known  bool   // and did so at an earlier merge of this session
	fresh  bool   // the host changed the folder since the guest got it
	lost   string // not empty: nothing here can be carried, for this reason; it is kept aside
	depth  int
	repo   int // how many of comps are the host's folder that git takes for a repository; 0: none does
}

func (p place) at(name string) (rel string, comps []string) {
	folded := components(name)
	if len(folded) == 0 { // backslashes only
		folded = []string{""}
	}
	return join(p.rel, name), append(p.comps[:len(p.comps):len(p.comps)], folded...)
}

// name is the folder's own, folded.
func (p place) name() string {
	if len(p.comps) == 0 {
		return ""
	}
	return p.comps[len(p.comps)-1]
}

// Plan computes what Apply will do. It only reads, blocks for as long as it
// takes to read the upper tree once and what it replaces of the host once,
// and fails as a whole if the upper tree cannot be read or is over a bound.
func Plan(g Grant) ([]Step, error) { return plan(g, MaxEntries) }

func plan(g Grant, entries int) ([]Step, error) {
	p := &planner{g: g, lift: newLifted(g.Names), entries: entries, disk: 1 << 40}
	for _, f := range g.Pinned {
		p.pinned = append(p.pinned, components(f))
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(g.Upper, &fs); err != nil {
		return nil, fail("plan", g.At, err)
	}
	if fs.Blocks > 0 && fs.Blocks < 1<<32 && fs.Bsize > 0 {
		p.disk = int64(fs.Blocks) * fs.Bsize
	}
	p.bytes = p.disk
	upper, err := openFolder(g.Upper, "")
	if err != nil {
		return nil, fail("plan", g.At, err)
	}
	defer unix.Close(upper)
	host, err := openFolder(g.Host, "")
	if err != nil {
		return nil, fail("plan", g.HostPath, err)
	}
	defer unix.Close(host)
	h, err := statFd(host)
	if err != nil {
		return nil, fail("plan", g.HostPath, err)
	}
	root := place{comps: components(g.HostPath), upper: upper, host: host, fresh: p.fresh(h)}
	if err := p.folder(root); err != nil {
		return nil, fail("plan", g.At, err)
	}
	p.settleGone()
	return p.steps, nil
}

// settleGone decides about files that carry the mark of a copy from the host
// where the host has none: renamed, if the guest also deleted a file of the
// host's; else the host deleted it meanwhile.
func (p *planner) settleGone() {
	for i := range p.steps {
		if p.steps[i].Do == doDelete && p.steps[i].host.regular() {
			return
		}
	}
	for _, i := range p.gone {
		p.steps[i].Do, p.steps[i].Why = doConflict, "deleted on the host meanwhile"
	}
}

func (p *planner) fresh(h entry) bool { return h.ctime >= p.g.Since }

// changed reports whether the host changed the entry at rel, which it has,
// since the guest got it.
func (p *planner) changed(rel string, h entry) bool {
	if k, ok := p.g.Known[rel]; ok {
		return k.Ino != h.ino || k.Ctime != h.ctime
	}
	return p.fresh(h)
}

func (p *planner) add(s Step) { p.steps = append(p.steps, s) }

func (p *planner) hold(rel string, u entry, why string) {
	p.add(Step{Path: rel, Do: doHold, Why: why, upper: u})
}

// keepAside plans to keep the guest's version of a file or link.
func (p *planner) keepAside(rel string, u entry, target, why string) {
	if !p.spend(u, entry{}) {
		p.hold(rel, u, "larger than what the grant's disk can hold")
		return
	}
	p.add(Step{Path: rel, Do: doConflict, Why: why, upper: u, target: target})
}

// settle has a session remember that rel needs nothing.
func (p *planner) settle(rel string, u, h entry) {
	if p.g.Known != nil {
		p.add(Step{Path: rel, Do: doSettle, upper: u, host: h})
	}
}

// spend takes a file's bytes from what may be carried in all. The sum is
// bounded by the upper file system, whatever hard links and holes say.
func (p *planner) spend(u, h entry) bool {
	if !u.regular() {
		return true
	}
	if u.size > p.disk && u.size-p.disk > h.size || u.used > p.bytes {
		return false
	}
	p.bytes -= u.used
	return true
}

// folder plans for everything in one folder of the upper tree.
func (p *planner) folder(at place) error {
	names, err := list(at.upper, p.entries)
	if err != nil {
		return err
	}
	p.entries -= len(names)
	var git gitMarks
	if at.host >= 0 && len(names) > 0 {
		for _, name := range gitMarkNames {
			if h, err := statAt(at.host, name); err == nil && !h.absent() {
				git.add(fold(name))
			}
		}
	}
	if git.repository() && !same(at.name(), gitName) {
		at.repo = len(at.comps)
	}
	upper := make([]entry, len(names))
	for i, name := range names {
		if upper[i], err = statAt(at.upper, name); err != nil {
			return err
		}
		if upper[i].absent() {
			return errMoved
		}
		if !upper[i].whiteout() {
			git.add(fold(name))
		}
	}
	completes := git.repository() && at.repo != len(at.comps) && !same(at.name(), gitName)
	for i, name := range names {
		if err := p.child(at, name, upper[i], completes); err != nil {
			return err
		}
	}
	if at.opaque && at.host >= 0 && at.lost == "" {
		return p.hidden(at, names)
	}
	return nil
}

var errMoved = errors.New("the upper tree changed while it was read; stop the guest first")

// hidden plans for what the host has in a folder of which the guest saw only
// the upper tree, names: the guest deleted it, or never saw it.
func (p *planner) hidden(at place, names []string) error {
	there, err := list(at.host, p.entries)
	if err != nil {
		return err
	}
	inUpper := make(map[string]bool, len(names))
	for _, n := range names {
		inUpper[n] = true
	}
	for _, name := range there {
		rel, _ := at.at(name)
		k, known := p.g.Known[rel]
		if inUpper[name] || at.known && !known || known && k.Ino == 0 || strings.HasPrefix(name, TempPrefix) {
			continue
		}
		p.entries--
		h, err := statAt(at.host, name)
		if err != nil {
			return err
		}
		if _, err := p.remove(at, name, h, known); err != nil {
			return err
		}
	}
	return nil
}
