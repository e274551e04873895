package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
)

// What a terminal is told. The other screen keeps what the user had on this
// one; a frame is written over the one before, line by line, so that nothing
// flickers.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	toTop       = "\x1b[H"
	endOfLine   = "\x1b[K"
	restOfIt    = "\x1b[J"
)

// watchPool draws the pools each second until the user has seen enough, and
// gives the terminal back as it was.
func (a *app) watchPool(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	t := a.terminal(false)
	t.own = t.screen // keys come one by one
	if err := t.raw(); err != nil {
		return err
	}
	defer t.restore()
	if _, err := os.Stdout.WriteString(enterScreen); err != nil {
		return err
	}
	defer os.Stdout.WriteString(leaveScreen)
	enough := make(chan struct{})
	if t.screen {
		go keys(enough)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		v, err := lookAtPools(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if _, err := os.Stdout.WriteString(a.frame(v, err)); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-resized:
		case <-enough:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// keys closes enough at q, Ctrl-C, Ctrl-D, or where there are no more keys.
func keys(enough chan<- struct{}) {
	defer close(enough)
	var b [64]byte
	for {
		n, err := os.Stdin.Read(b[:])
		if err != nil || strings.ContainsAny(string(b[:n]), "qQ\x03\x04") {
			return
		}
	}
}

// frame is the whole screen at one moment.
func (a *app) frame(v poolView, failed error) string {
	width, height := a.screen()
	s := sheet{width: width, height: max(height-2, 1), bars: true, ascii: !utf8Locale(os.Getenv), now: time.Now()}
	lines := []string{v.headline(s.now, width), ""}
	switch {
	case failed != nil:
		lines = append(lines, fitted(escapeLine(failed.Error()), width))
		s.height--
		fallthrough
	case v.servers > 0:
		lines = append(lines, v.lines(s)...)
	default:
		lines = append(lines, fitted(noServer, width))
	}
	if height > 0 {
		lines = lines[:min(len(lines), height)]
	}
	return toTop + strings.Join(lines, endOfLine+"\r\n") + endOfLine + restOfIt
}

func (v poolView) headline(now time.Time, width int) string {
	parked, busy := 0, 0
	var bytes int64
	for _, p := range v.pools {
		parked, busy, bytes = parked+p.Parked, busy+p.Busy, bytes+p.Bytes
	}
	s := fmt.Sprintf("casemate pool  %s  %s: %d parked (%s), %d busy, %s in flight", now.Format("15:04:05"), plural(v.servers, "server"), parked, size(bytes), busy, plural(len(v.calls), "call"))
	if end := "q ends"; columnsOf(s)+2+len(end) <= width {
		s += strings.Repeat(" ", width-columnsOf(s)-len(end)) + end
	}
	return fitted(s, width)
}

// screen is the size of the terminal at standard output, or what one has.
func (c *console) screen() (width, height int) {
	w, h, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil || w <= 0 || h <= 0 {
		return 80, 24
	}
	return w, h
}

// utf8Locale says whether the terminal is said to show more than ASCII.
func utf8Locale(getenv func(string) string) bool {
	for _, k := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(getenv(k)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}
