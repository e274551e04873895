package catalog

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casemate/casemate"
	"go.yaml.in/yaml/v3"
)

// A profile is a casemate.Profile and what only the manifest knows of it.
type profile struct {
	casemate.Profile
	stated []string // of each mount: the path as it is written
	passed []string // variables that are the caller's; sorted
	unset  []absent // of them, those that have no value
	timed  bool     // it states its timeout
	scoped bool     // it states its scope
	module string   // of a tool of run: wasm: the path as it is written
	beyond []string // what this version cannot enforce
	fix    string
}

// An absent is a variable that is to be passed on and is not set.
type absent struct {
	node     *yaml.Node
	at, name string
}

func (a absent) why() string {
	return fmt.Sprintf("%s is not set in the environment of casemate; set it, or give a value: env: {%s: …}", shown(a.name), a.name)
}

// complete adds the variables of p that are not set to the mistakes.
func (b *builder) complete(p *profile) {
	for _, a := range p.unset {
		b.add(a.node, a.at, "%s", a.why())
	}
}

// leave leaves the values of what p passes on to each session's caller.
func (p *profile) leave() {
	for _, name := range p.passed {
		delete(p.Env, name)
	}
	p.Pass, p.unset = p.passed, nil
}

func (p *profile) clone() *profile {
	q := *p
	q.Filesystem = slices.Clone(p.Filesystem)
	q.Env = maps.Clone(p.Env)
	return &q
}

// profile builds the profile at n; nil is the zero profile.
func (b *builder) profile(n *yaml.Node, at string) *profile {
	p := &profile{}
	if n == nil {
		p.Profile = p.WithDefaults()
		return p
	}
	p.Isolation = str(n, "isolation")
	p.Assurance = casemate.Assurance(str(n, "assurance"))
	if net := get(n, "network"); net != nil {
		if net.Kind == yaml.MappingNode {
			p.beyond, p.fix = append(p.beyond, "rules of the network"), "set security.network to none or loopback"
		} else {
			p.Network = casemate.Network(net.Value)
		}
	}
	if fs := get(n, "filesystem"); fs != nil && fs.Kind == yaml.SequenceNode {
		b.mounts(p, fs, at+".filesystem")
	}
	b.env(p, get(n, "env"), at+".env")
	if c := get(n, "cwd"); c != nil {
		if p.Cwd = c.Value; path.Clean(p.Cwd) != p.Cwd {
			b.add(c, at+".cwd", "%s is not a clean path; write %s", shown(p.Cwd), shown(path.Clean(p.Cwd)))
		}
	}
	p.Syscalls.Deny = texts(get(get(n, "syscalls"), "deny"))
	if r := get(n, "rate"); r != nil {
		p.Rate.PerDay = integerOf(get(r, "per_day"))
		p.Rate.PerSession = integerOf(get(r, "per_session"))
		if c := get(r, "calls"); c != nil {
			v, err := parseCalls(c.Value)
			if err != nil {
				b.add(c, at+".rate.calls", "%s is %v", shown(c.Value), err)
			}
			p.Rate.PerMinute = v
		}
	}
	if c := get(n, "cpu"); c != nil {
		p.CPU, _ = strconv.ParseFloat(c.Value, 64)
		if p.CPU < 0.001 {
			b.add(c, at+".cpu", "%s is too little; at least 0.001 cores", shown(c.Value))
		}
	}
	p.Memory = b.size(get(n, "memory"), at+".memory")
	p.Disk = b.size(get(n, "disk"), at+".disk")
	p.Output = b.size(get(n, "output"), at+".output")
	p.Processes = integerOf(get(n, "processes"))
	p.Timeout, p.timed = b.duration(get(n, "timeout"), at+".timeout"), get(n, "timeout") != nil
	p.Scope, p.scoped = casemate.Scope(str(n, "scope")), get(n, "scope") != nil
	p.Profile = p.WithDefaults()
	return p
}

func (b *builder) size(n *yaml.Node, at string) int64 {
	if n == nil {
		return 0
	}
	v, err := casemate.ParseSize(n.Value)
	if err != nil {
		b.add(n, at, "%s is %v", shown(n.Value), err)
	}
	return v
}

func (b *builder) duration(n *yaml.Node, at string) time.Duration {
	if n == nil {
		return 0
	}
	d, err := casemate.ParseDuration(n.Value)
	if err != nil {
		b.add(n, at, "%s: %v", shown(n.Value), err)
	}
	return d
}

// env resolves the environment: values as they are written, and names of the
// caller's variables.
func (b *builder) env(p *profile, n *yaml.Node, at string) {
	if n == nil || len(n.Content) == 0 {
		return
	}
	p.Env = map[string]string{}
	if n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			if why := loads(k.Value); why != "" {
				b.add(k, join(at, k.Value), "%s is refused: %s", shown(k.Value), why)
			}
			p.Env[k.Value] = v.Value
		}
		return
	}
	for i, k := range n.Content {
		at := fmt.Sprintf("%s[%d]", at, i)
		why := loads(k.Value)
		if why == "" {
			why = poisons(k.Value)
		}
		if why != "" {
			b.add(k, at, "%s is not passed on: %s", shown(k.Value), why)
			continue
		}
		p.passed = append(p.passed, k.Value)
		if b.opt.Getenv == nil {
			p.Env[k.Value] = ""
			continue
		}
		v, ok := b.opt.Getenv(k.Value)
		switch {
		case !ok:
			p.unset = append(p.unset, absent{k, at, k.Value})
			continue
		case strings.ContainsRune(v, 0):
			b.add(k, at, "the value of %s holds a NUL byte", shown(k.Value))
		}
		p.Env[k.Value] = v
	}
	slices.Sort(p.passed)
}

// loads says why a variable is refused even with a value in the manifest: it
// makes the loader or the shell run code before the tool's own (env-poison).
func loads(name string) string {
	switch {
	case strings.HasPrefix(name, "LD_"), name == "GLIBC_TUNABLES", name == "GCONV_PATH", name == "LOCPATH", name == "MALLOC_TRACE",
		name == "NLSPATH", name == "RES_OPTIONS", name == "HOSTALIASES", name == "GETCONF_DIR", name == "RESOLV_HOST_CONF":
		return "it changes what the dynamic loader or the C library loads"
	case name == "BASH_ENV", name == "ENV", name == "SHELLOPTS", name == "BASHOPTS", name == "IFS", name == "PS4", name == "PROMPT_COMMAND",
		strings.HasPrefix(name, "BASH_FUNC_"):
		return "a shell runs or splits by it"
	case name == "NODE_OPTIONS", name == "PYTHONINSPECT", name == "PYTHONSTARTUP", name == "PYTHONHOME", name == "JAVA_TOOL_OPTIONS", name == "_JAVA_OPTIONS", name == "JDK_JAVA_OPTIONS":
		return "an interpreter takes code or its own library from it"
	}
	return ""
}

// poisons says why a variable of the caller is not passed on: a value that
// was meant for the caller's own programs steers the tool's.
func poisons(name string) string {
	for _, prefix := range []string{"PYTHON", "NODE_", "NPM_CONFIG_", "npm_config_", "GIT_", "PERL", "RUBY", "GEM_", "BUNDLE_", "JAVA_", "CASEMATE_", "DYLD_"} {
		if strings.HasPrefix(name, prefix) {
			return "the caller's " + prefix + "… would steer the tool; give a value: env: {" + name + ": …}"
		}
	}
	switch name {
	case "PATH", "HOME", "PAGER", "MANPAGER", "LESSOPEN", "LESSCLOSE", "EDITOR", "VISUAL", "BROWSER", "CDPATH", "GLOBIGNORE", "SSH_ASKPASS", "SUDO_ASKPASS", "TERMINFO", "TERMCAP", "TMPDIR", "CLASSPATH":
		return "it names paths or programs of the host; give a value: env: {" + name + ": …}"
	case "SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "DOCKER_HOST", "XDG_RUNTIME_DIR":
		return "it leads to a service of the host, which a sandbox does not reach"
	}
	return ""
}
