package casemate_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/casemate/casemate/catalog"
)

// TestManifestNamesEveryKey: a key that the schema has and docs/manifest.md
// has not is one that nobody finds.
func TestManifestNamesEveryKey(t *testing.T) {
	var schema any
	if err := json.Unmarshal([]byte(read(t, "schema/casemate.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	manual := map[string]bool{}
	for _, code := range regexp.MustCompile("`[^`\n]+`").FindAllString(read(t, "docs/manifest.md"), -1) {
		for _, word := range regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`).FindAllString(code, -1) {
			manual[word] = true
		}
	}
	keys := keysOf(schema)
	if len(keys) < 50 {
		t.Fatalf("the schema has %d keys: it was not read", len(keys))
	}
	for _, k := range keys {
		if !manual[k] {
			t.Errorf("docs/manifest.md does not name the key %s", k)
		}
	}
}

// keysOf returns the names of all properties of a schema.
func keysOf(schema any) (out []string) {
	switch s := schema.(type) {
	case []any:
		for _, v := range s {
			out = append(out, keysOf(v)...)
		}
	case map[string]any:
		for k, v := range s {
			if props, ok := v.(map[string]any); ok && k == "properties" {
				for name := range props {
					out = append(out, name)
				}
			}
			out = append(out, keysOf(v)...)
		}
	}
	return out
}

// TestManualNamesEveryCommand asks the program itself what it has.
func TestManualNamesEveryCommand(t *testing.T) {
	help, err := exec.Command("go", "run", "./cmd/casemate", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(help), "Available Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	text := ""
	for _, name := range manuals(t) {
		if name != "docs/cli.md" { // the help itself
			text += read(t, name)
		}
	}
	n := 0
	for line := range strings.Lines(list) {
		name := strings.Fields(line)[0]
		if n++; !regexp.MustCompile(`casemate ` + name + `\b`).MatchString(text) {
			t.Errorf("no manual names casemate %s", name)
		}
	}
	if n < 10 {
		t.Fatalf("help lists %d commands: it was not read", n)
	}
}

// TestExamples: what we hand out loads here, and all of it can be had.
func TestExamples(t *testing.T) {
	files, _ := filepath.Glob("examples/*/casemate.yaml")
	if len(files) < 3 {
		t.Fatalf("%d examples", len(files))
	}
	for _, f := range files {
		c, err := catalog.Parse(f, []byte(read(t, f)), catalog.Options{ResolveMounts: true})
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		if len(c.Tools) == 0 || len(c.Unsupported) > 0 || len(c.Warnings) > 0 {
			t.Errorf("%s: %d tools, %v, %v", f, len(c.Tools), c.Unsupported, c.Warnings)
		}
	}
}

// TestConfigurationsInManuals: a reader copies them.
func TestConfigurationsInManuals(t *testing.T) {
	n := 0
	for _, name := range manuals(t) {
		for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(read(t, name), -1) {
			if !strings.Contains(m[1], "version: 1\n") {
				continue
			}
			n++
			_, err := catalog.Parse(name, []byte(m[1]), catalog.Options{Operator: true, Home: "/home/user"})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if n < 4 {
		t.Fatalf("%d configurations were found", n)
	}
}

// TestLinksOfManuals: those to files of the repository lead somewhere.
func TestLinksOfManuals(t *testing.T) {
	for _, name := range manuals(t) {
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`).FindAllStringSubmatch(read(t, name), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func manuals(t *testing.T) []string {
	docs, _ := filepath.Glob("docs/*.md")
	if len(docs) < 5 {
		t.Fatalf("%d manuals", len(docs))
	}
	return append(docs, "README.md")
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
