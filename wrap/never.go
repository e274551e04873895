package wrap

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// inSystem says whether p lies in the folders that every sandbox has, to read
// and run.
func inSystem(p string) bool {
	return slices.ContainsFunc([]string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}, func(d string) bool { return within(d, p) })
}

// private are names that hold keys, wherever they lie.
var private = []string{".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".netrc", ".npmrc", ".pypirc", ".git-credentials", ".password-store", ".pgpass", ".my.cnf",
	".claude", ".claude.json", ".codex", ".gemini", ".cursor", ".codeium", ".copilot", ".mcp.json", ".opencode", ".goose", ".cline", ".continue", ".aider.conf.yml"}

// programFolders are the hidden folders of a home that hold programs and no
// settings: a program may be granted from there.
var programFolders = []string{".local/bin", ".local/lib", ".local/pipx", ".local/share/pipx", ".local/share/uv", ".local/share/pnpm", ".local/share/fnm", ".local/share/mise", ".local/share/virtualenvs",
	".nvm", ".fnm", ".nodenv", ".volta", ".asdf", ".bun", ".deno", ".npm-global", ".yarn", ".pnpm", ".pyenv", ".virtualenvs", ".venvs", ".rbenv", ".sdkman", ".dotnet", ".cargo/bin", ".cache/uv", ".cache/pypoetry"}

// never says why wrap does not grant p by itself, absolute and clean: a person
// may, by writing it into the profile. "" is that it does.
func (h *Host) never(p string, program bool) string {
	switch {
	case p == "/":
		return "the whole file system is never granted"
	case p == "/tmp" || strings.HasPrefix(p, "/."):
		return "a sandbox has its own"
	case within(p, h.Home):
		return "it holds your home folder"
	}
	for _, d := range []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/out"} {
		if within(d, p) {
			return "a sandbox has its own"
		}
	}
	for _, d := range []string{"/etc", "/proc", "/sys", "/dev", "/boot", "/run", "/var/run"} {
		if within(d, p) {
			return "it belongs to the system"
		}
	}
	for _, d := range h.Never {
		if d != "" && (within(d, p) || within(p, d)) {
			return "Casemate's own files lie there"
		}
	}
	rest := p
	if within(h.Home, p) {
		rest = strings.TrimPrefix(p[len(h.Home):], "/")
	}
	parts := strings.Split(rest, "/")
	for _, c := range parts {
		if slices.ContainsFunc(private, func(n string) bool { return strings.EqualFold(n, c) }) || strings.HasPrefix(strings.ToLower(c), ".claude") {
			return "keys, or the settings of an agent, lie there"
		}
	}
	if within(h.Home, p) && strings.HasPrefix(parts[0], ".") && !(program && slices.ContainsFunc(programFolders, func(d string) bool { return within(d, rest) })) {
		return "settings lie there"
	}
	return ""
}

// Withholds says why a folder of programs is not granted for a program that
// lies in it, absolute and clean: it holds more than programs. "" is that
// nothing speaks against it.
func (h *Host) Withholds(folder string) (why string) { return h.never(folder, true) }

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

func badVariable(name string) string {
	if !variable.MatchString(name) {
		return "it is no name of a variable"
	}
	return ""
}

// programs grants the files that a command line runs: a script with the
// package that it belongs to, a program, a virtual environment. What an
// interpreter or a launcher of packages needs is not a matter of wrap.
func (g *granter) programs(argv []string, c command) {
	if name := argv[0]; strings.Contains(name, "/") && !interpreter.MatchString(filepath.Base(name)) {
		if at := g.locate(name, "the program"); at != "" && isFile(at) {
			g.program(at, true)
		}
	}
	if c.file > 0 {
		if at := g.locate(script(argv[c.file]), "the script"); at != "" && isFile(at) {
			g.program(at, false)
		}
	}
}

// script is an argument that names a script; one in the working folder needs
// no slash.
func script(arg string) string {
	if !strings.Contains(arg, "/") {
		return "./" + arg
	}
	return arg
}

// program grants a file that is run, with the least around it that it needs:
// the node_modules that it lies in, its virtual environment, the folder of
// its project; else itself alone.
func (g *granter) program(file string, execute bool) {
	around := packageFolder(file, g.Home)
	if around != file && g.grant(Mount{At: around, Execute: true, program: true}, "the folder of "+file) {
		return
	}
	g.grant(Mount{At: file, Execute: execute, program: true}, "the program")
}

// marks are files by which the folder of a project is known.
var marks = []string{"package.json", "deno.json", "pyproject.toml", "setup.py"}

func packageFolder(file, home string) string {
	if i := strings.Index(file, "/node_modules/"); i >= 0 {
		return file[:i+len("/node_modules")]
	}
	for dir := filepath.Dir(file); dir != "/" && !within(dir, home); dir = filepath.Dir(dir) {
		if isFile(filepath.Join(dir, "pyvenv.cfg")) {
			return dir
		}
		for _, m := range marks {
			if isFile(filepath.Join(dir, m)) {
				return dir
			}
		}
	}
	return file
}
