package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/casemate/casemate/internal/testenv"
)

// helpers are what the test binary is when a test starts it as something
// else than tests.
var helpers = map[string]func() int{"router": attackFromTheRouter, "unpacker": attackFromTheUnpacker, "stranger": stranger, "impostor": impostor}

func TestMain(m *testing.M) {
	if who := os.Getenv("CASEMATE_TEST_AS"); who != "" {
		os.Exit(helpers[who]())
	}
	os.Exit(testenv.Main(m))
}

// scriptEnv is the environment of a test that runs the command: folders of
// its own, and no more of this process's than programs need.
func scriptEnv(t testing.TB, work string) []string {
	return []string{
		// The real binaries: the command starts itself and casemate-init, so
		// that a test binary cannot stand in for it.
		"PATH=" + testenv.Binaries(t).Dir + ":/usr/local/bin:/usr/bin:/bin",
		"HOME=" + filepath.Join(work, "home"),
		"XDG_STATE_HOME=" + filepath.Join(work, "state"),
		"XDG_CONFIG_HOME=" + filepath.Join(work, "config"),
		"XDG_RUNTIME_DIR=" + filepath.Join(work, "run"),
		"TMPDIR=" + filepath.Join(work, "tmp"),
		"LANG=C.UTF-8",
	}
}

func makeFolders(work string) error {
	for _, d := range []string{"home", "run", "tmp"} {
		if err := os.MkdirAll(filepath.Join(work, d), 0o700); err != nil {
			return err
		}
	}
	return nil
}

func TestScripts(t *testing.T) {
	testenv.Binaries(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			for _, kv := range scriptEnv(t, e.WorkDir) {
				k, v, _ := strings.Cut(kv, "=")
				e.Setenv(k, v)
			}
			return makeFolders(e.WorkDir)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exit": exitCmd},
	})
}

// exitCmd is "exit N COMMAND ARG…": the command ends with that very status.
func exitCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit N COMMAND ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		e, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = e.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}
