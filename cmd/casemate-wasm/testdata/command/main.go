// Command does what its first argument says, and is a module of WASI.
package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

func main() {
	switch os.Args[1] {
	case "echo":
		b, _ := io.ReadAll(os.Stdin)
		json.NewEncoder(os.Stdout).Encode(map[string]any{"args": os.Args[2:], "stdin": string(b), "env": os.Environ()})
		fmt.Fprintln(os.Stderr, "said")
	case "exit":
		os.Exit(7)
	case "panic":
		panic("asked to")
	case "grow":
		var kept [][]byte
		for {
			b := make([]byte, 16<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			kept = append(kept, b)
			fmt.Println(len(kept) * 16)
		}
	case "hold": // as many MiB as fit in half of what it may have
		b := make([]byte, 64<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
	case "chance":
		r := make([]byte, 16)
		rand.Read(r)
		begin := time.Now()
		time.Sleep(time.Millisecond)
		fmt.Printf("%x %v %v\n", r, begin.UTC(), time.Since(begin))
	case "reach":
		_, e1 := net.Dial("tcp", "127.0.0.1:80")
		_, e2 := os.ReadFile("/etc/passwd")
		_, e3 := os.ReadFile("/proc/self/mem")
		es, _ := os.ReadDir("/")
		fmt.Println(e1 != nil, e2 != nil, e3 != nil, len(es))
	case "files":
		files(os.Args[2])
	}
}

// files attacks the folder that it is given: each line is what an attempt gave.
func files(at string) {
	say := func(what string, err error) { fmt.Println(what, err == nil) }
	read := func(name string) {
		b, err := os.ReadFile(name)
		fmt.Println("read", name[len(at):], string(b), err == nil)
	}
	read(at + "/inside")
	read(at + "/link")     // in the folder, and leads to inside
	read(at + "/escape")   // a link to a file outside, absolute
	read(at + "/relative") // the same, relative
	read(at + "/folder/passwd")
	read(at + "/../secret")
	say("write", os.WriteFile(at+"/new", []byte("new"), 0o644))
	say("write through", os.WriteFile(at+"/escape", []byte("changed"), 0o644))
	say("write in", os.WriteFile(at+"/folder/planted", []byte("x"), 0o644))
	say("plant", os.Symlink("../secret", at+"/planted"))
	read(at + "/planted")
	say("rename out", os.Rename(at+"/new", at+"/../new"))
	f, err := os.OpenFile(at+"/log", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		f.WriteString("a")
		f.Close()
		f, err = os.OpenFile(at+"/log", os.O_APPEND|os.O_WRONLY, 0o644)
	}
	if err == nil {
		_, err = f.WriteString("b")
	}
	say("append", err)
	read(at + "/log")
	say("folder", os.Mkdir(at+"/sub", 0o755))
	say("unlink folder", os.Remove(at+"/sub"))
	say("fifo", func() error { _, err := os.Open(at + "/fifo"); return err }())
	es, err := os.ReadDir(at)
	fmt.Println("list", len(es), err == nil)
}
