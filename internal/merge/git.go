package merge

// What git runs without being asked: hooks, and programs that config names
// (core.fsmonitor, core.pager, filters), also from a folder that config,
// commondir or a .git file points at. So within a .git folder what git does
// not run or obey is ordinary work (a commit, a checkout), and all else is
// protected; and a folder of any name that git would take for a repository
// (it holds HEAD, objects and refs, or HEAD and commondir: setup.c of git,
// is_git_directory) is treated as one.
const (
	gitName       = ".git"
	gitHooksName  = ".git/hooks"
	gitConfigName = ".git/config"
)

// gitOrdinary reports whether name, folded, is in a .git folder what a guest
// may write.
func gitOrdinary(name string) bool {
	switch name {
	case "head", "orig_head", "fetch_head", "merge_head", "cherry_pick_head", "revert_head", "auto_merge",
		"merge_msg", "merge_mode", "squash_msg", "commit_editmsg", "tag_editmsg", "description",
		"index", "objects", "refs", "logs", "packed-refs", "shallow":
		return true
	}
	return false
}

// gitProtected returns the protected name of what lies at rest, folded and
// not empty, in a git folder; "" where it is ordinary.
func gitProtected(rest []string) string {
	switch {
	case rest[0] == "hooks":
		return gitHooksName
	case rest[0] == "config" || rest[0] == "config.worktree":
		return gitConfigName
	case !gitOrdinary(rest[0]):
		return gitName
	case len(rest) >= 3 && rest[0] == "objects" && rest[1] == "info" && (rest[2] == "alternates" || rest[2] == "http-alternates"):
		return gitName // objects, and with them configuration of submodules, from elsewhere
	}
	return ""
}

var gitMarkNames = [...]string{"HEAD", "objects", "refs", "commondir"}

// gitCompletes returns the protected name of an entry, folded, that would be
// new in a folder that the merge would make a repository; "" if it may be
// made.
func gitCompletes(name string) string {
	switch name {
	case "head", "objects", "refs", "commondir":
		return gitName
	case "hooks", "config", "config.worktree":
		return gitProtected([]string{name})
	}
	return ""
}

// gitMarks are the names by which git knows a repository.
type gitMarks struct{ head, objects, refs, common bool }

func (m *gitMarks) add(name string) {
	switch name {
	case "head":
		m.head = true
	case "objects":
		m.objects = true
	case "refs":
		m.refs = true
	case "commondir":
		m.common = true
	}
}

func (m gitMarks) repository() bool { return m.head && (m.common || m.objects && m.refs) }
