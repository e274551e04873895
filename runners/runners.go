// Package runners is what runs inside a sandbox.
package runners

import (
	_ "embed"
	"errors"
	"os"

	"github.com/casemate/casemate/internal/plan"
)

//go:embed python.py
var python []byte

//go:embed node.js
var node []byte

// Python returns the program that a Python interpreter runs.
func Python() []byte { return python }

// Node returns the program that node runs.
func Node() []byte { return node }

// Serve answers calls of the runners exec, shell and files.
func Serve(conn *os.File, g plan.Guest) error { return errors.New("unknown runner " + g.Runner) }

// Interpret starts the interpreter of g and carries calls to it.
func Interpret(conn *os.File, g plan.Guest, program string) error { return errors.New("unknown runner " + g.Runner) }

// Command returns the argv of g's interpreter; its descriptor 3 is its pipe.
func Command(g plan.Guest, program string) []string { return []string{g.Interpreter, program} }
