package catalog

import (
	"github.com/casemate/casemate"
)

// A Config is one configuration, checked.
type Config struct {
	File   string // real path
	Dir    string // of File; what relative paths are relative to
	Source []byte

	// Digest is over Source, the real path of every grant, and the content of
	// every file in Dir that a tool runs; of a configuration parsed without
	// ResolveMounts, over Source alone.
	Digest casemate.Digest

	// Tools are those that this version can run: names unique, builtin: files
	// expanded, defaults applied, environment resolved, grants at real paths.
	Tools []*casemate.Tool

	// Unsupported has an error of kind Unsupported for each tool that is right
	// but asks for what this version cannot enforce. Such a tool is not in
	// Tools: less than it asks for is not run.
	Unsupported []*casemate.Error

	Host     Host
	Warnings []string // what is stated and not enforced yet

	pins     map[casemate.ToolName]casemate.Digest
	refs     []string // files of Dir that tools run
	resolved bool
	source   casemate.Digest // of Source alone
	grants   []string        // of Summary
}

// A Host is what belongs to the machine and not to a tool.
type Host struct {
	State         string   // absolute folder, or "" for the default
	AllowDegraded []string // controls whose absence the operator accepts
	Client        string   // "" or "exclusive"
	Pool          Pool
	Concurrency   Concurrency
}

// A Pool bounds what waits for calls. Zero is the default of package pool.
type Pool struct {
	Max    int   // sandboxes
	Memory int64 // bytes
}

// Concurrency bounds the calls that run at once. Zero is the router's default.
type Concurrency struct {
	Total   int
	PerTool int
}

// Options say what a configuration may do and where it is read.
type Options struct {
	// Getenv looks up what env: [NAME] passes on, as os.LookupEnv does. Nil:
	// names are checked and their values left empty.
	Getenv func(string) (string, bool)

	// Operator says that the file is the operator's own or was named by the
	// operator: only such a file may hold host: and secrets:.
	Operator bool

	// Home is what ~ stands for; "" refuses it.
	Home string

	// State is the folder of Casemate's own state, which is never granted.
	State string

	// ResolveMounts follows the links of every grant and hashes the programs
	// that tools run. Without it nothing but the text is looked at.
	ResolveMounts bool
}
