package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/sandbox/process"
)

// question returns the function that asks an interpreter about itself. It
// runs as the guest of a spawner and a router of its own, in a sandbox that
// holds the interpreter's folder, read-only, and nothing else of the host's:
// what is found on PATH may be a repository's.
func (a *app) question(init string, l *loaded) func(context.Context, string, interpreter) (said, error) {
	return func(ctx context.Context, language string, i interpreter) (said, error) {
		t := &casemate.Tool{
			Name:       "interpreter",
			Parameters: json.RawMessage(`{"type":"object","additionalProperties":false}`),
			Run:        casemate.Run{Exec: &casemate.Exec{Command: append([]string{i.Path}, questions[language]...)}},
			Security:   casemate.Profile{Processes: 32, Disk: 16 << 20, Timeout: 20 * time.Second, Output: 64 << 10}.WithDefaults(),
		}
		g, err := process.Compile(t, process.Options{Prefixes: i.Folders})
		if err != nil {
			return said{}, err
		}
		o, err := a.alone(ctx, init, l, t, g, "questions.jsonl")
		if err != nil {
			return said{}, err
		}
		text := ""
		if o.Result != nil {
			for _, c := range o.Result.Content {
				text += c.Text
			}
		}
		if o.Error != nil {
			err := remote(o.Error)
			if text != "" {
				err = fmt.Errorf("%w: %.300s", err, strings.TrimSpace(text))
			}
			return said{}, err
		}
		var s said
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return said{}, errors.New("its answer makes no sense")
		}
		return s, nil
	}
}

// version is what a program says when it is asked for its --version, in a sandbox
// that has it and nothing else of the host's: what lies on PATH may be a tool's.
func (b *backends) version(ctx context.Context, path string) (string, error) {
	const at = "/program"
	t := &casemate.Tool{
		Name:       "version",
		Parameters: json.RawMessage(`{"type":"object","additionalProperties":false}`),
		Run:        casemate.Run{Exec: &casemate.Exec{Command: []string{at, "--version"}}},
		Security: casemate.Profile{
			Filesystem: []casemate.Mount{{Path: path, At: at, Access: casemate.Read, Execute: true}},
			Processes:  32, Disk: 16 << 20, Timeout: 5 * time.Second, Output: 4 << 10,
		}.WithDefaults(),
	}
	g, err := process.Compile(t, process.Options{})
	if err != nil {
		return "", err
	}
	o, err := b.alone(ctx, b.init, b.lenient(), t, g, "questions.jsonl")
	if err == nil && o.Error != nil {
		err = remote(o.Error)
	}
	if err != nil || o.Result == nil || len(o.Result.Content) == 0 {
		return "", &casemate.Error{Op: "version", Kind: casemate.Unsupported, Err: fmt.Errorf("%s does not say its version: %v", path, err), Fix: "install it anew, or take it away"}
	}
	return o.Result.Content[0].Text, nil
}
