package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
)

// serverLogFolder, in the state folder, holds a log for each MCP server: what
// it prints on standard error, and what of its output was skipped. The router
// has no files, so that it says such lines on its own standard error, after
// serverMark and the server's name, and the operator's process writes them.
const (
	serverLogFolder = "servers"
	serverMark      = "\x01server "

	maxServerLine  = 3 << 10 // bytes; with its mark it is written at once
	maxServerLogs  = 256     // files
	serverLogLines = 1000    // in ten seconds, of all servers
	routerLines    = 100     // in ten seconds, of the router itself
)

// serverLog is how a router says what servers print, to w. What w has no room
// for is dropped: nobody waits for a log.
func serverLog(w io.Writer) func(casemate.ToolName, casemate.SessionID, string) {
	lines := make(chan string, 256)
	go func() {
		for l := range lines {
			io.WriteString(w, l)
		}
	}()
	return func(server casemate.ToolName, _ casemate.SessionID, line string) {
		if len(line) > maxServerLine {
			line = line[:maxServerLine] + "…"
		}
		select {
		case lines <- fmt.Sprintf("%s%s: %s\n", serverMark, server, strings.ReplaceAll(line, "\n", " ")):
		default:
		}
	}
}

// relay hands on what a router says, escaped and bounded: it may be hijacked
// and standard error may be a terminal, or a log on a disk.
func relay(r io.ReadCloser, c *console, logs *serverLogs) {
	defer r.Close()
	defer logs.close()
	b := bufio.NewReaderSize(r, 4096)
	since, lines, ofServers, cut := time.Now(), 0, 0, false
	for {
		raw, more, err := b.ReadLine()
		if err != nil {
			return
		}
		if time.Since(since) > 10*time.Second {
			since, lines, ofServers = time.Now(), 0, 0
		}
		line := string(raw)
		if text, ok := strings.CutPrefix(line, serverMark); ok && !cut {
			server, text, _ := strings.Cut(text, ": ")
			if ofServers++; ofServers == serverLogLines {
				text = "says too much; the rest of ten seconds is dropped"
			}
			if ofServers <= serverLogLines {
				logs.write(server, text)
			}
			cut = more
			continue
		}
		if lines++; lines == routerLines {
			c.note("router: says too much; the rest of ten seconds is dropped")
		}
		if lines < routerLines && !cut {
			c.note("router: %s", line)
		}
		cut = more // the rest of a line that is too long
	}
}

// serverLogs are the logs of a router's servers; a log that cannot be written
// is done without.
type serverLogs struct {
	dir   string
	files map[string]*os.File
}

func (l *serverLogs) write(server, line string) {
	f := l.files[server]
	if f == nil {
		if !serverFile(server) || len(l.files) >= maxServerLogs || os.MkdirAll(l.dir, 0o700) != nil {
			return
		}
		var err error
		f, err = os.OpenFile(filepath.Join(l.dir, server+".log"), os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return
		}
		if l.files == nil {
			l.files = map[string]*os.File{}
		}
		l.files[server] = f
	}
	fmt.Fprintf(f, "%s %s\n", time.Now().Format(time.DateTime), escapeLine(line))
	trimLog(f)
}

func (l *serverLogs) close() {
	for _, f := range l.files {
		f.Close()
	}
}

// serverFile says whether a server's name, which a router said, is one that the
// configuration can give.
func serverFile(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == ""
}
