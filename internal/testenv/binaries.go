package testenv

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// The environment of a test that runs as an ordinary user.
const (
	envBinaries = "CASEMATE_TEST_BINARIES" // the folder that root's run built
	envUser     = "CASEMATE_TEST_USER"     // set in the user's run
)

const module = "github.com/casemate/casemate"

// Built are the three real binaries, of one build and in one folder that
// everyone may read.
type Built struct{ Dir, Casemate, Init, Wasm string }

// run is the state of one test process, made by Main. Tests of a package
// share its build, which nothing but a package variable can carry to them.
var run struct {
	dir   string
	build func() (Built, error)
}

// Main runs the tests of a package and removes what Binaries built. It
// returns the exit status.
func Main(m *testing.M) int {
	if os.Getenv(envBinaries) != "" || os.Getenv(envUser) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "casemate-testenv-")
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	run.dir = dir
	run.build = sync.OnceValues(func() (Built, error) { return build(filepath.Join(dir, "bin")) })
	return m.Run()
}

// Binaries builds casemate and casemate-init as `make build` does, once in a
// test process. It blocks while the compiler runs. A test that goes on as a
// user calls it before AsUser: the user gets what root built.
func Binaries(t testing.TB) Built {
	t.Helper()
	if dir := os.Getenv(envBinaries); dir != "" {
		return builtIn(dir)
	}
	if run.build == nil {
		t.Fatal("TestMain of this package does not call testenv.Main")
	}
	b, err := run.build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Program builds a package of this module, named from its root, as a static
// program alone in a folder that everyone may read, and returns the folder.
// It too is called before AsUser.
func Program(t testing.TB, pkg string) string {
	t.Helper()
	return filepath.Dir(alone(t, pkg, filepath.Base(pkg)))
}

// Module builds the same as a WASI module, and returns its path.
func Module(t testing.TB, pkg string) string {
	t.Helper()
	return alone(t, pkg, filepath.Base(pkg)+".wasm", "GOOS=wasip1", "GOARCH=wasm")
}

// alone builds a package in a folder that holds nothing else.
func alone(t testing.TB, pkg, name string, env ...string) string {
	t.Helper()
	file := filepath.Join(Binaries(t).Dir, name+".d", name)
	if exists(file) {
		return file
	}
	err := os.Mkdir(filepath.Dir(file), 0o755)
	if err == nil {
		err = compile(file, module+"/"+pkg, "", env...)
	}
	if err == nil {
		err = os.Chmod(filepath.Dir(file), 0o755) // whatever the umask is
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func builtIn(dir string) Built {
	return Built{dir, filepath.Join(dir, "casemate"), filepath.Join(dir, "casemate-init"), filepath.Join(dir, "casemate-wasm")}
}

// build compiles the command last: it holds the digests of the others.
func build(dir string) (Built, error) {
	b := builtIn(dir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return b, err
	}
	flags := ""
	for _, other := range []struct{ path, pkg, digest string }{{b.Init, "/cmd/casemate-init", "initDigest"}, {b.Wasm, "/cmd/casemate-wasm", "wasmDigest"}} {
		if err := compile(other.path, module+other.pkg, ""); err != nil {
			return b, err
		}
		text, err := os.ReadFile(other.path)
		if err != nil {
			return b, err
		}
		sum := sha256.Sum256(text)
		flags += " -X main." + other.digest + "=" + hex.EncodeToString(sum[:])
	}
	if err := compile(b.Casemate, module+"/cmd/casemate", flags); err != nil {
		return b, err
	}
	return b, os.Chmod(dir, 0o755) // whatever the umask is
}

func compile(out, pkg, flags string, env ...string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", out, pkg)
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	text, err := cmd.CombinedOutput()
	if err != nil {
		return errors.New("go build " + pkg + ": " + err.Error() + "\n" + string(text))
	}
	return os.Chmod(out, 0o755)
}
