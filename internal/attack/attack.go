// Package attack is the hostile guest of tests, demo and probe: attempts on
// the walls of the sandbox that it stands in. Each is named by a verb, is
// aimed at a victim that its caller made, or at the sandbox itself, is bounded
// in count, time and size, and does no harm where the wall is gone: a signal
// is one that is ignored, a socket to a hypervisor is never connected, and a
// system call gets arguments with which it can do nothing.
//
// Inside comes first. What it cannot see is a sandbox so weak that nothing of
// it is left; so nobody takes away more than one wall at once.
package attack

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// At is the folder in which the attacker's program lies in every sandbox, and
// nowhere else.
const At = "/attacker"

// An Outcome is what came of one attempt. Through is the attack's own view;
// whoever made the victim looks at that too.
type Outcome struct {
	Tried   string `json:"tried"`
	Through bool   `json:"through"`
	Got     string `json:"got"`
}

// NotMade begins what came of an attempt that came to nothing before it stood
// at the wall, which proves nothing.
const NotMade = "the attempt was not made"

// A Batch is what Serve reads.
type Batch struct {
	Spaces []string   `json:"spaces"` // the caller's own namespaces, as Spaces has them
	Do     [][]string `json:"do"`     // verb and arguments
}

// maxBatch bounds what Serve reads, in bytes.
const maxBatch = 1 << 20

// Inside returns an error unless this process stands in a sandbox: its program
// lies where sandboxes alone have it, the first process that it sees is one of
// ours, and its mount namespace is not among spaces, those of who asks for an
// attack.
func Inside(spaces ...string) error {
	self, err := os.Executable()
	if err != nil || filepath.Dir(self) != At {
		return fmt.Errorf("this is no sandbox: the attacker lies at %s, not in %s", self, At)
	}
	comm, err := os.ReadFile("/proc/1/comm")
	name := strings.TrimSpace(string(comm))
	if err != nil || name != "casemate-init" && name != "init" {
		return fmt.Errorf("this is no sandbox: its first process is %q", name)
	}
	if name == "init" { // of a container: ours is bound in, a machine's is not there
		if _, err := os.Lstat("/.casemate/init"); err != nil {
			return fmt.Errorf("this is no sandbox: %w", err)
		}
	}
	if mnt, err := os.Readlink("/proc/self/ns/mnt"); err == nil && slices.Contains(spaces, mnt) {
		return errors.New("this is no sandbox: it has the mount namespace of who asked")
	}
	return nil
}

// Spaces returns the names of this process's namespaces, such as mnt:[…].
func Spaces() (out []string) {
	for _, n := range [...]string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"} {
		if l, err := os.Readlink("/proc/self/ns/" + n); err == nil {
			out = append(out, l)
		}
	}
	return out
}

// Try makes one attempt. It blocks for as long as the attempt takes, a few
// seconds at most.
func Try(verb string, args ...string) Outcome {
	o := Outcome{Tried: strings.Join(append([]string{verb}, args...), " ")}
	v, ok := verbs()[verb]
	if !ok || len(args) < v.args {
		o.Got = fmt.Sprintf(NotMade+": there is no verb %q with %d arguments", verb, len(args))
		return o
	}
	got, err := v.do(args)
	o.Through, o.Got = err == nil, got
	if err != nil {
		o.Got = err.Error()
	}
	return o
}

// Known says whether there is such a verb.
func Known(verb string) bool { _, ok := verbs()[verb]; return ok }

// Serve reads a batch, makes its attempts in their order and writes an Outcome
// for each, a line of JSON.
func Serve(r io.Reader, w io.Writer) error {
	var b Batch
	if err := json.NewDecoder(io.LimitReader(r, maxBatch)).Decode(&b); err != nil {
		return err
	}
	if err := Inside(b.Spaces...); err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	for _, d := range b.Do {
		if len(d) == 0 {
			return errors.New("an attempt without a verb")
		}
		if err := enc.Encode(Try(d[0], d[1:]...)); err != nil {
			return err
		}
		if err := out.Flush(); err != nil { // what comes next may be the end
			return err
		}
	}
	return nil
}

// A verb is one kind of attempt.
type verb struct {
	args int // that it needs
	do   func([]string) (string, error)
}

func verbs() map[string]verb {
	return map[string]verb{
		// files
		"read": {1, read}, "write": {2, write}, "list": {1, list}, "mkdir": {1, mkdir}, "rename": {2, rename}, "symlink": {2, symlink},
		"link": {2, link}, "chmod": {2, chmod}, "creat": {3, creat}, "mknod": {1, mknod}, "fifo": {1, fifo}, "exists": {1, exists}, "plant": {2, plant},
		"run": {1, run}, "writable": {0, writable}, "magic": {2, magic}, "fixed": {1, fixed}, "race": {2, race},
		// network
		"connect": {2, connect}, "listen": {1, listen}, "abstract": {1, abstract}, "udp": {1, udp}, "socket": {3, socket}, "linkadd": {0, linkAdd}, "routes": {0, routes}, "interfaces": {0, interfaces},
		// the kernel
		"syscall": {1, syscallNumber}, "calls": {1, calls}, "foreign": {0, foreign}, "foreigncall": {1, foreignCall}, "userns": {0, userns}, "nested": {0, nested}, "ioctl": {0, ioctl}, "push": {0, push}, "shm": {1, shm}, "keyring": {0, keyring},
		// what it is and sees
		"status": {0, status}, "privilege": {0, privilege}, "spaces": {0, spaces}, "pids": {0, pids}, "kill": {1, kill}, "first": {0, first}, "fds": {0, fds}, "environ": {0, environ},
		"doors": {1, doors}, "masks": {1, masks}, "devices": {0, devices}, "random": {0, random}, "uids": {0, uids}, "hostname": {0, hostname},
		// bombs
		"fork": {1, fork}, "memory": {1, memory}, "disk": {2, disk}, "files": {2, files}, "descriptors": {0, descriptors}, "output": {1, output}, "inflight": {0, inflight},
		"pipes": {0, pipes}, "inotify": {0, inotify}, "watchers": {0, watchers}, "sendfd": {0, sendFD}, "sleep": {1, sleep},
	}
}
