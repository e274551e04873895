// Each sandbox starts this program once: how many threads of Go run at a time is
// not looked up in the cgroups of the host, and not again later.

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Casemate-init is the spawner, the first process of every sandbox, and what
// carries a guest's writes to the host. It is started by casemate and by
// itself, never by a person.
package main

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/spawner"
)

func main() {
	mode := ""
	if len(os.Args) == 2 {
		mode = os.Args[1]
	}
	if mode == "inner" {
		unix.CloseRange(passed, ^uint(0)>>33, 0) // an error is the same as of the next
	}
	// Whatever this process was given beside what it expects goes to no child.
	if err := unix.CloseRange(3, ^uint(0)>>33, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		os.Stderr.WriteString("casemate-init: close_range: " + err.Error() + "; Linux 5.11 or newer is needed\n")
		os.Exit(1)
	}
	switch mode {
	case "spawner":
		os.Exit(spawner.Main())
	case "init":
		os.Exit(inside(false))
	case "inner":
		os.Exit(inside(true))
	case "merge":
		os.Exit(spawner.MergeMain())
	case "hold":
		// A user namespace lives as long as this process, until it is opened.
		os.Stdin.Read(make([]byte, 1))
	default:
		os.Stderr.WriteString("casemate-init is started by casemate; see casemate help\n")
		os.Exit(2)
	}
}
