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

	// Servers are the MCP servers, each as the tool that stands for the server
	// itself; Run.MCP.Listed is set where there is an approved listing. The tools
	// of such a server are in Tools, after those of the file itself.
	Servers []*casemate.Tool

	// Unsupported has an error for each tool and server that is right but asks
	// for what this version cannot enforce, or that cannot be had: it is not in
	// Tools, and less than it asks for is not run.
	Unsupported []*casemate.Error

	// Profiles are those under profiles:, by name.
	Profiles map[string]NamedProfile

	Host     Host
	Warnings []string // what is stated and not enforced yet

	state    string // Options.State
	operator bool   // Options.Operator
	pins     map[casemate.ToolName]casemate.Digest
	refs     []string // files of Dir that tools run
	resolved bool
	source   casemate.Digest // of Source alone
	grants   []string        // of Summary
	trusts   []string        // what Digest is over beside Source and refs

	own     []*casemate.Tool // Tools of the file itself
	beyond  []*casemate.Error
	servers []*server
	lock    Lock
	failed  map[string]*casemate.Error // servers that could not be listed
}

// A NamedProfile is one entry under profiles:, for casemate exec.
type NamedProfile struct {
	casemate.Profile
	Timed bool // it states its timeout

	// Unsupported says why it cannot be used: it asks for what this version
	// cannot enforce, or for a variable that is not set.
	Unsupported *casemate.Error
}

// A Host is what belongs to the machine and not to a tool.
type Host struct {
	State         string   // absolute folder, or "" for the default
	AllowDegraded []string // controls whose absence the operator accepts
	Client        string   // "" or "exclusive"
	Pool          Pool
	Concurrency   Concurrency

	// Callers are those who may call over HTTP, by name.
	Callers map[string]Caller
}

// A Caller is one who may call: whoever shows its token.
type Caller struct {
	SHA256    string   // of the token, 64 lower-case hexadecimal digits; or
	TokenFile string   // absolute path of the file that holds it
	Tools     []string // names, or prefix*; nil is all
	Contexts  map[string][]string
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

	// Pass leaves the values that env: [NAME] of an MCP server passes on to each
	// session's caller: the names go to Profile.Pass and nothing is looked up.
	Pass bool

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
