package merge

import "golang.org/x/sys/unix"

// guard returns why the entry at comps must not be written; "" if it may.
// repo is that of its place.
func (p *planner) guard(comps []string, folder bool, repo int) string {
	if name := p.lift.protected(comps, folder); name != "" {
		return "protected: " + name
	}
	if repo > 0 && len(comps) > repo {
		if name := gitProtected(comps[repo:]); name != "" && !p.lift.has(name) {
			return "protected: " + name + ", since git takes the folder for a repository"
		}
	}
	for _, pin := range p.pinned {
		if begins(comps, pin) {
			return "protected: the configuration refers to it"
		}
	}
	return ""
}

// remove plans to delete what the host has at name, h, all of it, and reports
// whether nothing of it stays. unseen says that the guest saw there only what
// the session's own merges wrote.
func (p *planner) remove(at place, name string, h entry, unseen bool) (all bool, err error) {
	rel, comps := at.at(name)
	_, known := p.g.Known[rel]
	stays := func(do, why string) (bool, error) {
		p.add(Step{Path: rel, Do: do, Why: why, host: h})
		return false, nil
	}
	if at.depth >= MaxDepth || len(rel) > MaxPath {
		return stays(doHold, "too deep")
	}
	why := p.guard(comps, h.folder(), at.repo)
	switch {
	case h.folder():
	case why != "":
		return stays(doHold, why)
	case !h.regular() && !h.link():
		return stays(doHold, "a device, FIFO or socket of the host's")
	case p.changed(rel, h) || unseen && !known:
		return stays(doConflict, "deleted by the guest, changed on the host meanwhile")
	default:
		p.add(Step{Path: rel, Do: doDelete, host: h})
		return true, nil
	}

	fd, err := openFolder(at.host, name)
	if err != nil {
		return stays(doHold, hostWhy(err))
	}
	defer unix.Close(fd)
	names, err := list(fd, p.entries)
	if err != nil {
		return false, err
	}
	p.entries -= len(names)
	in := place{rel: rel, comps: comps, host: fd, depth: at.depth + 1, repo: at.repo}
	var git gitMarks
	for _, n := range names {
		git.add(fold(n))
	}
	if git.repository() && !same(in.name(), gitName) {
		in.repo = len(comps)
	}
	all = true
	for _, n := range names {
		e, err := statAt(fd, n)
		if err != nil {
			return false, err
		}
		gone, err := p.remove(in, n, e, unseen || known)
		if err != nil {
			return false, err
		}
		all = all && gone
	}
	if why != "" {
		return stays(doHold, why)
	}
	if !all {
		return stays(doHold, "holds entries that stay")
	}
	p.add(Step{Path: rel, Do: doDelete, host: h})
	return true, nil
}

// hostWhy says why a folder of the host's cannot be entered.
func hostWhy(err error) string {
	switch err {
	case unix.EXDEV:
		return "another file system is mounted there"
	case unix.ELOOP, unix.ENOTDIR, unix.ENOENT:
		return "the folder is no longer what it was on the host"
	}
	return "the host refuses: " + err.Error()
}
