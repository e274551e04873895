package casemate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"time"
)

// The types below stand in the order in which a call meets them.

// A ToolName is what the planner calls a tool by: 1 to 64 of [A-Za-z0-9_-],
// the bounds of the OpenAI function schema. A tool of an MCP server keeps the
// name that its server gives it, 1 to 128 of [A-Za-z0-9_.-].
type ToolName string

// A Digest is "sha256:" and 64 lower-case hexadecimal digits.
type Digest string

// A CallID is "c_" and 26 characters of base32; no two calls share one.
type CallID string

// A SessionID names one conversation of one caller; see router.Sessions.
type SessionID string

// A Tool is one external capability: the function that planners know, and
// the security profile that says what it may touch.
type Tool struct {
	Name        ToolName        `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters"` // JSON Schema 2020-12 of an object
	Run         Run             `json:"run"`
	Image       *Image          `json:"image,omitempty"` // nil: the host's own system folders
	Security    Profile         `json:"security"`
	Roles       map[string]Role `json:"roles,omitempty"` // flow.args of the manifest
	Pool        Parking         `json:"pool,omitzero"`
}

// An Image is the root of a tool's sandbox, in place of the host's own system
// folders. Nothing that it says of itself (user, entry point, environment,
// volumes, labels) counts.
type Image struct {
	Reference string `json:"reference"` // registry/name@sha256:…, oci:FOLDER, docker-archive:FILE; as the manifest has it
	Digest    Digest `json:"digest"`    // of the manifest for this machine's processor, as it was pinned
}

// ParkedByDefault is how many sandboxes wait at most, of all tools together,
// where the operator does not say otherwise.
const ParkedByDefault = 32

// Parking bounds the parked sandboxes of one tool. It is no authority: the
// host's own bounds come first.
type Parking struct {
	Min int `json:"min,omitempty"` // kept even if nobody calls
	Max int `json:"max,omitempty"` // 0: as many as the demand asks for
}

// A Role says what an argument is to its tool.
type Role string

// The roles of an argument.
const (
	RoleTarget     Role = "target"
	RoleSelector   Role = "selector"
	RoleContent    Role = "content"
	RoleCommand    Role = "command"
	RoleCredential Role = "credential"
	RoleOption     Role = "option"
)

// Digest is over the canonical form of the tool: JSON with the keys in the
// order of these types, maps sorted. It pins the tool: what runs is what was
// trusted, or nothing.
func (t *Tool) Digest() Digest {
	b, err := json.Marshal(t)
	if err != nil {
		bug("tool does not marshal: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// Guest is the digest of the sandbox that serves t: the tools of one MCP
// server that share one have it in common. Of any other tool it is Digest.
func (t *Tool) Guest() Digest {
	if t.Run.MCP == nil {
		return t.Digest()
	}
	m := *t.Run.MCP
	m.Listed = nil
	if !m.Split {
		m.Tool = ""
	}
	g := Tool{Name: ToolName(m.Server), Run: Run{MCP: &m}, Image: t.Image, Security: t.Security}
	return g.Digest()
}

// Run says what the guest is. Exactly one field is set.
type Run struct {
	Exec    *Exec    `json:"exec,omitempty"`
	Python  *Script  `json:"python,omitempty"`
	Node    *Script  `json:"node,omitempty"`
	Shell   *Shell   `json:"shell,omitempty"`
	Wasm    *Wasm    `json:"wasm,omitempty"`
	JS      *JS      `json:"js,omitempty"`
	MCP     *MCP     `json:"mcp,omitempty"`
	Builtin Function `json:"builtin,omitempty"`
}

// Exec runs one program for a call. Each element of Command is literal text
// or exactly "{ARGUMENT}", which one argument fills, whatever it holds;
// there is never a shell.
type Exec struct {
	Command []string `json:"command"`
	Stdin   string   `json:"stdin,omitempty"`  // "{ARGUMENT}": the argument that is its standard input
	Result  string   `json:"result,omitempty"` // "text" (the default) or "json": parse standard output
}

// Script runs the argument "code" in an interpreter that waits with its
// imports done.
type Script struct {
	Interpreter string   `json:"interpreter,omitempty"` // absolute path; empty is the first python3 or node on PATH
	Preload     []string `json:"preload,omitempty"`     // modules to import before the call
	NoFork      bool     `json:"no_fork,omitempty"`     // every sandbox starts an interpreter of its own, which shares no memory layout with others
}

// MCP is one tool of a Model Context Protocol server that runs in a sandbox
// and speaks over its standard input and output. Where Tool is "" it is the
// server itself, which no planner calls: what is not a tool (prompts, resources,
// completion, …) is asked of it by Call.Method.
type MCP struct {
	Server      string          `json:"server"`                // name of the manifest's entry
	Command     []string        `json:"command"`               // argv, literal
	Split       bool            `json:"split,omitempty"`       // each of its tools has a sandbox of its own
	Tool        string          `json:"tool,omitempty"`        // as the server calls it
	Listed      json.RawMessage `json:"listed,omitempty"`      // the tool as the server lists it, as it was approved
	Sampling    bool            `json:"sampling,omitempty"`    // the server may ask for the planner's model
	Elicitation bool            `json:"elicitation,omitempty"` // the server may ask the user
}

// Shell runs the argument "command" by /bin/sh -c.
type Shell struct{}

// Wasm runs a WASI preview 1 module: its _start with Args and Stdin, as Exec
// has them; or, where Function is set, that export, which gets the arguments of
// the call as JSON in its memory and answers with JSON.
type Wasm struct {
	Module        string   `json:"module"` // on the host, absolute, every link resolved when it was trusted
	Digest        Digest   `json:"digest"` // of its bytes, when it was trusted
	Args          []string `json:"args,omitempty"`
	Stdin         string   `json:"stdin,omitempty"`
	Result        string   `json:"result,omitempty"`
	Function      string   `json:"function,omitempty"`
	Deterministic bool     `json:"deterministic,omitempty"` // clocks and random bytes are the same in every call
}

// JS runs the argument "code" in QuickJS, compiled to Wasm: JavaScript without
// Node and without any file or network.
type JS struct {
	Deterministic bool `json:"deterministic,omitempty"`
}

// A Function is one capability function of a tool that ships with Casemate.
type Function string

// The functions of builtin: files.
const (
	ReadFile    Function = "read_file"
	WriteFile   Function = "write_file"
	EditFile    Function = "edit_file"
	ListFolder  Function = "list_folder"
	SearchFiles Function = "search_files"
)

// A Profile is what a tool may touch. The zero profile is nothing at all: no
// file of the host but the read-only system folders that programs need to
// start, no network, no environment, and limits of zero, which mean the
// defaults of WithDefaults and never "unlimited".
type Profile struct {
	Isolation  string            `json:"isolation,omitempty"` // a backend's name; "" and "auto": the cheapest that gives everything
	Assurance  Assurance         `json:"assurance,omitempty"`
	Network    Network           `json:"network,omitempty"`
	Filesystem []Mount           `json:"filesystem,omitempty"`
	Env        map[string]string `json:"env,omitempty"`
	Pass       []string          `json:"pass,omitempty"` // variables whose values come with each session's caller
	Cwd        string            `json:"cwd,omitempty"`  // absolute, in the sandbox; "" is /tmp
	Syscalls   Syscalls          `json:"syscalls,omitzero"`
	Rate       Rate              `json:"rate,omitzero"`
	CPU        float64           `json:"cpu,omitempty"`       // cores
	Memory     int64             `json:"memory,omitempty"`    // bytes, swap off
	Disk       int64             `json:"disk,omitempty"`      // bytes of /tmp, /out, /dev/shm and what a call writes to its grants, together
	Processes  int               `json:"processes,omitempty"` // threads count
	Timeout    time.Duration     `json:"timeout,omitempty"`   // of one call
	Output     int64             `json:"output,omitempty"`    // bytes of one result
	Scope      Scope             `json:"scope,omitempty"`
}

// The defaults of a profile that leaves a limit out.
const (
	DefaultCPU       = 1.0
	DefaultMemory    = 512 << 20
	DefaultDisk      = 1 << 30
	DefaultProcesses = 64
	DefaultTimeout   = 30 * time.Second
	DefaultOutput    = 1 << 20
)

// WithDefaults returns p with every limit and choice that is left out set to
// its default. It widens nothing that p states.
func (p Profile) WithDefaults() Profile {
	set(&p.Isolation, "auto")
	set(&p.Assurance, Weak)
	set(&p.Network, NetworkNone)
	set(&p.Cwd, "/tmp")
	set(&p.CPU, DefaultCPU)
	set(&p.Memory, DefaultMemory)
	set(&p.Disk, DefaultDisk)
	set(&p.Processes, DefaultProcesses)
	set(&p.Timeout, DefaultTimeout)
	set(&p.Output, DefaultOutput)
	set(&p.Scope, ScopeCall)
	return p
}

func set[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// An Assurance says how much a bug of the kernel may cost.
type Assurance string

// The assurances, weakest first.
const (
	Weak       Assurance = "weak"
	Moderate   Assurance = "moderate"
	Strong     Assurance = "strong"
	VeryStrong Assurance = "very-strong"
)

// Network is what a sandbox reaches: "none" (its loopback is down) or
// "loopback" (its own, up). Rules need the egress broker.
type Network string

// The networks that need no broker.
const (
	NetworkNone     Network = "none"
	NetworkLoopback Network = "loopback"
)

// A Mount grants one file or folder of the host.
type Mount struct {
	Path    string   `json:"path"` // on the host, absolute, every link resolved when it was trusted
	At      string   `json:"at"`   // in the sandbox, absolute
	Access  Access   `json:"access"`
	Execute bool     `json:"execute,omitempty"` // programs in it may be run
	Names   []string `json:"names,omitempty"`   // protected names that the operator grants all the same
}

// Access is "read" or "write"; write includes read.
type Access string

// The accesses.
const (
	Read  Access = "read"
	Write Access = "write"
)

// Syscalls takes system calls away, by name; it can give none.
type Syscalls struct {
	Deny []string `json:"deny,omitempty"`
}

// Rate bounds calls. Zero is no bound of that kind.
type Rate struct {
	PerMinute  int `json:"per_minute,omitempty"`
	PerDay     int `json:"per_day,omitempty"`
	PerSession int `json:"per_session,omitempty"`
}

// Scope says how long a sandbox lives: for one call, or for one session.
type Scope string

// The scopes.
const (
	ScopeCall    Scope = "call"
	ScopeSession Scope = "session"
)

// A Call is one request of a planner for a tool. The fields after Label may
// be left out.
type Call struct {
	ID        CallID
	Session   SessionID
	Tool      ToolName
	Arguments json.RawMessage // as received; a JSON object
	Label     Label           // of everything in Arguments

	Method  string          // of MCP, to a server itself; Arguments are its params
	Meta    json.RawMessage // of an MCP tool: _meta of the caller's request, an object
	Key     string          // the caller's own name of the call: with it, one session runs it once
	Timeout time.Duration   // narrows the profile's
	Limits  Limits          // taken from the profile, for this call alone
	Inputs  []Input         // files that a program finds in /in
	Settle  bool            // its outcome waits until its sandbox is gone, and says what that used
	Client  Client          // who is asked back, and told of progress
	Stdin   io.Reader       // what an exec or shell guest reads while it runs
	Files   *FileRequest    // instead of the tool, its guest is asked for files

	// Terminal, where it is not zero, gives an exec or shell guest a terminal of
	// that size instead of pipes; all that it prints is then of stream 1.
	Terminal Size
	Events   <-chan Event // for an exec or shell guest while it runs

	// Output gets what an exec, shell or interpreter guest prints, as it comes:
	// stream is 1 or 2. It is then not kept in the result, and not bounded by the
	// output limit. While it blocks, so does the guest; b is its until it returns.
	Output func(stream int, b []byte) error

	// Stream gets what an MCP tool answers, where that is long: see ResultStream.
	// With a Key it gets nothing.
	Stream ResultStream
}

// A ResultStream gets a result of an MCP tool that is longer than 1 MiB while the
// server writes it; Result.Raw is then nil. It was read as JSON so far, but how
// the call ends is not known until the outcome is there, which a result that was
// passed on may not stand without.
type ResultStream interface {
	// Write gets the next part of one JSON object. It is over when it returns an
	// error. While it blocks, so does the server.
	Write(b []byte) (int, error)

	// End is called when the object is whole; it says whether that says that the
	// tool failed, or why it is no result.
	End() (isError bool, err error)
}

// An Input is a file that one call has, and its tool reads as /in/NAME: at most
// 64 MiB in all, names of 1 to 255 bytes without a slash.
type Input struct {
	Name string
	Data []byte
}

// InputJSON is an Input as a record has it.
type InputJSON struct {
	Name   string `json:"name"`
	Digest Digest `json:"digest"` // of Data
	Bytes  int    `json:"bytes"`
}

// A Size is that of a terminal, in characters.
type Size struct {
	Columns uint16 `json:"columns"`
	Rows    uint16 `json:"rows"`
}

// An Event is what happened to a caller and concerns its guest: a signal, to
// the processes of the tool, or (where Signal is 0) another size of its terminal.
type Event struct {
	Signal int  `json:"signal,omitempty"`
	Size   Size `json:"size,omitzero"`
}

// A Client is the caller's side of an MCP server: what the server asks goes
// to it. Its methods may be used from any goroutine. One that speaks MCP of
// 2026-07-28 or later says so by a method Version() string.
type Client interface {
	// Capabilities are those that the client declared, as MCP has them; nil
	// where it declared none.
	Capabilities() json.RawMessage

	// Ask sends the client a request of the server of that name (roots/list,
	// sampling/createMessage, elicitation/create) and blocks until it is answered,
	// or ctx is done. The server is told a *ClientError as it is, and of any other
	// error only that there is no answer.
	Ask(ctx context.Context, server, method string, params json.RawMessage) (json.RawMessage, error)

	// Notify tells the client what the server said. It does not wait.
	Notify(server, method string, params json.RawMessage)
}

// A ClientError is an error of JSON-RPC that a client answered.
type ClientError struct {
	Code    int
	Message string
	Data    json.RawMessage
}

func (e *ClientError) Error() string { return e.Message }

// A FileRequest moves bytes between a caller and the files of a session's
// guest, with the guest's authority.
type FileRequest struct {
	Op   string    // read, write (makes folders above it), list, remove, stat
	Path string    // absolute, or relative to the guest's working folder
	Data io.Reader // of write
	To   io.Writer // of read; list and stat answer in the result's structured content
}

// A Spec asks a backend for one parked guest.
type Spec struct {
	Tool  *Tool
	Grant Grant
}

// A Grant is what one call gets: its tool's profile, narrowed. A zero limit
// is the profile's; a larger one is refused by whoever makes the sandbox.
type Grant struct {
	Tool      Digest // Tool.Guest, or a variant of it that the operator compiled for the session
	Memory    int64
	Disk      int64
	Processes int
	CPU       float64 // cores
	Output    int64
	Timeout   time.Duration
	Without   []string // At of the profile's mounts that this call does not get
	Inputs    bool     // the sandbox is a Donor
}

// A Backend makes sandboxes by one isolation method.
type Backend interface {
	Name() string

	// Probe says what this host can enforce, and what it cannot and why. It
	// may take some tens of milliseconds, and starts nothing that stays.
	Probe(context.Context) (Capabilities, error)

	// Start returns a guest, confined and parked: it waits on its pipe and has
	// run nothing of the tool's input. It is never weaker than the spec asks:
	// what the host cannot enforce is an Error of kind Unsupported. It blocks
	// until the guest waits, or ctx is done.
	Start(context.Context, Spec) (Sandbox, error)
}

// A Sandbox is one confined guest, reached through a pipe.
type Sandbox interface {
	// Guest is the pipe to the guest; package internal/guest has its frames.
	Guest() io.ReadWriteCloser

	// Enforced says which controls are really on.
	Enforced() Enforced

	// Wait blocks until the sandbox is gone, or ctx is done.
	Wait(context.Context) (Exit, error)

	// Close kills every process of the sandbox and returns when it, its mounts
	// and its namespaces are gone. It is idempotent.
	Close() error
}

// A Committer is a Sandbox whose writes to its grants reach the host only
// when they are committed. Commit stops the guest (for good where the scope
// is the call), carries what it wrote since the last commit to the host
// under the rules of its grants, and says what it did and what it held back.
// What is never committed never happened.
type Committer interface {
	Commit(context.Context, CallID) ([]Change, error)
}

// A Narrower is a Sandbox that can be given less than it was started with, once,
// before it has had a call: lower limits, fewer mounts. A grant that asks for
// more is refused. It blocks until the narrower walls are on; after an error the
// sandbox is to be closed.
type Narrower interface {
	Narrow(context.Context, Grant) error
}

// A Freezer is a Sandbox whose processes can be made to stand still while it
// is parked. Both block until they do, or go on.
type Freezer interface {
	Freeze(context.Context) error
	Thaw(context.Context) error
}

// A Donor is a Sandbox that was started for inputs, which come before its call.
// What is written to an input appears, read-only, as /in/NAME; a name is 1 to 255
// bytes without a slash, and stands once. Where the backend can help it that is
// the only copy. Donate blocks until the input can be written; an error of Close
// means that it is not whole.
type Donor interface {
	Donate(ctx context.Context, name string) (io.WriteCloser, error)
}

// A Change is one thing that a call did, or tried to do, to a write grant.
type Change struct {
	Path string `json:"path"`           // as the guest saw it
	Host string `json:"host,omitempty"` // on the host
	Did  string `json:"did"`            // created, changed, deleted, held (not carried out), conflict (not carried out, kept aside)
	Why  string `json:"why,omitempty"`  // of held and conflict
	Kept string `json:"kept,omitempty"` // of conflict: where the guest's version lies
}

// Enforced says what was really on when a guest ran.
type Enforced struct {
	Namespaces []string `json:"namespaces"`          // user, mount, pid, network, ipc, uts, cgroup, time
	Seccomp    Digest   `json:"seccomp,omitempty"`   // of the filter program
	Landlock   int      `json:"landlock,omitempty"`  // ABI in use
	NoNewPrivs bool     `json:"no_new_privs"`        //
	Runtime    string   `json:"runtime,omitempty"`   // program, version and platform that made the inner walls: "runc 1.1.5", "runsc … systrap", "wazero 1.12.0 compiler"
	Uid        string   `json:"uid,omitempty"`       // "own": of this sandbox alone; "caller": the user's
	Memory     *Limit   `json:"memory,omitempty"`    // bytes
	Processes  *Limit   `json:"processes,omitempty"` //
	CPU        *Limit   `json:"cpu,omitempty"`       // thousandths of a core
	Disk       *Limit   `json:"disk,omitempty"`      // bytes
	Timeout    *Limit   `json:"timeout,omitempty"`   // milliseconds; of a call with limits of its own
	Output     *Limit   `json:"output,omitempty"`    // bytes; of such a call
	Without    []string `json:"without,omitempty"`   // places of mounts that such a call did not get
	Degraded   []string `json:"degraded"`            // controls that the operator allowed to be missing, and were
}

// A Limit is a number and the facility that holds it.
type Limit struct {
	Limit int64  `json:"limit"`
	By    string `json:"by"` // cgroup, rlimit, tmpfs, …
}

// Exit is how a sandbox ended.
type Exit struct {
	Status int    // of the first process
	Signal int    // that ended it, else 0
	Limit  string // memory, where the sandbox died of it
	Usage  Usage
}

// Usage is what a call used.
type Usage struct {
	Wall   time.Duration // of the call, from claim to result
	Claim  time.Duration // of it, until the guest had the call
	CPU    time.Duration // of the sandbox so far
	Memory int64         // bytes, the most at once; 0 where nothing counts it
}

// Capabilities is what one backend can enforce on this host.
type Capabilities struct {
	Name      string    `json:"name"`
	Available bool      `json:"available"`
	Assurance Assurance `json:"assurance,omitempty"` // the highest that it gives here
	Fix       string    `json:"fix,omitempty"`
	Controls  []Control `json:"controls"`
}

// A Control is one thing that a backend enforces.
type Control struct {
	Name  string `json:"control"`
	State string `json:"state"` // on, degraded, missing
	Why   string `json:"why,omitempty"`
	Fix   string `json:"fix,omitempty"`
}

// Lookup returns the control of that name, or one that is missing.
func (c Capabilities) Lookup(name string) Control {
	for _, x := range c.Controls {
		if x.Name == name {
			return x
		}
	}
	return Control{Name: name, State: "missing", Why: "this backend does not have it"}
}

// A Result is what came back of a call.
type Result struct {
	Content    []Content       `json:"content"`
	Structured json.RawMessage `json:"structuredContent,omitempty"`
	IsError    bool            `json:"isError"`            // the tool ran and failed
	ExitCode   *int            `json:"exitCode,omitempty"` // of an exec or shell guest; 127: no such program, 124: its time was over
	Raw        json.RawMessage `json:"-"`                  // of MCP: the whole result as the server wrote it
	Streamed   bool            `json:"-"`                  // of MCP: it went to Call.Stream, in part at least; Content is what has to be added to it
}

// Content is one part of a result.
type Content struct {
	Type     string `json:"type"` // text, image, resource; of MCP also audio, resource_link
	Text     string `json:"text,omitempty"`
	Data     []byte `json:"data,omitempty"`     // of image, and of a resource that is not text
	MimeType string `json:"mimeType,omitempty"` // of image and resource
	URI      string `json:"uri,omitempty"`      // of resource

	Raw json.RawMessage `json:"-"` // of MCP: the part as the server wrote it; it is then what JSON shows
}

type plainContent Content

// MarshalJSON writes the part as the server wrote it, where one did.
func (c Content) MarshalJSON() ([]byte, error) {
	if c.Raw != nil {
		return c.Raw, nil
	}
	return json.Marshal(plainContent(c))
}

// UnmarshalJSON keeps what a part has beside the fields of Content in Raw.
func (c *Content) UnmarshalJSON(b []byte) error {
	var p plainContent
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err == nil {
		*c = Content(p)
		return nil
	}
	var known map[string]json.RawMessage
	json.Unmarshal(b, &known) // of what is no object there is only Raw
	*c = Content{Raw: bytes.Clone(b)}
	json.Unmarshal(known["type"], &c.Type)
	json.Unmarshal(known["text"], &c.Text)
	return nil
}

// A Decision is what the router decided about a call, and why.
type Decision struct {
	Effect  string   `json:"effect"` // allow, deny, ask
	Reasons []string `json:"reasons"`
}

// A Receipt is the record of one call.
type Receipt struct {
	Time     time.Time   `json:"time"`
	Event    string      `json:"event"` // intent, outcome; session (a name was given to one), why (a planner asked)
	Call     CallID      `json:"call"`
	Tool     ToolName    `json:"tool"`
	Digest   Digest      `json:"digest,omitempty"` // of the tool
	Method   string      `json:"method,omitempty"` // of a call to an MCP server itself
	Session  SessionID   `json:"session,omitempty"`
	Name     Digest      `json:"name,omitempty"` // of event session: of the caller and its name for it
	Key      Digest      `json:"key,omitempty"`  // of the caller's own name of the call
	Backend  string      `json:"backend,omitempty"`
	Args     Digest      `json:"args,omitempty"`
	Limits   *Limits     `json:"limits,omitempty"` // that the caller asked for
	Inputs   []InputJSON `json:"inputs,omitempty"`
	Decision *Decision   `json:"decision,omitempty"`
	Label    *Label      `json:"label,omitempty"` // of the result
	Enforced *Enforced   `json:"enforced,omitempty"`
	Usage    *UsageJSON  `json:"usage,omitempty"`
	Changes  []Change    `json:"changes,omitempty"`
	Error    *ErrorJSON  `json:"error,omitempty"`
	Output   Digest      `json:"output,omitempty"` // of the result
}

// A Recorder keeps receipts. Record blocks until the receipt is appended;
// an error means that it is not, and a call without its intent does not run.
type Recorder interface {
	Record(Receipt) error
}

// A Poster is a Recorder that can be told of a receipt without being waited
// for. Post hands it over, behind all that were handed over before, and returns;
// appended blocks until it is appended, or says that it is not. An error of
// Post means that nothing was handed over.
type Poster interface {
	Post(Receipt) (appended func() error, err error)
}

// UsageJSON is Usage as machines read it.
type UsageJSON struct {
	WallMS  float64 `json:"wall_ms"`
	ClaimMS float64 `json:"claim_ms"`
	CPUMS   float64 `json:"cpu_ms"`
	Memory  int64   `json:"memory_bytes"`
}

// JSON returns u in milliseconds and bytes.
func (u Usage) JSON() *UsageJSON {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
	return &UsageJSON{ms(u.Wall), ms(u.Claim), ms(u.CPU), u.Memory}
}

// An Outcome is everything that is known of one call when it is over; it is
// what casemate call --json prints.
type Outcome struct {
	Call     CallID     `json:"call"`
	Receipt  string     `json:"receipt,omitempty"` // what the record of the call is found by
	Tool     ToolName   `json:"tool"`
	Backend  string     `json:"backend,omitempty"`
	Decision *Decision  `json:"decision,omitempty"`
	Result   *Result    `json:"result,omitempty"`
	Error    *ErrorJSON `json:"error,omitempty"`
	Enforced *Enforced  `json:"enforced,omitempty"`
	Usage    *UsageJSON `json:"usage,omitempty"`
	Changes  []Change   `json:"changes,omitempty"`
	Label    *Label     `json:"label,omitempty"`

	ServerError json.RawMessage `json:"-"` // of MCP: the error object that the server answered
}
