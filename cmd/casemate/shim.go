package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/casemate/casemate"
)

// The shim protocol joins casemate run to the shared router of its user, by a
// unix socket in the runtime folder. Either side takes the kernel's word for
// the other's user. Frames are as in the control protocol:
//
//	shim    hello
//	shared  answer with progress, any number of them
//	shared  answer with pass: names of variables
//	shim    values of those of them that are set
//	shared  answer with ready, or with an error
//
// After ready the confined router has the other end:
//
//	shim    handed, with its standard input and output; or relayed
//	router  clientLeft, when a client whose pipes it was handed has left
//
// A client's pipes and sockets are handed over, so that the shim does nothing
// but live: its end, and the router's, is that of the connection. Where one of
// them is something else (a terminal, a file), which the router is not to hold,
// the connection carries the client's MCP, byte for byte.

// shimProtocol is that of this build; see hello.
const shimProtocol = 2

// The words of one byte.
const (
	handed     = 'h'
	relayed    = 'r'
	clientLeft = 'l'
)

// The bounds of what a shim says, in bytes.
const (
	maxHello  = 1 << 20
	maxValues = 1 << 20
	maxValue  = 128 << 10 // of one variable: MAX_ARG_STRLEN of Linux
	maxAnswer = 1 << 20
)

// A hello is what a shim begins with. Who its client is it does not say: that
// is seen.
type hello struct {
	Protocol int      `json:"protocol"`
	Build    string   `json:"build"` // shim and shared router are of one build
	Name     string   `json:"name"`
	Argv     []string `json:"argv"`
	File     string   `json:"file"` // the user's configuration, as the shim's environment has it
}

// values are variables of the shim's environment, those alone that it was
// asked for.
type values struct {
	Env map[string]string `json:"env"`
}

// A shimAnswer is one step of the way; exactly one field is set.
type shimAnswer struct {
	Progress string              `json:"progress,omitempty"`
	Pass     *[]string           `json:"pass,omitempty"`
	Ready    bool                `json:"ready,omitempty"`
	Error    *casemate.ErrorJSON `json:"error,omitempty"`
}

// build names this build: its version, and the init that belongs to it.
func build() string { return version() + " " + initDigest }

// pick returns those of names that env has. What is too long to be a variable
// of a guest is an error, which names the variable and not its value.
func pick(names []string, env func(string) (string, bool)) (values, error) {
	out := values{Env: map[string]string{}}
	for _, name := range names {
		v, ok := env(name)
		if !ok {
			continue
		}
		if len(name)+len(v)+2 > maxValue || strings.ContainsRune(v, 0) {
			return out, invalid("run", "shorten it in the client's configuration", "the variable %s is longer than the %d bytes that Linux takes", name, maxValue)
		}
		out.Env[name] = v
	}
	return out, nil
}

// A clientProcess is one that runs, or ran: its number and when it was started, in
// ticks since the boot. No two share both.
type clientProcess struct {
	pid   int
	start uint64
}

// clientOf returns the process that started the shim pid, or that itself where
// its client is gone already.
func clientOf(pid int) (clientProcess, error) {
	ppid, start, err := readStat(pid)
	if err != nil {
		return clientProcess{}, err
	}
	if ppid > 1 { // 1 is nobody's client
		if _, began, err := readStat(ppid); err == nil && began <= start {
			return clientProcess{ppid, began}, nil
		}
	}
	return clientProcess{pid, start}, nil
}

// readStat reads the parent and the time of start of a process; see
// proc_pid_stat(5).
func readStat(pid int) (ppid int, start uint64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:]) // the name may hold anything
	const fieldPpid, fieldStart = 4 - 3, 22 - 3
	if len(f) <= fieldStart {
		return 0, 0, errors.New("/proc has no such stat")
	}
	if ppid, err = strconv.Atoi(f[fieldPpid]); err == nil {
		start, err = strconv.ParseUint(f[fieldStart], 10, 64)
	}
	return ppid, start, err
}

// decodeHello reads a hello that has the right shape.
func decodeHello(b []byte) (hello, error) {
	var h hello
	if err := json.Unmarshal(b, &h); err != nil {
		return h, invalid("run", "casemate run is started by casemate of one build", "the shim's first words are none: %w", err)
	}
	if h.Protocol != shimProtocol || h.Build != build() {
		return h, &casemate.Error{Op: "run", Kind: casemate.Busy, Err: errors.New("the shared router that runs is of another build of casemate"),
			Fix: "close the clients that use it; it ends with the last"}
	}
	if h.Name == "" || len(h.Argv) == 0 {
		return h, invalid("run", "casemate run --name NAME -- COMMAND", "no name or no command is given")
	}
	return h, nil
}
