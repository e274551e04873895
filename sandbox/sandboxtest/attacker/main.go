// Attacker is the program that the escape corpus runs inside a sandbox. It
// makes one attempt of package attack, named by its first argument, on a
// victim that the test made, named by the others, and prints one line of JSON:
// what it tried, and whether it got through. Given "-" alone it reads many
// attempts from standard input. It refuses to run where it is not in a sandbox.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/casemate/casemate/internal/attack"
)

func main() {
	err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "attacker:", err)
		os.Exit(2)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "-":
		return attack.Serve(os.Stdin, os.Stdout)
	case len(args) == 0 || !attack.Known(args[0]):
		return fmt.Errorf("attacker VERB ARGUMENTS, or attacker -")
	}
	if err := attack.Inside(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(attack.Try(args[0], args[1:]...))
}
