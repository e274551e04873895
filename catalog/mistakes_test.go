package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

// A mistake is a manifest and the first line of what is said of it.
type mistake struct {
	name   string
	src    string
	want   string // after "casemate.yaml:"
	schema bool   // an editor with the schema sees it too
}

// tool is a manifest with one python tool that has this security.
func secured(security string) string {
	return "version: 1\ntools:\n  - name: a\n    run: {python: {}}\n    security:\n      " + security + "\n"
}

// imaged is a manifest with one tool of an image, on line 4; run on line 5.
func imaged(image, run string) string {
	return "version: 1\ntools:\n  - name: a\n    image: " + image + "\n    run: {" + run + "}\n"
}

// executes is a manifest with one exec tool: run on line 5.
func executes(params, run string) string {
	return "version: 1\ntools:\n  - name: a\n    parameters: " + params + "\n    run: {exec: " + run + "}\n"
}

// module is a manifest with one tool of a module: run on line 5.
func module(params, run string) string {
	return "version: 1\ntools:\n  - name: a\n    parameters: " + params + "\n    run: {wasm: " + run + "}\n"
}

// serves is a manifest with one MCP server: mcp on line 4, more on line 5.
func serves(mcp, more string) string {
	return "version: 1\ntools:\n  - name: a\n    mcp: " + mcp + "\n    " + more + "\n"
}

// calls is a manifest with callers, on line 2.
func calls(callers string) string {
	return "version: 1\nhost: {callers: " + callers + "}\ntools: []\n"
}

// pooled is a manifest with one python tool that has this pool, on line 5 and
// after what stands before its tools.
func pooled(before, pool string) string {
	return "version: 1\n" + before + "tools:\n  - name: a\n    run: {python: {}}\n    pool: " + pool + "\n"
}

const textParams = "{type: object, properties: {text: {type: string}}, required: [text]}"

func mistakes() []mistake {
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	return []mistake{
		// The text as such.
		{"empty", "", "1:1: is empty", true},
		{"a list", "- a\n", "1:1: must be a mapping, not a list", true},
		{"tab", "version: 1\n\ttools: []\n", "2:1: not YAML: found a tab character that violates indentation", true},
		{"NUL", "version: 1\ntools: [\x00]\n", "2:9: holds a NUL byte", true},
		{"NUL by escape", "version: 1\ntools:\n  - name: a\n    description: \"x\\0\"\n    run: {python: {}}\n", `4:18: tools[0].description: holds a NUL byte`, false},
		{"not UTF-8", "version: 1\ntools: [\xff]\n", "2:9: is not UTF-8: byte 0xff", true},
		{"two documents", "version: 1\ntools: []\n---\nversion: 1\n", "3:1: a second document begins here; a configuration is one document", false},
		{"tag", "version: 1\ntools: !!python/object:os.system []\n", `2:8: the tag "!!python/object:os.system" is not allowed: a value is what it looks like`, false},
		{"tag of a known type", "version: !!int \"1\"\ntools: []\n", `1:10: the tag "!!int" is not allowed: a value is what it looks like`, false},
		{"merge key", "version: 1\ntools:\n  - &x\n    name: a\n    run: {python: {}}\n  - <<: *x\n    name: b\n", "6:5: the merge key << is not allowed: write the keys out", false},
		{"duplicate key", "version: 1\nversion: 1\ntools: []\n", `2:1: duplicate key "version"; it stands at line 1 already`, false},
		{"duplicate in flow", secured("{memory: 1MiB, memory: 2MiB}"), `6:22: duplicate key "memory"; it stands at line 6 already`, false},
		{"key by case", "version: 1\nTools: []\n", `2:1: Tools: unknown key "Tools"; did you mean "tools"?`, true},
		{"number as a key", "version: 1\n1: x\n", "2:1: a key must be text; put it in quotes", true},
		{"boolean key of YAML 1.1", "version: 1\ntools:\n  - name: a\n    run: {python: {}}\n    security: {env: {Y: a}}\n", `5:22: "Y" is true or false to some readers of YAML: put it in quotes`, false},
		{"depth", "version: 1\ntools: " + deep + "\n", "2:39: nested deeper than 32", true},
		{"unknown anchor", "version: 1\ntools: *x\n", "1:1: not YAML: unknown anchor 'x' referenced", true},
		{"alias into itself", "version: 1\ntools: &x [*x]\n", "2:12: nested deeper than 32", true},
		{"aliases", "version: 1\ntools:\n  - name: a\n    run: {python: {}}\n    parameters:\n" + bomb(), "", false},

		// Keys and values.
		{"no version", "tools: []\n", "1:1: version: is missing", true},
		{"version 2", "version: 2\ntools: []\n", `1:10: version: "2" is out of range: from 1 to 1`, true},
		{"no tools", "version: 1\n", "1:1: tools: is missing", true},
		{"misspelt", secured("netwrok: none"), `6:7: tools[0].security.netwrok: unknown key "netwrok"; did you mean "network"?`, true},
		{"misspelt at a tool", "version: 1\ntools:\n  - name: a\n    descriptoin: x\n    run: {python: {}}\n", `4:5: tools[0].descriptoin: unknown key "descriptoin"; did you mean "description"?`, true},
		{"in the wrong place", "version: 1\ntools:\n  - name: a\n    memory: 1MiB\n    run: {python: {}}\n", `4:5: tools[0].memory: unknown key "memory"; memory belongs under security`, true},
		{"of another program", "version: 1\nmcpServers: {}\ntools: []\n", `2:1: mcpServers: unknown key "mcpServers"; this is the configuration of an MCP client, not of Casemate`, true},
		{"escape in a key", "version: 1\n\"\\e[2Jx\": 1\ntools: []\n", `2:1: "\x1b[2Jx": unknown key "\x1b[2Jx"; the keys here are version, profiles, host, secrets, tools`, true},
		{"shell takes nothing", "version: 1\ntools:\n  - name: a\n    run: {shell: {bash: x}}\n", `4:19: tools[0].run.shell.bash: unknown key "bash"; there are none here`, true},
		{"no name", "version: 1\ntools:\n  - run: {python: {}}\n", "3:5: tools[0].name: is missing", true},
		{"bad name", "version: 1\ntools:\n  - name: a b\n    run: {python: {}}\n", `3:11: tools[0].name: "a b" is not a name of 1 to 64 of A-Z a-z 0-9 _ -`, true},
		{"number as a name", "version: 1\ntools:\n  - name: 7\n    run: {python: {}}\n", `3:11: tools[0].name: must be a name of 1 to 64 of A-Z a-z 0-9 _ -, not "7"; put it in quotes if it is meant as text`, true},
		{"name twice", "version: 1\ntools:\n  - name: a\n    run: {python: {}}\n  - name: a\n    run: {shell: {}}\n", `5:11: tools[1].name: the name "a" is taken by the tool at line 3`, false},
		{"name of an expansion", "version: 1\ntools:\n  - name: read_file\n    run: {python: {}}\n  - name: f\n    run: {builtin: files}\n    security: {filesystem: [{path: ., at: /w}]}\n", `5:11: tools[1].name: the name "read_file" is taken by the tool at line 3`, false},
		{"no kind", "version: 1\ntools:\n  - name: a\n", "3:5: tools[0]: one of run, mcp is missing", true},
		{"empty run", "version: 1\ntools:\n  - name: a\n    run: {}\n", "4:10: tools[0].run: one of exec, python, node, shell, builtin, mcp, wasm, js, http is missing", true},
		{"two kinds", "version: 1\ntools:\n  - name: a\n    run: {python: {}, shell: {}}\n", `4:23: tools[0].run.shell: "shell" contradicts "python" at line 4: exactly one of exec, python, node, shell, builtin, mcp, wasm, js, http may stand here`, true},
		{"nothing for a mapping", "version: 1\ntools:\n  - name: a\n    run: {python: }\n", "4:19: tools[0].run.python: must be a mapping, not nothing; write {} for an empty one", true},
		{"boolean as text", "version: 1\ntools:\n  - name: a\n    description: true\n    run: {python: {}}\n", `4:18: tools[0].description: must be text, not "true"; put it in quotes if it is meant as text`, true},
		{"too many at once", "version: 1\ntools: []\n" + strings.Repeat("x", 1) + unknownKeys(30), "", true},

		// Units and choices.
		{"size", secured("memory: 256Mib5"), `6:15: tools[0].security.memory: "256Mib5" is not a size; write bytes, or a number with KiB, MiB, GiB, KB, MB or GB, as in 512MiB`, true},
		{"size of nothing", secured("memory: 0"), `6:15: tools[0].security.memory: "0" is out of range: from 1 to 1125899906842624`, true},
		{"size of no bytes", secured("memory: 0MiB"), `6:15: tools[0].security.memory: "0MiB" is not a whole number of bytes from 1 to 1024 TiB`, false},
		{"size in hexadecimal", secured("memory: 0x10"), `6:15: tools[0].security.memory: "0x10" is not a plain decimal number`, false},
		{"negative", secured("processes: -1"), `6:18: tools[0].security.processes: "-1" is out of range: from 1 to 1048576`, true},
		{"fraction of a process", secured("processes: 1.5"), `6:18: tools[0].security.processes: must be a whole number, not "1.5"`, true},
		{"no cpu", secured("cpu: 0"), `6:12: tools[0].security.cpu: "0" is out of range: above 0, at most 1024`, true},
		{"infinite cpu", secured("cpu: .inf"), `6:12: tools[0].security.cpu: ".inf" is not a plain decimal number`, false},
		{"duration", secured("timeout: soon"), `6:16: tools[0].security.timeout: "soon" is not a duration; write a number with ms, s, m or h, as in 30s`, true},
		{"duration without a unit", secured("timeout: 30"), `6:16: tools[0].security.timeout: must be a duration; write a number with ms, s, m or h, as in 30s, not "30"; put it in quotes if it is meant as text`, true},
		{"no duration", secured("timeout: 0s"), `6:16: tools[0].security.timeout: "0s": a duration is from 1ms to 8760h`, false},
		{"rate", secured("rate: {calls: 60/fortnight}"), `6:21: tools[0].security.rate.calls: "60/fortnight" is not a rate; write calls per minute or second, as in 60/min`, true},
		{"no as access", secured("filesystem: [{path: ., at: /w, access: no}]"), `6:46: tools[0].security.filesystem[0].access: "no" is not one of read, write`, true},
		{"access misspelt", secured("filesystem: [{path: ., at: /w, access: wirte}]"), `6:46: tools[0].security.filesystem[0].access: "wirte" is not one of read, write; did you mean "write"?`, true},
		{"yes as execute", secured("filesystem: [{path: ., at: /w, execute: yes}]"), `6:47: tools[0].security.filesystem[0].execute: must be true or false, not "yes"; YAML 1.1's yes and no are not taken`, true},
		{"image of two words", imaged("a b", "exec: {command: [/bin/true]}"), `4:12: tools[0].image: "a b" is not an image; write REGISTRY/NAME@sha256:…, oci:FOLDER@sha256:… or docker-archive:FILE`, true},
		{"image by half a digest", imaged("x.io/y@sha256:00", "exec: {command: [/bin/true]}"), `4:12: tools[0].image: "sha256:00" is no digest; write sha256: and 64 lower-case hexadecimal digits after the @`, false},
		{"image of a built-in tool", imaged("oci:x", "builtin: read_file"), "4:12: tools[0].image: a built-in tool is a part of Casemate, and of no image; take it away", false},
		{"interpreter of an image", imaged("oci:x", "python: {interpreter: ./py}"), `5:33: tools[0].run.python.interpreter: "./py" is not a clean absolute path in the image`, false},
		{"a module in a place of its own", module(textParams, "{module: w.wasm, stdin: \"{text}\"}"), `5:26: tools[0].run.wasm.module: "w.wasm" is not a path that begins with /, ./ or ~/`, true},
		{"a module that leaves", module(textParams, "{module: ./../w.wasm, stdin: \"{text}\"}"), `5:26: tools[0].run.wasm.module: "./../w.wasm" leaves the folder of the configuration; write an absolute path if it is meant`, false},
		{"no module", module(textParams, "{module: ./none.wasm, stdin: \"{text}\"}"), `5:26: tools[0].run.wasm.module: "./none.wasm" does not exist; build it, or correct the path`, false},
		{"a module that is none", module(textParams, "{module: /etc, stdin: \"{text}\"}"), `5:26: tools[0].run.wasm.module: "/etc" cannot be used: it is no regular file of at most 256 MiB that can be read`, false},
		{"an argument of a module that nothing uses", module(textParams, "{module: /bin/sh}"), `4:45: tools[0].parameters.properties.text: nothing uses the argument "text": put "{text}" into run.wasm.args or stdin, or take it away`, false},
		{"an argument that a module has not", module(textParams, "{module: /bin/sh, args: [\"{test}\"], stdin: \"{text}\"}"), `5:42: tools[0].run.wasm.args[0]: there is no argument "test" among parameters.properties; did you mean "text"?`, false},
		{"a function with arguments", module(textParams, "{module: /bin/sh, function: f, stdin: \"{text}\"}"), `5:48: tools[0].run.wasm.stdin: is of a command, and a function has all arguments as JSON; take it, or function, away`, false},
		{"a function without a name", module(textParams, "{module: /bin/sh, function: \"\"}"), `5:45: tools[0].run.wasm.function: "" is not the name of an export`, true},
		{"isolation", secured("isolation: docker"), `6:18: tools[0].security.isolation: "docker" is not one of auto, process, wasm, oci, gvisor, microvm, kube`, true},
		{"system call", secured("syscalls: {deny: [Connect]}"), `6:25: tools[0].security.syscalls.deny[0]: "Connect" is not the name of a system call`, true},
		{"system call twice", secured("syscalls: {deny: [connect, connect]}"), `6:34: tools[0].security.syscalls.deny[1]: "connect" stands here twice`, true},
		{"module", "version: 1\ntools:\n  - name: a\n    run: {python: {preload: [\"os; x\"]}}\n", `4:30: tools[0].run.python.preload[0]: "os; x" is not the name of a module`, true},
		{"rules beside none", secured("{network: none, rules: []}"), `6:23: tools[0].security.rules: unknown key "rules"; write network: {rules: […]}; beside network: none they contradict it`, true},
		{"rules and none", secured("network: [none, {rules: []}]"), `6:16: tools[0].security.network: must be none, loopback or a mapping, not a list`, true},
		{"empty-allowlist", secured("network: {rules: []}"), "6:24: tools[0].security.network.rules: must not be empty: an empty list allows nothing; write network: none", true},
		{"no profile", "version: 1\nprofiles: {plain: {}}\ntools:\n  - name: a\n    run: {python: {}}\n    security: plian\n", `6:15: tools[0].security: there is no profile "plian" under profiles; did you mean "plain"?`, false},
		{"mistake in a profile that nobody uses", "version: 1\nprofiles: {plain: {cwd: /a/../b}}\ntools: []\n", `2:25: profiles.plain.cwd: "/a/../b" is not a clean path; write "/b"`, false},

		// Servers.
		{"server without a command", serves("{}", ""), `4:10: tools[0].mcp.command: is missing`, true},
		{"empty command", serves("{command: []}", ""), `4:20: tools[0].mcp.command: must not be empty: the first element is the program`, true},
		{"empty program", serves("{command: [\"\", x]}", ""), `4:21: tools[0].mcp.command[0]: is no element of a command`, false},
		{"server with parameters", serves("{command: [a]}", "parameters: {type: object}"), `5:5: tools[0].parameters: a server lists the parameters of its tools; take these away`, false},
		{"server with roles", serves("{command: [a]}", "flow: {args: {x: content}}"), `5:12: tools[0].flow.args: a server has several tools, whose arguments these are not; take them away`, false},
		{"profile of a tool that shares its sandbox", serves("{command: [a], tools: {x: {security: {}}}}", ""), `4:25: tools[0].mcp.tools: a tool has a profile of its own only in a sandbox of its own; add split: per-tool beside it`, false},
		{"another split", serves("{command: [a], split: per-call}", ""), `4:32: tools[0].mcp.split: "per-call" is not one of per-tool`, true},
		{"prefix", serves("{command: [a], prefix: \"a b\"}", ""), `4:33: tools[0].mcp.prefix: "a b" is not a prefix of at most 64 of A-Z a-z 0-9 _ . -`, true},
		{"tool of no name", serves("{command: [a], split: per-tool, tools: {\"a b\": {security: {}}}}", ""), `4:50: tools[0].mcp.tools."a b": "a b" is not the name of a tool, 1 to 128 of A-Z a-z 0-9 _ . -, or "*"`, true},
		{"mistake in the profile of a tool", serves("{command: [a], split: per-tool, tools: {x: {security: {cwd: /a/}}}}", ""), `4:70: tools[0].mcp.tools.x.security.cwd: "/a/" is not a clean path; write "/a"`, false},
		{"profile of a tool that is none", serves("{command: [a], split: per-tool, tools: {x: {security: none}}}", ""), `4:64: tools[0].mcp.tools.x.security: there is no profile "none" under profiles`, false},
		{"servers of one name", "version: 1\ntools:\n  - {name: a, mcp: {command: [a]}}\n  - {name: a, run: {mcp: {command: [b]}}}\n", `4:12: tools[1].name: the name "a" is taken by the tool at line 3`, false},

		// Pools.
		{"pool.max below pool.min", pooled("", "{min: 4, max: 1}"), `5:25: tools[0].pool.max: is 1, below pool.min 4: raise max, or lower min`, false},
		{"negative pool", pooled("", "{min: -1}"), `5:17: tools[0].pool.min: "-1" is out of range: from 0 to 10000`, true},
		{"pool of none", pooled("", "{max: 0}"), `5:17: tools[0].pool.max: "0" is out of range: from 1 to 10000`, true},
		{"huge pool", pooled("", "{max: 1e9}"), `5:17: tools[0].pool.max: must be a whole number, not "1e9"`, true},
		{"pool too large", pooled("", "{max: 10001}"), `5:17: tools[0].pool.max: "10001" is out of range: from 1 to 10000`, true},
		{"pool.min above the host's", pooled("host: {pool: {max: 3}}\n", "{min: 4}"), `6:17: tools[0].pool.min: is 4, above host.pool.max 3: lower min, or raise host.pool.max`, false},
		{"pool memory", "version: 1\nhost: {pool: {memory: -1}}\ntools: []\n", `2:23: host.pool.memory: "-1" is out of range: from 1 to 1125899906842624`, true},
		{"pool of a tool's memory", pooled("", "{memory: 1MiB}"), `5:12: tools[0].pool.memory: unknown key "memory"; the keys here are min, max`, true},
		{"pool under security", secured("pool: {min: 1}"), `6:7: tools[0].security.pool: unknown key "pool"; the pool belongs to the tool, beside security`, true},
		{"fork of a node", "version: 1\ntools:\n  - name: a\n    run: {node: {fork: true}}\n", `4:24: tools[0].run.node.fork: Node cannot be forked: V8 has threads, which a fork leaves behind; take it away, its guests wait with their modules loaded all the same`, false},
		{"fork as text", "version: 1\ntools:\n  - name: a\n    run: {python: {fork: off}}\n", `4:26: tools[0].run.python.fork: must be true or false, not "off"; YAML 1.1's yes and no are not taken`, true},
		{"fork of a shell", "version: 1\ntools:\n  - name: a\n    run: {shell: {fork: false}}\n", `4:19: tools[0].run.shell.fork: unknown key "fork"; there are none here`, true},

		// Callers.
		{"caller without a token", calls("{a: {}}"), `2:21: host.callers.a: one of token_sha256, token_file is missing`, true},
		{"caller with two tokens", calls("{a: {token_sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824, token_file: /a}}"), "", true},
		{"token in the clear", calls("{a: {token: x}}"), "", true},
		{"token of another form", calls("{a: {token_sha256: ABCD}}"), `2:36: host.callers.a.token_sha256: "ABCD" is not 64 lower-case hexadecimal digits`, true},
		{"relative token file", calls("{a: {token_file: x}}"), `2:34: host.callers.a.token_file: "x" is not a path that begins with / or ~/`, true},
		{"a caller of our name", calls("{default: {token_file: /x}}"), `2:18: host.callers.default: is the name of the caller with the token of casemate serve, and of the unix socket; name it otherwise`, false},
		{"two callers with one token", calls("{a: {token_file: /x}, b: {token_file: /x}}"), `2:55: host.callers.b: has the token of line 2: two callers cannot be told apart by one`, false},
		{"star in the middle", calls("{a: {token_file: /x, tools: [\"a*b\"]}}"), `2:46: host.callers.a.tools[0]: "a*b" is not the name of a tool, or the beginning of names and *`, true},

		// Grants.
		{"at misspelt", secured("filesystem: [{path: ., to: /w}]"), `6:20: tools[0].security.filesystem[0].at: is missing`, true},
		{"relative at", secured("filesystem: [{path: ., at: w}]"), `6:34: tools[0].security.filesystem[0].at: "w" is not an absolute path`, true},
		{"unclean at", secured("filesystem: [{path: ., at: /w/../etc}]"), `6:34: tools[0].security.filesystem[0].at: "/w/../etc" is not a clean path; write "/etc"`, false},
		{"at the root", secured("filesystem: [{path: ., at: /}]"), `6:34: tools[0].security.filesystem[0].at: "/" is the sandbox's own; choose a folder such as /work`, false},
		{"at /tmp", secured("filesystem: [{path: ., at: /tmp}]"), `6:34: tools[0].security.filesystem[0].at: "/tmp" is the sandbox's own; choose a folder such as /work`, false},
		{"hidden at", secured("filesystem: [{path: ., at: /.stage}]"), `6:34: tools[0].security.filesystem[0].at: "/.stage" is the sandbox's own; choose a folder such as /work`, false},
		{"control character in at", secured("filesystem: [{path: ., at: \"/w\\n\"}]"), `6:34: tools[0].security.filesystem[0].at: "/w\n" is not an absolute path`, true},
		{"in /etc", secured("filesystem: [{path: ., at: /etc/x}]"), `6:34: tools[0].security.filesystem[0].at: "/etc/x" lies in /etc, which is the sandbox's own; choose a folder such as /work`, false},
		{"at twice", secured("filesystem: [{path: ., at: /w}, {path: ., at: /w}]"), `6:53: tools[0].security.filesystem[1].at: "/w" is granted twice; first at line 6`, false},
		{"at nested", secured("filesystem: [{path: ., at: /w/a}, {path: ., at: /w}]"), `6:55: tools[0].security.filesystem[1].at: "/w" and "/w/a" of line 6 lie in each other`, false},
		{"leaves", secured("filesystem: [{path: ../x, at: /w}]"), `6:27: tools[0].security.filesystem[0].path: "../x" leaves the folder of the configuration; write an absolute path if it is meant`, false},
		{"leaves later", secured("filesystem: [{path: ./a/../../x, at: /w}]"), `6:27: tools[0].security.filesystem[0].path: "./a/../../x" leaves the folder of the configuration; write an absolute path if it is meant`, false},
		{"absent", secured("filesystem: [{path: ./absent, at: /w}]"), `6:27: tools[0].security.filesystem[0].path: "./absent" does not exist; make it, or take the grant away`, false},
		{"everything", secured("filesystem: [{path: /, at: /w}]"), `6:27: tools[0].security.filesystem[0].path: the whole file system is never granted; name the folders that are needed`, false},
		{"kernel", secured("filesystem: [{path: /proc/self, at: /w}]"), "", false},
		{"a device", secured("filesystem: [{path: /dev/null, at: /w}]"), `6:27: tools[0].security.filesystem[0].path: "/dev/null" is neither a folder nor a regular file`, false},
		{"home of another", secured("filesystem: [{path: ~root, at: /w}]"), `6:27: tools[0].security.filesystem[0].path: "~root": only ~ and ~/… are known; write an absolute path`, false},
		{"names of a read grant", secured("filesystem: [{path: ., at: /w, names: [.vscode]}]"), `6:38: tools[0].security.filesystem[0].names: names are for a grant with access: write`, false},
		{"names that leave", secured("filesystem: [{path: ., at: /w, access: write, names: [../x]}]"), `6:61: tools[0].security.filesystem[0].names: "../x" is not the name of a file or a path in the grant`, false},

		// Environment.
		{"variable", secured("env: {A-B: x}"), `6:13: tools[0].security.env.A-B: "A-B" is not the name of a variable`, true},
		{"number as a value", secured("env: {A: 1}"), `6:16: tools[0].security.env.A: must be text, not "1"; put it in quotes if it is meant as text`, true},
		{"boolean as a value", secured("env: {A: no}"), `6:16: tools[0].security.env.A: "no" is true or false to some readers of YAML: put it in quotes`, false},
		{"env-poison", secured("env: {LD_PRELOAD: /w/x.so}"), `6:13: tools[0].security.env.LD_PRELOAD: "LD_PRELOAD" is refused: it changes what the dynamic loader or the C library loads`, false},
		{"env-poison BASH_ENV", secured("env: {BASH_ENV: /w/x}"), `6:13: tools[0].security.env.BASH_ENV: "BASH_ENV" is refused: a shell runs or splits by it`, false},
		{"env-poison passed on", secured("env: [GIT_DIR]"), `6:13: tools[0].security.env[0]: "GIT_DIR" is not passed on: the caller's GIT_… would steer the tool; give a value: env: {GIT_DIR: …}`, false},
		{"unset", secured("env: [UNSET_KEY]"), `6:13: tools[0].security.env[0]: "UNSET_KEY" is not set in the environment of casemate; set it, or give a value: env: {UNSET_KEY: …}`, false},

		// Commands and parameters.
		{"no command", executes(textParams, "{command: []}"), "5:27: tools[0].run.exec.command: must not be empty: the first element is the program", true},
		{"relative program", executes(textParams, "{command: [echo, \"{text}\"]}"), `5:28: tools[0].run.exec.command[0]: "echo" is not a clean absolute path in the sandbox, which the program must be`, false},
		{"argument as program", executes(textParams, "{command: [\"{text}\"]}"), `5:28: tools[0].run.exec.command[0]: "{text}" is not a clean absolute path in the sandbox, which the program must be`, false},
		{"unknown argument", executes(textParams, "{command: [/bin/echo, \"{txet}\", \"{text}\"]}"), `5:39: tools[0].run.exec.command[1]: there is no argument "txet" among parameters.properties; did you mean "text"?`, false},
		{"braces", executes(textParams, "{command: [/usr/bin/awk, \"{print $1}\"], stdin: \"{text}\"}"), `5:42: tools[0].run.exec.command[1]: there is no argument "print $1" among parameters.properties; write \{print $1} if the braces are text`, false},
		{"part of an element", executes(textParams, "{command: [/bin/echo, \"a={text}\"], stdin: \"{text}\"}"), `5:39: tools[0].run.exec.command[1]: "a={text}" holds {text} and other text: one argument fills one whole element, never a part of one`, false},
		{"unused", executes(textParams, "{command: [/bin/true]}"), `4:45: tools[0].parameters.properties.text: nothing uses the argument "text": put "{text}" into run.exec.command or stdin, or take it away`, false},
		{"optional element", executes("{type: object, properties: {text: {type: string}}}", "{command: [/bin/echo, \"{text}\"]}"), `4:45: tools[0].parameters.properties.text: fills an element of the command, so it must be under required`, false},
		{"object in an element", executes("{type: object, properties: {text: {type: object}}, required: [text]}", "{command: [/bin/echo, \"{text}\"]}"), `4:51: tools[0].parameters.properties.text: fills one element of the command, so its type must be string, integer, number or boolean`, false},
		{"stdin", executes(textParams, "{command: [/bin/cat], stdin: text}"), `5:46: tools[0].run.exec.stdin: "text" is not one argument, as in "{text}"`, true},
		{"parameters of another type", executes("{type: array}", "{command: [/bin/true]}"), `4:24: tools[0].parameters.type: the parameters of a tool are an object; write type: object`, false},
		{"schema-ref", executes("{type: object, properties: {a: {$ref: \"file:///etc/shadow\"}}}", "{command: [/bin/true]}"), `4:55: tools[0].parameters.properties.a."$ref": "file:///etc/shadow" refers outside the schema; only references that begin with # are followed`, false},
		{"schema $id", executes("{type: object, $id: \"http://x\"}", "{command: [/bin/true]}"), `4:32: tools[0].parameters."$id": $id is refused: a schema of parameters has no name of its own`, false},
		{"schema of another draft", executes("{type: object, $schema: \"http://json-schema.org/draft-04/schema#\"}", "{command: [/bin/true]}"), `4:41: tools[0].parameters."$schema": "http://json-schema.org/draft-04/schema#" is not the dialect that is used: https://json-schema.org/draft/2020-12/schema`, false},
		{"schema keyword", executes("{type: object, properties: {a: {type: strnig}}}", "{command: [/bin/true]}"), `4:55: tools[0].parameters.properties.a.type: is not a JSON Schema: value must be one of 'array', 'boolean', 'integer', 'null', 'number', 'object', 'string'`, false},
		{"huge-number", executes("{type: object, properties: {a: {maximum: 1e10000000}}}", "{command: [/bin/true]}"), `4:58: tools[0].parameters.properties.a.maximum: "1e10000000" has an exponent beyond 400`, false},
		{"long number", executes("{type: object, properties: {a: {maximum: "+strings.Repeat("9", 70)+"}}}", "{command: [/bin/true]}"), "4:58: tools[0].parameters.properties.a.maximum: \"" + strings.Repeat("9", 60) + "\"… has more than 64 digits", false},
		{"infinity", executes("{type: object, properties: {a: {maximum: .inf}}}", "{command: [/bin/true]}"), `4:58: tools[0].parameters.properties.a.maximum: ".inf" is not a number of JSON`, false},
		{"date", executes("{type: object, properties: {a: {const: 2020-01-01}}}", "{command: [/bin/true]}"), `4:56: tools[0].parameters.properties.a.const: "2020-01-01" is read as timestamp: put it in quotes`, false},
		{"required and absent", executes("{type: object, properties: {a: {type: string}}, required: [a, b]}", "{command: [/bin/echo, \"{a}\"]}"), `4:79: tools[0].parameters.required: "b" is not among the properties`, false},
		{"python without code", "version: 1\ntools:\n  - name: a\n    run: {python: {}}\n    parameters: {type: object, properties: {src: {type: string}}, required: [src]}\n", `5:44: tools[0].parameters.properties: python takes the argument "code", which is not here`, false},
		{"built-in with parameters", "version: 1\ntools:\n  - name: a\n    parameters: {type: object}\n    run: {builtin: files}\n    security: {filesystem: [{path: ., at: /w}]}\n", "4:5: tools[0].parameters: a built-in tool has parameters of its own; take these away", false},
		{"built-in without a grant", "version: 1\ntools:\n  - name: a\n    run: {builtin: files}\n", "4:20: tools[0].run.builtin: files without a grant could touch nothing; add security: {filesystem: [{path: …, at: …, access: read}]}", false},
		{"write without a write grant", "version: 1\ntools:\n  - name: a\n    run: {builtin: write_file}\n    security: {filesystem: [{path: ., at: /w}]}\n", "4:20: tools[0].run.builtin: write_file needs a grant with access: write", false},
		{"interpreter by name", "version: 1\ntools:\n  - name: a\n    run: {python: {interpreter: python3}}\n", `4:33: tools[0].run.python.interpreter: "python3" is not a path that begins with /, ./ or ~/`, true},
		{"interpreter in a write grant", "version: 1\ntools:\n  - name: a\n    run: {python: {interpreter: ./sub/bin/python}}\n    security: {filesystem: [{path: ., at: /w, access: write}]}\n", `4:33: tools[0].run.python.interpreter: "./sub/bin/python" lies in the write grant of line 5: a tool could replace its interpreter`, false},

		// Flow.
		{"effect", "version: 1\ntools:\n  - name: a\n    run: {python: {}}\n    flow: {effect: sned}\n", `5:20: tools[0].flow.effect: "sned" is not one of none, fetch, write, send, account, pay, commit, destroy, execute, confirm; did you mean "send"?`, true},
		{"role", "version: 1\ntools:\n  - name: a\n    run: {python: {}}\n    flow: {args: {code: contents}}\n", `5:25: tools[0].flow.args.code: "contents" is not one of target, selector, content, command, credential, option; did you mean "content"?`, true},
		{"role of no argument", "version: 1\ntools:\n  - name: a\n    run: {python: {}}\n    flow: {args: {kode: content}}\n", `5:19: tools[0].flow.args.kode: there is no argument "kode" among parameters.properties; did you mean "code"?`, false},
		{"label", "version: 1\ntools:\n  - name: a\n    run: {python: {}}\n    flow: {result: {default: trusted}}\n", `5:30: tools[0].flow.result.default: "trusted" is not a label: attested, by:FIELD or free, then directory, secret, private, public`, true},
	}
}

// bomb is aliases of aliases: 10 to the power of 5 nodes in 5 lines.
func bomb() string {
	var b strings.Builder
	b.WriteString("      type: object\n      a: &a [1,1,1,1,1,1,1,1,1,1]\n")
	for c := 'b'; c < 'f'; c++ {
		fmt.Fprintf(&b, "      %c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 10), ","))
	}
	return b.String()
}

func unknownKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d_unknown: 1\nx", i)
	}
	return strings.TrimSuffix(b.String(), "x")
}

func TestMistakes(t *testing.T) {
	dir := folder(t, map[string]string{"sub/": ""})
	for _, m := range mistakes() {
		t.Run(m.name, func(t *testing.T) {
			_, err := Parse(filepath.Join(dir, "casemate.yaml"), []byte(m.src), options())
			e, ok := errors.AsType[*casemate.Error](err)
			if !ok || e.Kind != casemate.Invalid || e.Op != "load" {
				t.Fatalf("got %v, want an Error of kind invalid", err)
			}
			first, _, _ := strings.Cut(e.Err.Error(), "\n")
			if want := "casemate.yaml:" + m.want; m.want != "" && first != want {
				t.Errorf("\n got %s\nwant %s", first, want)
			}
			if strings.ContainsFunc(first, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("control characters in %q", first)
			}
		})
	}
}

func TestEveryMistakeIsNamedUpToTwenty(t *testing.T) {
	_, err := Parse("/c/casemate.yaml", []byte("version: 1\ntools: []\nx"+unknownKeys(30)), options())
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 21 || lines[20] != "and 10 more" {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
	_, err = Parse("/c/casemate.yaml", []byte(secured("{memory: 5x, timeout: soon, netwrok: none}")), options())
	for _, w := range []string{"5x", "soon", "netwrok"} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s is not named in %v", w, err)
		}
	}
}

func TestParserCaps(t *testing.T) {
	tools := "version: 1\ntools:\n" // flow style keeps it small
	for i := range maxTools + 1 {
		tools += fmt.Sprintf("- {name: t%d, run: {shell: {}}}\n", i)
	}
	big := append([]byte("version: 1\ntools: []\n#"), bytes.Repeat([]byte("x"), maxSource)...)
	for _, c := range []struct{ name, src, want string }{
		{"size", string(big), "casemate.yaml:1:1: is larger than 1 MiB"},
		{"tools", tools, "casemate.yaml:3:1: tools: has 1001 entries; at most 1000 are allowed"},
		{"nodes", "version: 1\ntools: [" + strings.Repeat("1,", maxNodes) + "]\n", "more than 100000 values"},
		{"aliases", "version: 1\ntools:\n  - name: a\n    run: {python: {}}\n    parameters:\n" + bomb(), "more than 100000 values"},
		{"schema", executes("{type: object, description: "+strings.Repeat("x", maxSchema)+"}", "{command: [/bin/true]}"), "is larger than 64 KiB as JSON"},
	} {
		_, err := Parse("/c/casemate.yaml", []byte(c.src), options())
		if casemate.KindOf(err) != casemate.Invalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
