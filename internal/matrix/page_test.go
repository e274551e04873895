package matrix

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write puts one table of docs/compatibility.md between its marks; every row of
// it was run and went well.
func write(t *testing.T, table string, rows []row) {
	t.Helper()
	if !all() {
		return
	}
	path := filepath.Join("..", "..", "docs", "compatibility.md")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+table+" -->\n", "<!-- end of "+table+" -->\n"
	head, rest, ok1 := strings.Cut(string(b), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for %s", path, table)
	}
	var s strings.Builder
	switch table {
	case "servers":
		s.WriteString("| server | an ordinary call | a dangerous one | `split: per-tool` |\n|---|---|---|---|\n")
		for _, r := range rows {
			fmt.Fprintf(&s, "| %s | %s | %s | %s |\n", r.name, r.ordinary, r.danger, r.split)
		}
	default:
		s.WriteString("| client | how | what it did |\n|---|---|---|\n")
		for _, r := range rows {
			fmt.Fprintf(&s, "| %s | %s | %s |\n", r.name, r.ordinary, r.danger)
		}
	}
	if err := os.WriteFile(path, []byte(head+begin+s.String()+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}
