package catalog

import "regexp"

// The names that a configuration uses.
const (
	nameForm   = `^[A-Za-z0-9_-]{1,64}$`
	envForm    = `^[A-Za-z_][A-Za-z0-9_]{0,127}$`
	moduleForm = `^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`
	nodeForm   = `^(node:)?(@[a-z0-9_.-]+/)?[A-Za-z_][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)*$`
	labelForm  = `^(attested|free|by:[A-Za-z_][A-Za-z0-9_./-]*)( (directory|secret|private|public))*$`
	hexForm    = `^[0-9a-f]{64}$`
	imageForm  = `^sha256:[0-9a-f]{64}$`
	absForm    = `^/[^\x00-\x1f\x7f]*$` // no control characters
)

var imageDigest = regexp.MustCompile(imageForm)

// maxParked bounds the sandboxes that wait, of one tool and of all.
const maxParked = 10000

// serverToolForm is what an MCP server may call a tool.
const serverToolForm = `^[A-Za-z0-9_.-]{1,128}$`

func word(doc string, enum ...string) *shape { return &shape{kind: text, doc: doc, enum: enum} }

func formed(doc, form, what string) *shape {
	return &shape{kind: text, doc: doc, form: regexp.MustCompile(form), what: what, most: 4096}
}

func free(doc string, most int) *shape { return &shape{kind: text, doc: doc, most: most} }

func count(doc string, min, max float64) *shape {
	return &shape{kind: integer, doc: doc, min: min, max: max}
}

func choice(doc string) *shape { return &shape{kind: boolean, doc: doc} }

func size(doc string) *shape {
	return &shape{kind: either, doc: doc, alts: []*shape{
		formed("", sizeForm, "a size; write bytes, or a number with KiB, MiB, GiB, KB, MB or GB, as in 512MiB"),
		{kind: integer, min: 1, max: maxBytes},
	}}
}

func duration(doc string) *shape {
	return formed(doc, durationForm, "a duration; write a number with ms, s, m or h, as in 30s")
}

func listOf(doc string, of *shape, most int) *shape {
	return &shape{kind: list, doc: doc, of: of, most: most}
}

// set is a list without repetition.
func set(doc string, of *shape, most int) *shape {
	return &shape{kind: list, doc: doc, of: of, most: most, distinct: true}
}

func mapOf(doc, keys, keyWhat string, of *shape, most int) *shape {
	return &shape{kind: mapping, doc: doc, keys: keys, keyWhat: keyWhat, of: of, most: most}
}

func group(doc string, fields ...field) *shape {
	return &shape{kind: object, doc: doc, fields: fields}
}

func must(name string, s *shape) field { return field{name, s, true} }
func may(name string, s *shape) field  { return field{name, s, false} }

func oneOf(doc string, alts ...*shape) *shape { return &shape{kind: either, doc: doc, alts: alts} }

// configuration is the whole of casemate.yaml. It is the one source of the
// decoder and of schema/casemate.schema.json.
func configuration() *shape {
	tools := listOf("The tools that the planner may call.", toolShape(), maxTools)
	s := group("A Casemate configuration: tools, and for each what it may touch.",
		must("version", count("The version of this format: 1.", 1, 1)),
		may("profiles", mapOf("Named profiles, for security: NAME.", nameForm, "a name of 1 to 64 of A-Z a-z 0-9 _ -", securityShape(), 1000)),
		may("host", hostShape()),
		may("secrets", mapOf("Secrets that rules of the network inject. Only in the operator's own file.", nameForm, "a name of 1 to 64 of A-Z a-z 0-9 _ -", &shape{kind: anything}, 1000)),
		must("tools", tools),
	)
	s.elsewhere = map[string]string{
		"mcpServers": "this is the configuration of an MCP client, not of Casemate",
		"security":   "security belongs to a tool, or under profiles: NAME",
	}
	return s
}

func toolShape() *shape {
	s := group("One function that the planner may call.",
		must("name", formed("What the planner calls it by.", nameForm, "a name of 1 to 64 of A-Z a-z 0-9 _ -")),
		may("description", free("What the planner is told about it.", 16<<10)),
		may("parameters", &shape{kind: mapping, doc: "JSON Schema (2020-12) of the arguments, an object.", keys: ``, of: &shape{kind: anything}}),
		may("run", runShape()),
		may("mcp", mcpShape()),
		may("image", image()),
		may("security", securityOf("What it may touch: a profile, or the name of one under profiles. Left out is nothing at all.")),
		may("flow", flowShape()),
		may("pool", group("How many of its sandboxes wait for calls; the host's own bounds come first.",
			may("min", count("Kept even if nobody calls.", 0, maxParked)),
			may("max", count("Left out is as many as the calls ask for.", 1, maxParked)))),
	)
	s.one = []string{"run", "mcp"}
	s.elsewhere = map[string]string{"command": "write run: {exec: {command: […]}}", "args": "write run: {exec: {command: […]}}", "fork": "write run: {python: {fork: …}}"}
	for _, f := range securityShape().fields {
		s.elsewhere[f.name] = f.name + " belongs under security"
	}
	return s
}

func image() *shape {
	s := formed("The root of its sandbox, instead of the host's own system folders: a container image, of which nothing but its files counts. A tag, or a folder or file without a digest, is resolved once into casemate.lock.",
		`^[^\s\x00-\x1f\x7f]+$`, "an image; write REGISTRY/NAME@sha256:…, oci:FOLDER@sha256:… or docker-archive:FILE")
	s.most = 1024
	return s
}

func runShape() *shape {
	element := &shape{kind: text, most: 64 << 10}
	command := listOf(`The program, by its absolute path in the sandbox, and its arguments. An element "{NAME}" is filled by that argument, whatever it holds; never a shell, and never a part of an element. "\{NAME}" is the literal text {NAME}.`, element, 1000)
	command.least, command.what = 1, "the first element is the program"
	interpreter := func(what string) *shape {
		return formed("The interpreter: an absolute path, or one that begins with ./ or ~/. Left out is the first "+what+" on PATH.", `^(/|\./|~/)`, "a path that begins with /, ./ or ~/")
	}
	s := group("What the guest is; exactly one.",
		may("exec", group("One program for each call.",
			must("command", command),
			may("stdin", formed("The argument that is its standard input.", `^\{[^{}]+\}$`, `one argument, as in "{text}"`)),
			may("result", word("What standard output is.", "text", "json")))),
		may("python", group("The argument code, run by Python 3.",
			may("interpreter", interpreter("python3")),
			may("preload", set("Modules to import before the call.", formed("", moduleForm, "the name of a module"), 100)),
			may("fork", choice("false: every sandbox starts an interpreter of its own. Left out, those of scope call are forked from one that has its imports done.")))),
		may("node", group("The argument code, run by Node.",
			may("interpreter", interpreter("node")),
			may("preload", set("Modules to load before the call.", formed("", nodeForm, "the name of a module"), 100)),
			may("fork", choice("false, which it is: every sandbox starts an interpreter of its own.")))),
		may("shell", group("The argument command, run by /bin/sh -c.")),
		may("builtin", word("A tool that ships with Casemate: files is each function that the grants allow as a tool of its own.",
			"files", "read_file", "write_file", "edit_file", "list_folder", "search_files")),
		may("mcp", mcpShape()),
		may("wasm", wasmShape(element)),
		may("js", group("The argument code, run by QuickJS: JavaScript without Node, and without any file or network.",
			may("deterministic", deterministic()))),
		may("http", mapOf("A request to a web service.", ``, "", &shape{kind: anything}, 100)),
	)
	for _, f := range s.fields {
		s.one = append(s.one, f.name)
	}
	return s
}

func wasmShape(element *shape) *shape {
	return group("A WebAssembly module of WASI preview 1: a command, or a function of it.",
		must("module", formed("The module: an absolute path, or one that begins with ./ or ~/.", `^(/|\./|~/)`, "a path that begins with /, ./ or ~/")),
		may("args", listOf(`Of a command: its arguments, without the program. An element "{NAME}" is filled by that argument, whatever it holds.`, element, 1000)),
		may("stdin", formed("Of a command: the argument that is its standard input.", `^\{[^{}]+\}$`, `one argument, as in "{text}"`)),
		may("result", word("Of a command: what standard output is.", "text", "json")),
		may("function", formed("The export to call with all arguments as JSON, in place of the command.", `^[^\x00-\x1f\x7f]{1,200}$`, "the name of an export")),
		may("deterministic", deterministic()))
}

func deterministic() *shape {
	return choice("true: clocks and random bytes are the same in every call.")
}

func mcpShape() *shape {
	command := listOf("The server's program and arguments, as they are. A relative one is relative to the working folder in the sandbox.", &shape{kind: text, most: 64 << 10}, maxArgv)
	command.least, command.what = 1, "the first element is the program"
	return group("An unmodified MCP server that speaks on its standard input and output. It lives for a session, if security.scope does not say otherwise.",
		must("command", command),
		may("split", word("per-tool: each tool of the server gets a sandbox of its own.", "per-tool")),
		may("tools", mapOf("Of split: per-tool, by the server's name of a tool, or \"*\" for every other: what it states replaces the same key of the entry's own security.", serverToolForm+`|^\*$`, `the name of a tool, 1 to 128 of A-Z a-z 0-9 _ . -, or "*"`,
			group("One tool of the server.", must("security", securityOf("What it may touch, where that differs: keys of a profile, or the name of one under profiles."))), maxTools)),
		may("prefix", formed("What the names of its tools begin with. Left out is nothing where it is the only server, else the entry's name and _.", `^[A-Za-z0-9_.-]{0,64}$`, "a prefix of at most 64 of A-Z a-z 0-9 _ . -")),
		may("sampling", choice("The server may ask for the planner's model.")),
		may("elicitation", choice("The server may ask the user.")))
}

// securityOf is a profile or the name of one.
func securityOf(doc string) *shape {
	return oneOf(doc, formed("", nameForm, "the name of a profile"), securityShape())
}

func securityShape() *shape {
	mount := group("One file or folder of the host.",
		must("path", &shape{kind: text, doc: "On the host: absolute, beginning with ~/, or relative to the configuration's folder and in it.", most: 4096, least: 1}),
		must("at", formed("In the sandbox: an absolute path.", absForm, "an absolute path")),
		may("access", word("write includes read.", "read", "write")),
		may("execute", choice("Programs in it may be run.")),
		may("names", set("Protected names, such as .vscode, that may be written all the same.", &shape{kind: text, most: 255, least: 1}, 100)))
	rule := group("One kind of request that is allowed.",
		must("host", formed("A host name.", `^[A-Za-z0-9*][A-Za-z0-9.*_-]{0,252}(:[0-9]{1,5})?$`, "a host name")),
		may("methods", set("", word("", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"), 10)),
		may("paths", set("", formed("", absForm, "a path that begins with /"), 1000)),
		may("secret", formed("A name under secrets.", nameForm, "the name of a secret")),
		may("tls", word("", "passthrough")))
	rules := listOf("", rule, 1000)
	rules.least, rules.what = 1, "an empty list allows nothing; write network: none"
	env := formed("", envForm, "the name of a variable")
	s := group("What a tool may touch. What is left out is not granted; a limit that is left out has its default.",
		may("isolation", word("A backend; auto is the cheapest that gives everything asked.", "auto", "process", "wasm", "oci", "gvisor", "microvm", "kube")),
		may("assurance", word("How much a bug of the kernel may cost.", "weak", "moderate", "strong", "very-strong")),
		may("network", oneOf("none, loopback (the sandbox's own), or rules.", word("", "none", "loopback"), group("", must("rules", rules)))),
		may("filesystem", oneOf("temp (a private /tmp alone), or grants.", word("", "temp"), listOf("", mount, 100))),
		may("env", oneOf("Variables and their values, or names of the caller's variables to pass on; nothing else is inherited.",
			mapOf("", envForm, "the name of a variable", &shape{kind: text, most: 64 << 10}, 1000), set("", env, 1000))),
		may("cwd", formed("The working folder in the sandbox; /tmp if left out.", absForm, "an absolute path")),
		may("syscalls", group("System calls to take away.", may("deny", set("", formed("", `^[a-z_][a-z0-9_]{0,63}$`, "the name of a system call"), 500)))),
		may("rate", group("How often it may be called.",
			may("calls", formed("As in 60/min or 2/s.", callsForm, "a rate; write calls per minute or second, as in 60/min")),
			may("per_day", count("", 1, 1e9)), may("per_session", count("", 1, 1e9)))),
		may("cpu", &shape{kind: number, doc: "Cores; 1 if left out.", min: 0, max: 1024, above: true}),
		may("memory", size("As in 512MiB, the default; swap is off.")),
		may("disk", size("Of /tmp, /out, /dev/shm and what a call writes to its grants, together; 1GiB if left out.")),
		may("processes", count("Threads count; 64 if left out.", 1, 1<<20)),
		may("timeout", duration("Of one call; 30s if left out.")),
		may("output", size("Of one result; 1MiB if left out.")),
		may("scope", word("How long a sandbox lives.", "call", "session")),
	)
	s.elsewhere = map[string]string{
		"rules":      "write network: {rules: […]}; beside network: none they contradict it",
		"mounts":     "write filesystem: [{path: …, at: …, access: read}]",
		"concurrent": "write host: {concurrency: {per_tool: …}}",
		"pool":       "the pool belongs to the tool, beside security",
		"fork":       "write run: {python: {fork: …}}",
	}
	return s
}

func flowShape() *shape {
	label := formed("", labelForm, "a label: attested, by:FIELD or free, then directory, secret, private, public")
	return group("What the tool does with data.",
		may("effect", word("", "none", "fetch", "write", "send", "account", "pay", "commit", "destroy", "execute", "confirm")),
		may("args", mapOf("What each argument is to the tool.", ``, "", word("", "target", "selector", "content", "command", "credential", "option"), 1000)),
		may("result", group("Who wrote a result and who may read it.",
			may("default", label),
			may("fields", mapOf("By JSON Pointer.", `^(/[^\x00]*)?$`, "a JSON Pointer such as /id", label, 1000)),
			may("readers", oneOf("", word("", "inherit"), set("", free("", 256), 1000))))))
}

func hostShape() *shape {
	return group("What belongs to the machine and not to a tool. Only in the operator's own file or one named by --config or CASEMATE_CONFIG.",
		may("state", formed("Folder of the records.", `^(/|~/)`, "a path that begins with / or ~/")),
		may("allow_degraded", set("Controls whose absence is accepted; the only way to run with less than a profile asks.",
			word("", "memory", "cpu", "processes"), 3)),
		may("client", word("exclusive: the planner reads nothing untrusted but through Casemate.", "exclusive")),
		may("egress", group("", may("resolve", mapOf("Names that are not asked of DNS.", `^[A-Za-z0-9.-]{1,253}$`, "a host name", free("", 64), 1000)))),
		may("pool", group("What waits for calls, of all tools together.",
			may("max", count("Sandboxes.", 1, maxParked)),
			may("memory", size("What they hold, in bytes.")))),
		may("callers", mapOf("Who may call over HTTP, by name.", nameForm, "a name of 1 to 64 of A-Z a-z 0-9 _ -", callerShape(), 1000)),
		may("concurrency", group("Calls that run at once.", may("total", count("", 1, 1e6)), may("per_tool", count("", 1, 1e6)))),
	)
}

func callerShape() *shape {
	tools := func(doc string) *shape {
		return set(doc, formed("", `^([A-Za-z0-9_.-]{1,128}\*?|\*)$`, "the name of a tool, or the beginning of names and *"), maxTools)
	}
	s := group("One who may call: whoever shows its token.",
		may("token_sha256", formed("SHA-256 of the token, as in: printf %s TOKEN | sha256sum", hexForm, "64 lower-case hexadecimal digits")),
		may("token_file", formed("The file that holds the token, of the operator's alone.", `^(/|~/)`, "a path that begins with / or ~/")),
		may("tools", tools("What it may call: names, or NAME*. Left out is every tool.")),
		may("contexts", mapOf("What it may narrow itself to, by /mcp?context=NAME.", nameForm, "a name of 1 to 64 of A-Z a-z 0-9 _ -", group("", must("tools", tools("What it may call in this context, of what it may call at all."))), 1000)))
	s.one = []string{"token_sha256", "token_file"}
	return s
}
