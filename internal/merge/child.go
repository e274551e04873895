package merge

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// child plans for one entry of the upper tree; completes says that the
// merge would make its folder a repository of git.
func (p *planner) child(at place, name string, u entry, completes bool) error {
	rel, comps := at.at(name)
	var h entry
	if at.host >= 0 {
		var err error
		if h, err = statAt(at.host, name); err != nil {
			p.hold(rel, u, hostWhy(err))
			return nil
		}
	}
	if strings.HasPrefix(name, TempPrefix) {
		if !u.whiteout() {
			p.hold(rel, u, "the name is one of Casemate's own")
		}
		return nil
	}
	if u.whiteout() {
		return p.whiteout(at, name, rel, h)
	}
	if len(rel) > MaxPath || at.depth >= MaxDepth {
		p.hold(rel, u, "too deep")
		return nil
	}
	why := p.guard(comps, u.folder(), at.repo)
	if git := gitCompletes(comps[len(comps)-1]); completes && h.absent() && git != "" && why == "" && !p.lift.has(git) {
		why = "protected: " + git + ", since git would take the folder for a repository"
	}
	switch {
	case u.folder():
		return p.subfolder(at, name, rel, comps, u, h, why)
	case u.regular():
		return p.file(at, name, rel, u, h, why)
	case u.link():
		return p.link(at, name, rel, comps, u, h, why)
	}
	if u.kind != h.kind { // else the overlay's copy of the host's own
		p.hold(rel, u, "a device, FIFO or socket")
	}
	return nil
}

func (p *planner) whiteout(at place, name, rel string, h entry) error {
	k, known := p.g.Known[rel]
	switch {
	case at.lost != "", known && k.Ino == 0 && !h.absent(): // made on the host since; the guest never saw it
		return nil
	case h.absent():
		p.settle(rel, entry{}, h)
		return nil
	}
	p.entries--
	_, err := p.remove(at, name, h, false)
	return err
}

// settled reports whether an earlier merge of the session dealt with this
// very version of the guest's entry.
func (p *planner) settled(rel string, u entry) bool {
	k, ok := p.g.Known[rel]
	return ok && k.UpperIno == u.ino && k.UpperCtime == u.ctime
}

func (p *planner) file(at place, name, rel string, u, h entry, why string) error {
	if p.settled(rel, u) {
		return nil
	}
	fd, err := open(at.upper, name, unix.O_RDONLY, 0)
	if err != nil {
		p.hold(rel, u, "unreadable: "+err.Error())
		return nil
	}
	defer unix.Close(fd)
	if now, err := statFd(fd); err != nil || !u.untouched(now) {
		return errMoved
	}
	for _, attr := range []string{"metacopy", "redirect", "whiteout"} {
		if v, err := overlayAttr(fd, attr); err != nil || v != "" {
			p.hold(rel, u, "an overlay feature that is not read: "+attr)
			return nil
		}
	}
	if h.regular() && h.mode&0o777 == u.mode&0o777 && h.size == u.size && sameContent(fd, at.host, name, h) {
		p.settle(rel, u, h)
		return nil
	}
	if done, err := p.replace(at, name, rel, u, h, "", why); err != nil || !done {
		return err
	}
	if h.absent() && at.fresh && !at.opaque {
		if origin, err := overlayAttr(fd, "origin"); err != nil || origin != "" {
			p.gone = append(p.gone, len(p.steps)-1)
		}
	}
	return nil
}

// sameContent reports whether the host's file name holds what fd holds.
func sameContent(fd, dir int, name string, h entry) bool {
	there, err := open(dir, name, unix.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer unix.Close(there)
	now, err := statFd(there)
	return err == nil && h.untouched(now) && equalData(fd, there, h.size)
}

func (p *planner) link(at place, name, rel string, comps []string, u, h entry, why string) error {
	if p.settled(rel, u) {
		return nil
	}
	target, err := readLink(at.upper, name)
	if err != nil {
		return err
	}
	if h.link() {
		if there, err := readLink(at.host, name); err == nil && there == target {
			p.settle(rel, u, h)
			return nil
		}
	}
	if why == "" {
		why = p.linkWhy(rel, comps, target)
	}
	_, err = p.replace(at, name, rel, u, h, target, why)
	return err
}

// linkWhy returns why a link must not be made; "" if it may. It must be
// relative and lead, wherever it stands in the grant, to a name in the grant
// that is not protected; and it must not give other files a protected name.
func (p *planner) linkWhy(rel string, comps []string, target string) string {
	if target == "" || target[0] == '/' {
		return "an absolute link"
	}
	var within []string
	if dir := path.Dir(rel); dir != "." {
		within = strings.Split(dir, "/")
	}
	down := false
	for _, c := range strings.Split(target, "/") {
		switch c {
		case "", ".":
		case "..":
			// Behind a name, .. goes up from wherever the name leads, which
			// may itself be a link.
			if down || len(within) == 0 {
				return "a link that may lead out of the grant"
			}
			within = within[:len(within)-1]
		default:
			down = true
			within = append(within, c)
		}
	}
	to := append(components(p.g.HostPath), components(strings.Join(within, "/"))...)
	if why := p.guard(to, true, 0); why != "" {
		return "a link to what is " + why
	}
	if name := p.lift.leads(comps); name != "" {
		return "a link in place of a folder of what is protected: " + name
	}
	for _, c := range comps {
		if same(c, gitName) {
			return "a link in a folder of git"
		}
	}
	for _, pin := range p.pinned {
		if len(comps) < len(pin) && begins(pin, comps) {
			return "a link in place of a folder of what the configuration refers to"
		}
	}
	return ""
}

// replace plans to put the guest's file or link in its place, and reports
// whether the last step does.
func (p *planner) replace(at place, name, rel string, u, h entry, target, why string) (bool, error) {
	k, known := p.g.Known[rel]
	switch {
	case why != "":
		p.hold(rel, u, why)
		return false, nil
	case at.lost != "":
		why = at.lost
	case h.absent() && known && k.Ino != 0:
		why = "deleted on the host meanwhile"
	case h.absent(), h.folder():
	case !h.regular() && !h.link():
		p.hold(rel, u, "the host has a device, FIFO or socket there")
		return false, nil
	case p.changed(rel, h):
		why = "changed on the host meanwhile"
	}
	if why == "" && h.folder() {
		all, err := p.remove(at, name, h, false)
		if err != nil {
			return false, err
		}
		if !all {
			why = "the host's folder there holds entries that stay"
		}
		h = entry{}
	}
	if why != "" {
		p.keepAside(rel, u, target, why)
		return false, nil
	}
	if !p.spend(u, h) {
		p.hold(rel, u, "larger than what the grant's disk can hold")
		return false, nil
	}
	do := doChange
	if h.absent() {
		do = doCreate
	}
	p.add(Step{Path: rel, Do: do, upper: u, host: h, target: target})
	return true, nil
}

// subfolder plans for a folder of the upper tree and all that is in it.
func (p *planner) subfolder(at place, name, rel string, comps []string, u, h entry, why string) error {
	fd, err := openFolder(at.upper, name)
	if err != nil {
		p.hold(rel, u, "unreadable: "+err.Error())
		return nil
	}
	defer unix.Close(fd)
	opaque, err := overlayAttr(fd, "opaque")
	if err != nil {
		return err
	}
	if v, err := overlayAttr(fd, "redirect"); err != nil || v != "" {
		p.hold(rel, u, "an overlay feature that is not read: redirect")
		return nil
	}
	// A folder that an earlier merge of the session made is, to the overlay,
	// still the upper tree's alone, though not marked so.
	k, known := p.g.Known[rel]
	alone := at.opaque || opaque == "y" || known && k.UpperIno == u.ino
	in := place{rel: rel, comps: comps, upper: fd, host: -1, opaque: alone, known: known, lost: at.lost, depth: at.depth + 1, repo: at.repo}
	switch {
	case at.lost != "":
		return p.folder(in)
	case h.folder():
		return p.both(at, name, in, u, h)
	case why != "":
		p.hold(rel, u, why)
		return nil
	case h.absent():
		if in.lost, err = p.lostFolder(rel, fd, in.opaque); err != nil {
			return err
		}
	case !h.regular() && !h.link():
		p.hold(rel, u, "the host has a device, FIFO or socket there")
		return nil
	case p.changed(rel, h):
		in.lost = "changed on the host meanwhile"
	default:
		p.add(Step{Path: rel, Do: doDelete, host: h})
	}
	if in.lost != "" {
		return p.folder(in)
	}
	in.opaque = true
	p.add(Step{Path: rel, Do: doCreate, upper: u})
	if err := p.folder(in); err != nil {
		return err
	}
	p.add(Step{Path: rel, Do: doFinish, upper: u})
	return nil
}

// lostFolder says whether the host deleted, meanwhile, the folder at rel that
// it does not have: the guest's is the overlay's copy of it.
func (p *planner) lostFolder(rel string, fd int, opaque bool) (why string, err error) {
	const gone = "its folder was deleted on the host meanwhile"
	if k, ok := p.g.Known[rel]; ok && k.Ino != 0 {
		return gone, nil
	}
	if opaque {
		return "", nil
	}
	origin, err := overlayAttr(fd, "origin")
	if err != nil || origin == "" {
		return "", err
	}
	return gone, nil
}

// both plans for a folder that the guest and the host have.
func (p *planner) both(at place, name string, in place, u, h entry) error {
	host, err := openFolder(at.host, name)
	if err != nil {
		p.hold(in.rel, u, hostWhy(err))
		return nil
	}
	defer unix.Close(host)
	in.host, in.fresh = host, p.fresh(h)
	if !in.opaque && u.mode&0o777 != h.mode&0o777 {
		p.hold(in.rel, u, "the mode of a folder that the host has is not changed")
	}
	if err := p.folder(in); err != nil {
		return err
	}
	if in.opaque {
		p.settle(in.rel, u, h)
	}
	return nil
}
