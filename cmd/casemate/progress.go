package main

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// plural is a count of things.
func plural(n int, what string) string {
	if n != 1 {
		what += map[bool]string{true: "es", false: "s"}[strings.HasSuffix(what, "x")]
	}
	return fmt.Sprintf("%d %s", n, what)
}

// progress tells a person at a terminal what takes long, from the second
// second on, until the function that it returns is called.
func (c *console) progress(what string) (stop func()) {
	if !c.errTTY {
		return func() {}
	}
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		began, shown := time.Now(), false
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			select {
			case <-done:
				if shown {
					fmt.Fprint(c.err, "\r\x1b[K")
				}
				return
			case <-t.C:
				shown = true
				fmt.Fprintf(c.err, "\r\x1b[Kcasemate: %s, %d s (Ctrl-C ends it)", escapeLine(what), int(time.Since(began).Seconds()))
			}
		}
	}()
	return sync.OnceFunc(func() { close(done); <-gone })
}
