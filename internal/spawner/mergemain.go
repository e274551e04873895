package spawner

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/linux"
	"github.com/casemate/casemate/internal/merge"
)

// MergeMain is a merge process: it confines itself to the three folders that
// it was given, carries one grant, and ends.
func MergeMain() int {
	reply := mergeReply{}
	if err := mergeMain(&reply); err != nil {
		reply.err = err.Error()
	}
	if _, err := os.NewFile(mergeReplyFD, "reply").WriteAt(reply.encode(), 0); err != nil {
		return 1
	}
	return 0
}

func mergeMain(reply *mergeReply) error {
	for fd := mergeRequestFD; fd <= mergeKeepFD; fd++ {
		unix.CloseOnExec(fd)
	}
	unix.Umask(0o022)
	in := os.NewFile(mergeRequestFD, "request")
	st, err := in.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, st.Size())
	if _, err := in.ReadAt(b, 0); err != nil {
		return err
	}
	q, err := decodeMergeRequest(b)
	if err != nil {
		return err
	}
	if err := confineMerge(q); err != nil {
		return err
	}
	if q.Undo {
		reply.changes, err = merge.Undo(mergeKeepFD, mergeHostFD)
		return err
	}
	known := map[string]merge.Stamp{}
	if len(q.Known) > 0 {
		if known, err = merge.DecodeKnown(q.Known); err != nil {
			return err
		}
	}
	g := merge.Grant{Upper: mergeUpperFD, Host: mergeHostFD, HostPath: q.HostPath, At: q.At, Names: q.Names, Pinned: q.Pinned,
		Since: q.Since, Known: known, Keep: mergeKeepFD}
	steps, err := merge.Plan(g)
	if err != nil {
		return err
	}
	reply.changes, err = merge.Apply(g, steps)
	reply.known = merge.EncodeKnown(g.Known)
	return err
}

func confineMerge(q *mergeRequest) error {
	if err := linux.NoNewPrivs(); err != nil {
		return err
	}
	var keep []int
	if q.Foreign {
		keep = []int{unix.CAP_DAC_READ_SEARCH}
	}
	if err := linux.KeepCapabilities(keep...); err != nil {
		return err
	}
	if err := linux.NotDumpable(); err != nil {
		return err
	}
	rules := []linux.LandlockRule{
		{FD: mergeHostFD, Access: linux.LandlockReadWrite},
		{FD: mergeKeepFD, Access: linux.LandlockReadWrite},
	}
	if !q.Undo {
		rules = append(rules, linux.LandlockRule{FD: mergeUpperFD, Access: linux.LandlockRead})
	}
	if linux.LandlockABI() == 0 {
		return nil // the operator allowed it to be missing, or no guest would have run
	}
	_, err := linux.Landlock(rules, linux.LandlockNet{})
	return err
}
