// Program is what the suite runs on every backend, the same source as a static
// program and as a WASI module: it does what its first argument says, and prints
// what came of it.
package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

var verbs = map[string]func(args []string) error{
	"args": args, "stdin": stdin, "exit": exit, "print": printBytes, "both": both, "env": environ, "cat": cat, "write": write, "list": list,
	"dial": dial, "spin": spin, "grow": grow, "random": random, "panic": fault, "cwd": cwd,
}

func main() {
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "program VERB ARGUMENTS")
		os.Exit(64)
	}
	if err := verbs[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func args(a []string) error {
	for _, s := range a {
		fmt.Println(strconv.Quote(s))
	}
	return nil
}

// stdin says how much came, and what: in pieces, so that it holds no more than
// one of them.
func stdin([]string) error {
	h := sha256.New()
	n, err := io.Copy(h, os.Stdin)
	fmt.Println(n, hex.EncodeToString(h.Sum(nil)))
	return err
}

func exit(a []string) error {
	n, err := strconv.Atoi(a[0])
	if err == nil {
		os.Exit(n)
	}
	return err
}

func printBytes(a []string) error {
	n, err := strconv.Atoi(a[0])
	b := []byte(strings.Repeat("x", 1<<16))
	for ; n > 0 && err == nil; n -= len(b) {
		_, err = os.Stdout.Write(b[:min(n, len(b))])
	}
	return err
}

func both(a []string) error {
	fmt.Println("out", a[0])
	fmt.Fprintln(os.Stderr, "err", a[0])
	return nil
}

func environ([]string) error {
	all := os.Environ()
	slices.Sort(all)
	for _, s := range all {
		fmt.Println(s)
	}
	return nil
}

func cat(a []string) error {
	var bad error
	for _, f := range a {
		b, err := os.ReadFile(f)
		os.Stdout.Write(b)
		bad = errors.Join(bad, err)
	}
	return bad
}

func write(a []string) error {
	for i := 0; i+1 < len(a); i += 2 {
		if err := os.WriteFile(a[i], []byte(a[i+1]), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func list(a []string) error {
	es, err := os.ReadDir(a[0])
	for _, e := range es {
		fmt.Println(e.Name())
	}
	return err
}

func dial(a []string) error {
	c, err := net.DialTimeout(a[0], a[1], 2*time.Second)
	if err != nil {
		return err
	}
	c.Close()
	fmt.Println("reached", a[1])
	return nil
}

// spin says that it begins, and never ends.
func spin([]string) error {
	fmt.Println("spinning")
	for n := 0; ; n++ {
		if n < 0 {
			return errors.New("a counter ended")
		}
	}
}

// grow touches so many MiB, and says when it has.
func grow(a []string) error {
	n, err := strconv.Atoi(a[0])
	if err != nil || n > 2048 {
		return errors.New("how much?")
	}
	var keep [][]byte
	for range n {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		keep = append(keep, b)
	}
	fmt.Println("grew", len(keep))
	return nil
}

// random is what the system gives, and what a program draws for itself.
func random([]string) error {
	b := make([]byte, 16)
	_, err := rand.Read(b)
	fmt.Println(hex.EncodeToString(b))
	return err
}

func fault([]string) error { panic("as asked") }

func cwd([]string) error {
	dir, err := os.Getwd()
	fmt.Println(dir)
	return err
}
