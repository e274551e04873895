package wrap

import (
	"bytes"
	_ "embed"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed servers.yaml
var serversFile []byte

// A known server is what servers.yaml says of one.
type known struct {
	Purpose  string            `yaml:"purpose"`
	Paths    string            `yaml:"paths"`     // what its arguments that are paths are: read (the default) or write
	Options  map[string]string `yaml:"options"`   // of an option: read or write, where it differs
	EnvPaths map[string]string `yaml:"env_paths"` // variables whose values are paths: read or write
	Bins     []string          `yaml:"bins"`      // other names of its program
	Module   string            `yaml:"module"`    // of python -m
	Network  string            `yaml:"network"`   // what it needs the network for; "": nothing
	Remote   bool              `yaml:"remote"`    // it is a door to a server elsewhere
	Programs []string          `yaml:"programs"`  // that it runs
	Memory   string            `yaml:"memory"`
	Timeout  string            `yaml:"timeout"`
	Procs    int               `yaml:"processes"`
	Note     string            `yaml:"note"`
}

// catalogue reads servers.yaml.
func catalogue() (map[string]*known, error) {
	var f struct {
		Servers map[string]*known `yaml:"servers"`
	}
	d := yaml.NewDecoder(bytes.NewReader(serversFile))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("servers.yaml: %w", err)
	}
	return f.Servers, nil
}

// A command is a server's argv, understood.
type command struct {
	pkg   string // of npm or PyPI, without its version; "" where there is none
	own   int    // index of the first argument that the server itself gets
	file  int    // index of the script that an interpreter is to run; 0: none
	known *known
}

// launchers are the programs that fetch a package and run it. Each of takes
// has a value as the next argument.
var launchers = []struct {
	words []string
	takes []string
	pkg   []string // options that name the package, the positional being a program of it
}{
	{[]string{"npx"}, []string{"-w", "--workspace", "--registry", "--cache", "--userconfig"}, []string{"-p", "--package"}},
	{[]string{"bunx"}, nil, []string{"-p", "--package"}},
	{[]string{"npm", "exec"}, []string{"-w", "--workspace", "--registry"}, []string{"--package"}},
	{[]string{"pnpm", "dlx"}, nil, []string{"--package"}},
	{[]string{"yarn", "dlx"}, nil, []string{"-p", "--package"}},
	{[]string{"bun", "x"}, nil, []string{"-p", "--package"}},
	{[]string{"uvx"}, uvTakes, []string{"--from"}},
	{[]string{"uv", "tool", "run"}, uvTakes, []string{"--from"}},
	{[]string{"uv", "run"}, uvTakes, nil},
	{[]string{"pipx", "run"}, []string{"--python", "--pip-args", "--index-url"}, []string{"--spec"}},
}

var uvTakes = []string{"--python", "-p", "--with", "--with-editable", "--with-requirements", "--index", "--index-url", "-i", "--extra-index-url", "--default-index", "--directory", "--project", "--extra", "--group", "--env-file", "--package", "--config-file", "--cache-dir"}

var interpreter = regexp.MustCompile(`^(?:python[0-9.]*|pypy[0-9.]*|node|nodejs|deno|bun|tsx|ts-node|ruby|perl|php|bash|sh|zsh|dash)$`)

// understand says what argv starts.
func understand(argv []string, all map[string]*known) command {
	c := command{own: 1}
	base := filepath.Base(argv[0])
	for _, l := range launchers {
		if base == l.words[0] && len(argv) > len(l.words) && slices.Equal(argv[1:len(l.words)], l.words[1:]) {
			c.launch(argv, len(l.words), l.takes, l.pkg)
			c.known = lookup(all, c.pkg, "")
			return c
		}
	}
	if interpreter.MatchString(base) {
		c.interpret(argv, strings.HasPrefix(base, "py"))
		if c.pkg == "" && c.file > 0 {
			c.pkg = packageOf(argv[c.file])
		}
		name := ""
		if c.file > 0 {
			name = filepath.Base(argv[c.file])
		}
		c.known = lookup(all, c.pkg, name)
		return c
	}
	c.pkg = packageOf(argv[0])
	c.known = lookup(all, c.pkg, base)
	return c
}

// launch finds the package and where its own arguments begin.
func (c *command) launch(argv []string, i int, takes, pkg []string) {
	for ; i < len(argv); i++ {
		a := argv[i]
		name, value, joined := strings.Cut(a, "=")
		switch {
		case a == "--":
			continue
		case slices.Contains(pkg, name):
			if !joined && i+1 < len(argv) {
				i++
				value = argv[i]
			}
			c.pkg = bare(value)
		case slices.Contains(takes, name):
			if !joined {
				i++
			}
		case strings.HasPrefix(a, "-"):
		default:
			if c.pkg == "" {
				c.pkg = bare(a)
			}
			c.own = i + 1
			return
		}
	}
	c.own = len(argv)
}

// interpret finds the script or module of an interpreter's command line.
func (c *command) interpret(argv []string, python bool) {
	for i := 1; i < len(argv); i++ {
		switch a := argv[i]; {
		case python && a == "-m" && i+1 < len(argv):
			c.pkg, c.own = strings.ReplaceAll(argv[i+1], "_", "-"), i+2
			return
		case a == "-c" || a == "-e" || a == "--eval":
			c.own = min(i+2, len(argv))
			return
		case a == "-r" || a == "--require" || a == "--import" || python && (a == "-W" || a == "-X"):
			i++
		case a == "run": // deno run, bun run
		case strings.HasPrefix(a, "-"):
		default:
			c.file, c.own = i, i+1
			return
		}
	}
	c.own = len(argv)
}

// bare is a package without its version and extras.
func bare(spec string) string {
	if strings.HasPrefix(spec, "@") {
		if i := strings.IndexByte(spec[1:], '@'); i >= 0 {
			spec = spec[:i+1]
		}
		return spec
	}
	if i := strings.IndexAny(spec, "@[=<>!~; "); i >= 0 {
		spec = spec[:i]
	}
	return spec
}

// packageOf is the npm package whose installed file p is.
func packageOf(p string) string {
	parts := strings.Split(filepath.ToSlash(p), "/")
	for i := len(parts) - 2; i >= 0; i-- {
		if parts[i] != "node_modules" {
			continue
		}
		if strings.HasPrefix(parts[i+1], "@") && i+2 < len(parts) {
			return path.Join(parts[i+1], parts[i+2])
		}
		if parts[i+1] != ".bin" {
			return parts[i+1]
		}
	}
	return ""
}

// lookup finds a server by its package, or by the name of its program.
func lookup(all map[string]*known, pkg, bin string) *known {
	if k := all[pkg]; k != nil {
		return k
	}
	for name, k := range all {
		if bin != "" && (bin == name || slices.Contains(k.Bins, bin)) || pkg != "" && strings.ReplaceAll(k.Module, "_", "-") == pkg {
			return k
		}
	}
	return nil
}

// cannotWrap says why a command line is left alone.
func cannotWrap(argv []string) string {
	base := filepath.Base(argv[0])
	switch base {
	case "docker", "podman", "nerdctl":
		return "it asks " + base + " for a container, and a sandbox does not reach the service that makes them; run the server itself, by npx, uvx or its program"
	case "sudo", "doas", "pkexec", "su":
		return "it asks " + base + " for more rights, which no sandbox gives"
	case "ssh":
		return "it runs on another machine"
	case "wsl", "wsl.exe", "cmd", "cmd.exe", "powershell", "powershell.exe":
		return "it is a command of Windows"
	}
	return ""
}
