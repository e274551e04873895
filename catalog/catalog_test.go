package catalog

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

// folder is a fresh folder with the files named, by content.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		p := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(p, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// options of the operator, resolving what the manifest names.
func options() Options {
	return Options{Operator: true, ResolveMounts: true, Home: "/nonexistent-home",
		Getenv: func(k string) (string, bool) { return "value of " + k, !strings.HasPrefix(k, "UNSET") }}
}

func find(c *Config, name casemate.ToolName) *casemate.Tool {
	for _, t := range c.Tools {
		if t.Name == name {
			return t
		}
	}
	return nil
}

func TestStarterLoads(t *testing.T) {
	dir := folder(t, map[string]string{"casemate.yaml": string(Starter()), "work/": ""})
	c, err := Load(filepath.Join(dir, "casemate.yaml"), Options{ResolveMounts: true})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tool := range c.Tools {
		names = append(names, string(tool.Name))
	}
	if got := strings.Join(names, " "); got != "python read_file list_folder search_files count" {
		t.Errorf("tools %s", got)
	}
	if len(c.Unsupported)+len(c.Warnings) > 0 {
		t.Errorf("unsupported %v, warnings %v", c.Unsupported, c.Warnings)
	}
	for _, s := range c.Summary() {
		t.Log(s)
	}
}
