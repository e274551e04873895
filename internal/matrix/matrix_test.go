package matrix

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// all says that every server and client is asked for, and not those alone that
// belong to every test run.
func all() bool { return os.Getenv("CASEMATE_MATRIX") == "all" }

// registry says whether packages can be had here.
func registry() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "npm", "ping").CombinedOutput(); err != nil {
		return fmt.Errorf("npm ping: %v: %.200s", err, out)
	}
	return nil
}

// cache is a folder of the checkout that git ignores: what was prepared once
// is there for the next run.
func cache(t *testing.T, names ...string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join(append([]string{"..", "..", ".cache"}, names...)...))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A row is one line of docs/compatibility.md.
type row struct{ name, ordinary, danger, split string }

// version is the first version in a command: that of the server itself.
var version = regexp.MustCompile(`[^"]+(?:@|==)([0-9][^"]*)"`)

func TestServers(t *testing.T) {
	testenv.Require(t, "registry", registry())
	built := testenv.Binaries(t)
	var rows []row
	for _, s := range servers() {
		if !s.always && !all() {
			continue
		}
		r := row{name: s.name + " " + version.FindStringSubmatch(s.command)[1], ordinary: "none", danger: "none", split: "–"}
		t.Run(s.name, func(t *testing.T) {
			p := newPlace(t, s, built.Casemate)
			c := p.connect(t, ordinary)
			if s.ordinary.tool != "" {
				text := c.call(t, s.ordinary.tool, p.fill(s.ordinary.args))
				if !regexp.MustCompile(s.ordinary.want).MatchString(text) {
					t.Errorf("%s does not work: %s", s.ordinary.tool, text)
				}
				r.ordinary = "`" + s.ordinary.tool + "` works"
			} else {
				r.ordinary = s.why
			}
			if s.danger.tool != "" {
				text := c.call(t, s.danger.tool, p.fill(s.danger.args))
				p.unharmed(t, text)
				r.danger = "`" + s.danger.tool + "` " + s.danger.what + ": held"
			} else {
				r.danger = s.why
			}
			c.close(t)
			if s.split != nil {
				c := p.connect(t, divided)
				r.split = p.splits(t, c)
				c.close(t)
			}
			// The control: granted what it goes for, the same call does its harm. No
			// profile grants the network of the host.
			if s.danger.tool != "" && !strings.Contains(fmt.Sprint(s.danger.args, s.command, s.files), "%PORT%") {
				c := p.connect(t, granted)
				text := c.call(t, s.danger.tool, p.fill(s.danger.args))
				c.close(t)
				if p.harm(t, text) == "" {
					t.Errorf("%s would do no harm in any case: %s", s.danger.tool, text)
				}
			}
			if !t.Failed() {
				rows = append(rows, r)
			}
		})
	}
	if len(rows) == len(servers()) {
		write(t, "servers", rows)
	}
}
