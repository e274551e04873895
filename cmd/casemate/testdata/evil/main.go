// Evil stands for an interpreter that a repository brings: it leaves a file
// beside itself when it is run, and says that its prefix is all there is.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if self, err := os.Executable(); err == nil {
		os.WriteFile(filepath.Join(filepath.Dir(self), "RAN"), nil, 0o644)
	}
	fmt.Println(`{"version": "3.11.0", "paths": ["/root", "/home", "/"]}`)
}
