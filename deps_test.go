package casemate

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/casemate/casemate"

// A rule says what the packages that match may import beside the standard
// library: packages of this module as "./name", of others by their path.
// Patterns are those of path.Match; one that ends in "/..." holds beneath too.
type rule struct {
	pkg string
	may []string
	why string
}

const (
	unixPackage = "golang.org/x/sys/unix"
	jsonSchema  = "github.com/santhosh-tekuri/jsonschema/v6/..."
)

// rules are tried in their order; the first that matches holds.
var rules = []rule{
	{".", nil, "the root is the vocabulary: whoever embeds Casemate gets nothing else with it"},
	{"./catalog", []string{".", "./internal/plan", "./internal/nearest", "go.yaml.in/yaml/v3", jsonSchema, unixPackage}, "the catalog reads manifests and knows no backend and no router"},
	{"./catalog/packages", []string{".", "./internal/nearest"}, "command lines of package runners and trees of packages are read as data"},
	{"./image", []string{".", unixPackage, "github.com/google/go-containerregistry/...", "github.com/klauspost/compress/..."}, "images are hostile data: they are unpacked by what knows nothing but them"},
	{"./pool", []string{"."}, "a pool parks sandboxes of any backend"},
	{"./upstream", []string{".", "./internal/guest", "./internal/jsontext"}, "an MCP server's client speaks over a guest's pipe and knows no router"},
	{"./wrap", []string{".", "./internal/nearest", "go.yaml.in/yaml/v3", unixPackage}, "wrap edits the text of other programs' configurations and starts nothing"},
	{"./router", []string{".", "./pool", "./upstream", "./internal/guest", "./internal/nearest", jsonSchema}, "the router decides and holds no privilege: a backend reaches it as an interface"},
	{"./gateway/gatewaytest", []string{".", "./router", "./internal/guest"}, "a suite for gateways drives a real router"},
	{"./gateway/mcp", []string{".", "./router", "./gateway", "./internal/jsontext", "github.com/modelcontextprotocol/go-sdk/..."}, "one package alone knows the MCP SDK"},
	{"./gateway/metrics", []string{".", "./router", "./gateway", "./pool"}, "the page of metrics shows what the router and its pool count"},
	{"./gateway/...", []string{".", "./router", "./gateway"}, "a front end hands on to the router and calls nothing beside it"},
	{"./sandbox/sandboxtest", []string{".", "./internal/*", unixPackage}, "the suite runs on every backend and knows none"},
	{"./sandbox/sandboxtest/attacker", []string{"./internal/attack"}, "the attacker is a guest: it knows nothing of Casemate"},
	{"./internal/attack", []string{unixPackage}, "the attacker is a guest: it knows nothing of Casemate"},
	{"./sandbox/*", []string{".", "./internal/*", unixPackage}, "a backend knows no other backend, and no router"},
	{"./internal/testenv", nil, "what tests stand on must not depend on what they test"},
	{"./internal/*", []string{"./internal/*", unixPackage}, "internal packages are beneath the vocabulary, and most are part of the small init"},
	{"./internal/matrix/speed", []string{"./internal/bench"}, "it drives the built command, and knows nothing of its inside"},
	{"./builtin/*", []string{"./internal/guest", "./internal/plan", unixPackage}, "a built-in tool runs inside the sandbox: it is part of the small init"},
	{"./runners", []string{"./builtin/*", "./internal/guest", "./internal/plan", "./internal/wasm", unixPackage}, "runners run inside the sandbox: they are part of the small init"},
	{"./cmd/casemate-init", []string{"./internal/*", "./runners", "./builtin/*", unixPackage}, "the init is small, and knows no catalog, no router and no gateway"},
	{"./cmd/casemate-wasm", []string{"./internal/guest", "./internal/plan", "./internal/wasm", "github.com/tetratelabs/wazero/...", "github.com/aperturerobotics/go-quickjs-wasi-reactor", unixPackage}, "one program alone knows the engine of WebAssembly; it runs inside a sandbox, and is not the init"},
	{"./cmd/casemate", []string{".", "./...", unixPackage, "golang.org/x/term", "github.com/spf13/cobra"}, "the command line is the only place where parts are wired together; what it needs of others, they import"},
}

// only names packages whose importers are these alone.
var only = []rule{
	{"./sandbox/process", []string{"./cmd/casemate"}, "cmd/casemate is the only importer of concrete backends"},
	{"./sandbox/oci", []string{"./cmd/casemate"}, "cmd/casemate is the only importer of concrete backends"},
	{"./sandbox/gvisor", []string{"./cmd/casemate"}, "cmd/casemate is the only importer of concrete backends"},
	{"./internal/testenv", []string{"./sandbox/sandboxtest"}, "only tests may import it, and what only tests import"},
	{"./gateway/gatewaytest", nil, "only tests may import it"},
	{"./sandbox/sandboxtest", nil, "only tests may import it"},
	{"./internal/attack", []string{"./cmd/casemate", "./sandbox/sandboxtest", "./sandbox/sandboxtest/attacker"}, "attacks are for demo, probe and tests alone"},
}

// initMayNot lists what the closure of casemate-init may not hold, and why.
var initMayNot = []rule{
	{"net", nil, "the spawner holds no network"},
	{"net/...", nil, "the spawner holds no network"},
	{"crypto/tls", nil, "the spawner holds no network"},
	{"crypto/x509", nil, "the spawner holds no network"},
	{"encoding/json", nil, "the spawner parses one small binary form only"},
	{"encoding/xml", nil, "the spawner parses one small binary form only"},
	{"encoding/gob", nil, "the spawner parses one small binary form only"},
	{"fmt", nil, "fmt is reflection over values that a guest may choose; use strconv"},
	{"text/...", nil, "templates call methods by name"},
	{"html/...", nil, "templates call methods by name"},
	{"regexp", nil, "patterns cost time that their input chooses"},
	{"os/exec", nil, "os/exec searches PATH; the init starts what its plan names"},
	{"os/user", nil, "os/user asks the host's name services"},
	{"log", nil, "log imports fmt"},
	{"log/...", nil, "log imports fmt"},
	{"math/big", nil, "math/big imports fmt; crypto/rand brings it, getrandom does not"},
	{"plugin", nil, "nothing is loaded at run time"},
}

// matches says whether a pattern holds for an import path in short form.
func matches(pattern, pkg string) bool {
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == base || strings.HasPrefix(pkg, base+"/")
	}
	ok, err := path.Match(pattern, pkg)
	return ok && err == nil
}

func anyMatches(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, pkg) })
}

// short writes the module as ".".
func short(pkg string) string {
	if pkg == module {
		return "."
	}
	if rest, ok := strings.CutPrefix(pkg, module+"/"); ok {
		return "./" + rest
	}
	return pkg
}

// judge returns why a package may not import another, or "".
func judge(pkg, imported string, standard bool) string {
	for _, r := range only {
		if imported == r.pkg && !anyMatches(r.may, pkg) {
			return r.why
		}
	}
	if standard {
		return ""
	}
	for _, r := range rules {
		if matches(r.pkg, pkg) {
			if anyMatches(r.may, imported) {
				return ""
			}
			return r.why
		}
	}
	return "no rule of deps_test.go covers it: write one, with its reason"
}

// judgeInit returns why the closure of casemate-init may not hold a package.
func judgeInit(imported string, standard bool) string {
	for _, r := range initMayNot {
		if matches(r.pkg, imported) {
			return r.why
		}
	}
	if !standard && imported != unixPackage && !strings.HasPrefix(imported, ".") {
		return "the init has no third-party code but x/sys/unix"
	}
	return ""
}

type goPackage struct {
	ImportPath string
	Imports    []string
	Standard   bool
	DepOnly    bool
}

func list(t *testing.T, patterns ...string) map[string]goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-e", "-deps", "-json=ImportPath,Imports,Standard,DepOnly"}, patterns...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	all := map[string]goPackage{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
}

func TestImports(t *testing.T) {
	all := list(t, "./...")
	for _, p := range all {
		if p.DepOnly {
			continue
		}
		for _, i := range p.Imports {
			if why := judge(short(p.ImportPath), short(i), all[i].Standard || i == "unsafe"); why != "" {
				t.Errorf("%s imports %s: %s", short(p.ImportPath), short(i), why)
			}
		}
	}
}

func TestInitIsSmall(t *testing.T) {
	all := list(t, "./cmd/casemate-init")
	for _, p := range all {
		if why := judgeInit(short(p.ImportPath), p.Standard); why != "" {
			t.Errorf("casemate-init holds %s: %s\n\t%s", short(p.ImportPath), why, chain(all, module+"/cmd/casemate-init", p.ImportPath))
		}
	}
}

// chain is the shortest way by which one package imports another.
func chain(all map[string]goPackage, from, to string) string {
	came := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at == to {
			way := short(at)
			for at = came[at]; at != ""; at = came[at] {
				way = short(at) + " → " + way
			}
			return way
		}
		for _, i := range all[at].Imports {
			if _, seen := came[i]; !seen {
				came[i] = at
				queue = append(queue, i)
			}
		}
	}
	return "by no import that go list shows"
}

// rawCall is a name that makes a system call by its number.
var rawCall = regexp.MustCompile(`^(Raw)?(Syscall(6|9|NoError)?|VforkSyscall)$|^AllThreadsSyscall6?$`)

// judgeSource returns what one file does that its place does not allow.
func judgeSource(name string, src any) ([]string, error) {
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, name, src, 0)
	if err != nil {
		return nil, err
	}
	test := strings.HasSuffix(name, "_test.go")
	// The attacker is a guest, which makes what calls it likes.
	linux := path.Dir(name) == "internal/linux" || path.Dir(name) == "internal/attack"
	var bad []string
	names := map[string]bool{} // by which syscall and unix are known here
	for _, i := range f.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return nil, err
		}
		local := path.Base(p)
		if i.Name != nil {
			local = i.Name.Name
		}
		switch p {
		case "C":
			bad = append(bad, "imports C: Casemate is built without cgo")
		case "unsafe":
			if base := strings.TrimSuffix(strings.TrimSuffix(name, ".go"), "_test"); !strings.HasSuffix(base, "_unsafe") {
				bad = append(bad, "imports unsafe: only files named *_unsafe.go may")
			} else if !linux && !test {
				bad = append(bad, "imports unsafe: only internal/linux may")
			}
		case "syscall", unixPackage:
			names[local] = true
			if local == "." {
				bad = append(bad, "imports "+p+" by the name .")
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := s.X.(*ast.Ident); ok && names[x.Name] && rawCall.MatchString(s.Sel.Name) && !linux && !test {
			bad = append(bad, x.Name+"."+s.Sel.Name+": only internal/linux makes system calls by number")
		}
		return true
	})
	return bad, nil
}

func TestUnsafeAndRawSystemCalls(t *testing.T) {
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != "." && (base == "testdata" || base == "bin" || base == "node_modules" || strings.HasPrefix(base, ".")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		bad, err := judgeSource(name, nil)
		for _, b := range bad {
			t.Errorf("%s %s", name, b)
		}
		if errors.Is(err, fs.ErrNotExist) { // an editor's
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The rules themselves: what each must let through, and what it must not.
func TestJudges(t *testing.T) {
	for _, c := range []struct {
		pkg, imported string
		allowed       bool
	}{
		{".", "./catalog", false},
		{".", unixPackage, false},
		{"./catalog", ".", true},
		{"./catalog", "./router", false},
		{"./pool", "./sandbox/process", false},
		{"./pool", "./internal/guest", false},
		{"./router", "./internal/guest", true},
		{"./router", "./internal/linux", false},
		{"./router", "./catalog", false},
		{"./gateway/api", "github.com/modelcontextprotocol/go-sdk/mcp", false},
		{"./gateway/mcp", "github.com/modelcontextprotocol/go-sdk/mcp", true},
		{"./gateway", "./gateway/mcp", false},
		{"./gateway/mcp", "./sandbox/process", false},
		{"./sandbox/process", "./sandbox/none", false},
		{"./sandbox/process", "./internal/spawn", true},
		{"./sandbox/oci", "./internal/contain", true},
		{"./sandbox/oci", "./sandbox/process", false},
		{"./sandbox/process", "./sandbox/oci", false},
		{"./router", "./sandbox/oci", false},
		{"./sandbox/process", "./router", false},
		{"./internal/spawner", ".", false},
		{"./internal/spawner", "./runners", false},
		{"./internal/spawner", "github.com/spf13/cobra", false},
		{"./internal/plan", "./internal/testenv", false},
		{"./runners", "./internal/plan", true},
		{"./runners", ".", false},
		{"./cmd/casemate-init", "./internal/spawner", true},
		{"./cmd/casemate-init", "./catalog", false},
		{"./cmd/casemate", "./sandbox/process", true},
		{"./cmd/casemate", "./sandbox/sandboxtest", false},
		{"./cmd/casemate", "go.yaml.in/yaml/v3", false},
		{"./surprise", ".", false},
	} {
		if why := judge(c.pkg, c.imported, false); (why == "") != c.allowed {
			t.Errorf("%s imports %s: %q", c.pkg, c.imported, why)
		}
	}
	for _, p := range []string{"net", "net/http", "fmt", "text/template", "html", "log/slog", "encoding/json", "os/exec", "github.com/spf13/cobra", "golang.org/x/term"} {
		if judgeInit(p, !strings.Contains(p, ".")) == "" {
			t.Errorf("the init may hold %s", p)
		}
	}
	for _, p := range []string{"os", "internal/fmtsort", "netip", "crypto/sha256", "./internal/plan", unixPackage} {
		if why := judgeInit(p, !strings.Contains(p, ".")); why != "" {
			t.Errorf("the init may not hold %s: %s", p, why)
		}
	}
	for _, c := range []struct {
		name, src string
		allowed   bool
	}{
		{"router/a.go", `package a; import "unsafe"; var _ unsafe.Pointer`, false},
		{"router/a_unsafe.go", `package a; import "unsafe"; var _ unsafe.Pointer`, false},
		{"internal/linux/a.go", `package a; import "unsafe"; var _ unsafe.Pointer`, false},
		{"internal/linux/a_unsafe.go", `package a; import "unsafe"; var _ unsafe.Pointer`, true},
		{"internal/linux/a_unsafe.go", `package a; import "golang.org/x/sys/unix"; var _ = unix.Syscall6`, true},
		{"internal/spawn/a.go", `package a; import "golang.org/x/sys/unix"; var _ = unix.Syscall6`, false},
		{"internal/spawn/a.go", `package a; import s "syscall"; var _ = s.RawSyscall`, false},
		{"internal/spawn/a.go", `package a; import . "syscall"; var _ = RawSyscall`, false},
		{"internal/spawn/a.go", `package a; import "syscall"; var _ = syscall.SyscallN`, true},
		{"internal/spawn/a.go", `package a; import "golang.org/x/sys/unix"; var _ = unix.Mount`, true},
		{"internal/spawn/a_test.go", `package a; import "syscall"; var _ = syscall.RawSyscall`, true},
		{"internal/spawn/a_test.go", `package a; import "unsafe"; var _ unsafe.Pointer`, false},
		{"internal/spawn/a_unsafe_test.go", `package a; import "unsafe"; var _ unsafe.Pointer`, true},
		{"internal/attack/kernel.go", `package attack; import "syscall"; var _ = syscall.RawSyscall`, true},
		{"sandbox/sandboxtest/a.go", `package a; import "syscall"; var _ = syscall.RawSyscall`, false},
		{"router/a.go", `package a; import "C"`, false},
	} {
		bad, err := judgeSource(c.name, c.src)
		if err != nil || (len(bad) == 0) != c.allowed {
			t.Errorf("%s %s: %v %v", c.name, c.src, bad, err)
		}
	}
}
