package spawner

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/contain"
)

// limitProcesses takes n from the rlimit of every process of the sandbox: all of
// them are ours, unless a hijacked router narrows a guest that had its call.
func (b *box) limitProcesses(n int64) error {
	first := b.pid()
	var err error
	if contain.Contained(b.guest) { // the runner is the one child of the first process
		var all []int
		if all, err = family(first); err == nil && len(all) < 2 {
			return errEnded
		} else if err == nil {
			first = all[1]
		}
	}
	var inside string
	if err == nil {
		inside, err = os.Readlink("/proc/" + strconv.Itoa(first) + "/ns/pid")
	}
	if err == nil && !b.alive() {
		return errEnded
	}
	var pids []int
	if err == nil {
		pids, err = family(first)
	}
	if err != nil {
		return refuse("unsupported", "cannot see the sandbox's processes: "+err.Error())
	}
	for _, pid := range pids {
		if err := limitProcess(pid, inside, n); err != nil {
			return refuse("unsupported", "cannot lower the limit of processes: "+err.Error())
		}
	}
	return nil
}

// limitProcess takes n from the rlimit of a process of that pid namespace, as
// /proc names it. What had the number when the sandbox was looked at may have
// left it to a stranger.
func limitProcess(pid int, inside string, n int64) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(fd)
	var have unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NPROC, nil, &have); err != nil {
		return os.NewSyscallError("prlimit", err)
	}
	have.Max -= min(have.Max, uint64(n))
	have.Cur = have.Max
	if in, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/pid"); err != nil || in != inside || unix.PidfdSendSignal(fd, 0, nil, 0) != nil {
		return errEnded
	}
	return os.NewSyscallError("prlimit", unix.Prlimit(pid, unix.RLIMIT_NPROC, &have, nil))
}

// family returns a process and all that descend of it.
func family(first int) ([]int, error) {
	pids := []int{first}
	for i := 0; i < len(pids); i++ {
		folder := "/proc/" + strconv.Itoa(pids[i]) + "/task"
		tasks, err := os.ReadDir(folder)
		if err != nil {
			return nil, err
		}
		for _, t := range tasks {
			b, err := os.ReadFile(folder + "/" + t.Name() + "/children") // CONFIG_PROC_CHILDREN
			if err != nil {
				return nil, err
			}
			for f := range strings.FieldsSeq(string(b)) {
				pid, err := strconv.Atoi(f)
				if err != nil {
					return nil, err
				}
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}
