package spawner

import (
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a refused process leaves open is closed later; what is open for a
// reason, or only for a moment, is not.
func TestLostPipes(t *testing.T) {
	folder, err := os.Open("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	l := &lost{folder: folder}
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.pipes())
	}
	before := count()
	one := make([]int, 2)
	if err := unix.Pipe2(one, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	unix.Close(one[1])
	defer unix.Close(one[0])
	// A user who is nobody's is refused, by a flag that no process may have.
	_, err = os.StartProcess("/proc/self/exe", []string{"x"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_FS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
	}})
	if err == nil {
		t.Fatal("it was not refused")
	}
	if count() == before {
		t.Log("Go closes it by itself now: lost.go has no reason any more")
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
	}
	l.look(time.Millisecond)
	for end := time.Now().Add(10 * time.Second); count() != before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d pipes before, %d now", before, count())
		}
	}
	if err := unix.Fstat(one[0], new(unix.Stat_t)); err != nil {
		t.Error("a pipe with its other end elsewhere is closed:", err)
	}
}
