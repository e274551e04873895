package merge

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

const undoHost = `echo 1 >a; chmod 640 a; echo 1 >b; ln -s a l; mkdir -p d/e; echo 1 >d/e/f; echo 1 >g; mkdir t; echo 1 >t/x`
const undoGuest = `echo 2 >a; rm b l; ln -s b l; rm -r d; mkdir -p n/m; echo 2 >n/m/o; chmod 755 g; rm -r t; echo 2 >t`
const undoWas = `test "$(cat a b d/e/f g t/x | uniq)" = 1; test $(stat -c %a a) = 640; test $(stat -c %a g) = 644; test "$(readlink l)" = a; test ! -e n; test -z "$(find . -name '.casemate*')"`

func TestUndo(t *testing.T) {
	w := newWorld(t, undoHost)
	w.guest(undoGuest)
	w.merge()
	w.onHost(`test "$(cat a n/m/o t | uniq)" = 2; test ! -e d`)
	cs, err := Undo(w.g.Keep, w.g.Host)
	if want := "changed a; changed g; changed l; created b; created d; created d/e; created d/e/f; created t; created t/x; deleted n; deleted n/m; deleted n/m/o; deleted t"; err != nil || show(cs) != want {
		t.Fatalf("%v %s", err, show(cs))
	}
	w.onHost(undoWas)
	if cs, err := Undo(w.g.Keep, w.g.Host); err == nil || len(cs) > 0 {
		t.Error("undone twice", cs)
	}
}

// What is no longer as the call left it stays.
func TestUndoConflicts(t *testing.T) {
	w := newWorld(t, undoHost)
	w.guest(undoGuest + `; mkdir k; echo 2 >linked`)
	w.merge()
	w.onHost(`echo own >a; echo own >b; echo own >n/mine; ln g g2; rm l; ln -s c l; mkdir d; echo own >n/m/o; mv k k2; mkdir k; ln linked linked2`)
	cs, err := Undo(w.g.Keep, w.g.Host)
	if want := "conflict a; conflict b; conflict d; conflict g; conflict k; conflict l; conflict linked; conflict n; conflict n/m; conflict n/m/o; created d/e; created d/e/f; created t; created t/x; deleted t"; err != nil || show(cs) != want {
		t.Errorf("%v %s", err, show(cs))
	}
	w.onHost(`test "$(cat a b n/mine n/m/o | uniq)" = own; test "$(readlink l)" = c; test -d k; test "$(cat d/e/f t/x)" = "1
1"`)
}

// Keep on another file system: old content is copied, and comes back.
func TestUndoAcrossFileSystems(t *testing.T) {
	var a, b unix.Stat_t
	if unix.Stat("/dev/shm", &a) != nil || unix.Stat(os.TempDir(), &b) != nil || a.Dev == b.Dev {
		t.Skip("unsupported: /dev/shm is no other file system than the temporary folder")
	}
	w := newWorld(t, undoHost)
	w.guest(undoGuest)
	keep, err := os.MkdirTemp("/dev/shm", "merge-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(keep)
	w.g.Keep = folderFd(t, keep)
	w.merge()
	w.onHost(`test "$(cat a n/m/o t | uniq)" = 2; test ! -e d`)
	cs, err := Undo(w.g.Keep, w.g.Host)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cs {
		if c.Did == Conflict {
			t.Error(c)
		}
	}
	w.onHost(undoWas)
}
