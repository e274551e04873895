package spawner

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/contain"
)

// As root every sandbox has a host uid (and gid) of its own, above every
// account: 2^31, the spawner's process id and a slot. Process ids are below
// 2^22 (PID_MAX_LIMIT), slots below 2^8, so no two live sandboxes of one process
// id namespace share one, and (uid_t)-1 is never reached. Containers that share
// the host's user namespace may meet: give each a user namespace of its own.
const (
	firstUID  = 1 << 31
	slotBits  = 8
	insideUID = contain.InsideUID
	dacRead   = 2 // CAP_DAC_READ_SEARCH
)

func uidOf(slot int) int { return firstUID + os.Getpid()<<slotBits + slot }

// ownUIDs says whether this process can give sandboxes uids of their own: it
// is root of a user namespace that maps them.
func ownUIDs() bool {
	if os.Geteuid() != 0 {
		return false
	}
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		first, err1 := strconv.ParseUint(f[0], 10, 64)
		n, err2 := strconv.ParseUint(f[2], 10, 64)
		if err1 == nil && err2 == nil && first <= firstUID && first+n >= 1<<32-1 {
			return true
		}
	}
	return false
}

// An idmap shows the files of one owner as those of one sandbox.
type idmap struct {
	uid, gid uint32
	slot     int
}

// idmapped returns a user namespace that maps the owner to the sandbox of
// that slot, kept for the next sandbox in it.
func (s *server) idmapped(m idmap) (*os.File, error) {
	s.mu.Lock()
	f := s.idmaps[m]
	s.mu.Unlock()
	if f != nil {
		return f, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	p, err := s.fork("hold", &os.ProcAttr{Files: []*os.File{r}, Env: []string{}, Sys: &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: int(m.uid), HostID: uidOf(m.slot), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: int(m.gid), HostID: uidOf(m.slot), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}}, nil)
	r.Close()
	if err != nil {
		return nil, err
	}
	f, err = os.Open("/proc/" + strconv.Itoa(p.Pid) + "/ns/user")
	w.Close()
	p.Kill()
	p.Wait()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.idmaps[m]; old != nil {
		f.Close()
		return old, nil
	}
	if len(s.idmaps) >= 2*MaxSandboxes { // owners changed often: start over; what is in use is closed when it no longer is
		clear(s.idmaps)
	}
	s.idmaps[m] = f
	return f, nil
}

func idmapMount(mount int, userns *os.File) error {
	defer runtime.KeepAlive(userns) // nobody else may hold it: see idmapped
	return unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns.Fd())})
}

// takeSlot returns a slot that no sandbox holds.
func (s *server) takeSlot() (int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return 0, false
	}
	for i := range s.slots {
		if !s.slots[i] {
			s.slots[i] = true
			return i, true
		}
	}
	return 0, false
}

func (s *server) freeSlot(i int) {
	s.mu.Lock()
	s.slots[i] = false
	s.mu.Unlock()
}
