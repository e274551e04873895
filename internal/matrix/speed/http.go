package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"syscall"
	"time"
)

// http starts a command that serves streamable HTTP.
func (w *way) http(cmd *exec.Cmd, port string) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr, cmd.Stdout = nil, nil
	stdin, err := cmd.StdinPipe() // some end with it
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	w.ends = append(w.ends, func() { stdin.Close(); syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); cmd.Wait() })
	session := ""
	w.ask = func(request []byte, answer io.Writer) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "POST", "http://127.0.0.1:"+port+"/mcp", bytes.NewReader(request))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		if session != "" {
			req.Header.Set("Mcp-Session-Id", session)
			req.Header.Set("Mcp-Protocol-Version", "2025-06-18")
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if s := res.Header.Get("Mcp-Session-Id"); s != "" {
			session = s
		}
		_, err = io.Copy(answer, res.Body)
		if err == nil && res.StatusCode/100 != 2 {
			err = errors.New(res.Status)
		}
		return err
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		err = w.call("initialize", initialize, io.Discard)
		if err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		return err
	}
	return w.ask([]byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`), io.Discard)
}

func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "0"
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
