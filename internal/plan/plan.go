// Package plan is what the spawner knows: the operator's configuration,
// compiled to a small canonical binary form before the router touches a
// hostile byte. The spawner has no YAML, no JSON and no schema, only this,
// and makes no sandbox that it does not hold.
package plan

// Version is checked by the decoder: router, spawner and init are of one
// build.
const Version = 4

// A Plan is the whole of it.
type Plan struct {
	Host   Host
	Guests []Guest
}

// A Host is what belongs to the machine and not to a tool.
type Host struct {
	Records       string   // path of the record file, appended to
	Store         string   // folder of what commits keep: undo/ and conflicts/
	AllowDegraded []string // controls whose absence the operator accepts
	Without       []string // walls taken away on purpose, by demo and probe alone
}

// A Guest is everything that one tool's sandboxes may be. Grants only narrow
// it.
type Guest struct {
	Tool         string   // its name, for records and errors
	Digest       string   // of the tool; what the router asks by
	Runner       string   // exec, shell, python, node, files, mcp
	Function     string   // of runner files
	Command      []Arg    // of runner exec, and of mcp, literal: started before the call
	Stdin        string   // of runner exec: name of the argument, or ""
	Options      []string // of runner exec: arguments that may begin with "-"
	Interpreter  string   // of python and node: absolute path in the sandbox
	Preload      []string
	Mounts       []Mount
	Env          []string // KEY=VALUE, sorted
	Cwd          string
	Loopback     bool
	HostNetwork  bool // the host's network: only of what prepares a package, by the operator
	DenySyscalls []string
	MilliCPU     int64
	Memory       int64
	Disk         int64
	Processes    int64
	Output       int64
	Timeout      int64 // nanoseconds
	Session      bool  // serves a session: commits do not end it
	Inputs       bool  // it takes inputs at /in: of one sandbox, and of no plan
	Fork         bool  // of python: its sandboxes are forked from one template

	Backend string   // process, oci, gvisor, wasm: what stands between its runner and the outer walls
	Layers  []string // of an image: folders of the store on the host, the top one first
	Runtime string   // of oci and gvisor: path of runc, crun or runsc; of wasm: of the worker
	Version string   // of Runtime, as a receipt has it: "runc 1.1.5"
	File    string   // of oci and gvisor: which file Runtime was when it was tried (contain.FileID)
	Bundle  string   // of oci and gvisor: config.json of the runtime specification
	Module  string   // of wasm: path on the host of the module, or of what was compiled of it
}

// An Arg is one element of an argv template: literal text, or the name of
// the argument that fills it.
type Arg struct {
	Text string
	Name string
}

// A Mount is one grant.
type Mount struct {
	Source  string // on the host, real path
	At      string
	Write   bool
	Execute bool
	Prefix  bool     // an interpreter's own folder: programs run from it
	Names   []string // protected names granted all the same
	Pinned  []string // of a write grant: host paths in it that are never written, such as the configuration
}
