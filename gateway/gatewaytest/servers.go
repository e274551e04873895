package gatewaytest

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/router"
)

// A Server is an MCP server that runs as a process, confined by nothing.
type Server struct {
	Name    string
	Prefix  string // of its tools' names
	Command []string
	Mounts  []casemate.Mount

	Sampling, Elicitation bool
}

// NewServers makes a router of MCP servers, whose tools are approved as they
// list them now, beside Tools.
func NewServers(t testing.TB, servers ...Server) (*router.Router, *Backend) {
	t.Helper()
	r, b := New(t)
	tools := Tools()
	for _, s := range servers {
		tools = append(tools, base(s, nil))
	}
	if err := r.Reload(tools, nil); err != nil {
		t.Fatal(err)
	}
	tools = Tools()
	for _, s := range servers {
		tools = append(tools, List(t, r, s)...)
	}
	if err := r.Reload(tools, nil); err != nil {
		t.Fatal(err)
	}
	return r, b
}

func base(s Server, initialized json.RawMessage) *casemate.Tool {
	return &casemate.Tool{Name: casemate.ToolName(s.Name), Parameters: json.RawMessage(`{"type":"object"}`),
		Run:      casemate.Run{MCP: &casemate.MCP{Server: s.Name, Command: s.Command, Listed: initialized, Sampling: s.Sampling, Elicitation: s.Elicitation}},
		Security: casemate.Profile{Scope: casemate.ScopeSession, Filesystem: s.Mounts, Output: 64 << 20}}
}

// List returns the server itself and its tools, as it lists them now.
func List(t testing.TB, r *router.Router, s Server) []*casemate.Tool {
	t.Helper()
	o := r.Call(context.Background(), casemate.Call{Tool: casemate.ToolName(s.Name), Method: "casemate/listing", Arguments: json.RawMessage(`{}`)})
	if o.Error != nil {
		t.Fatalf("list %s: %v", s.Name, o.Error)
	}
	var l struct {
		Initialize json.RawMessage
		Tools      []json.RawMessage
	}
	if err := json.Unmarshal(o.Result.Raw, &l); err != nil {
		t.Fatal(err)
	}
	b := base(s, l.Initialize)
	out := []*casemate.Tool{b}
	for _, raw := range l.Tools {
		var x struct {
			Name, Description string
			InputSchema       json.RawMessage
		}
		if err := json.Unmarshal(raw, &x); err != nil {
			t.Fatal(err)
		}
		m := *b.Run.MCP
		m.Tool, m.Listed = x.Name, raw
		out = append(out, &casemate.Tool{Name: casemate.ToolName(s.Prefix + x.Name), Description: x.Description, Parameters: x.InputSchema, Run: casemate.Run{MCP: &m}, Security: b.Security})
	}
	return out
}

// serve runs the command of an MCP server behind the frames of a guest.
func serve(pipe net.Conn, command []string) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return
	}
	if cmd.Start() != nil {
		return
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	in := bufio.NewReader(pipe)
	open, err := guest.Read(in, guest.MaxCall)
	if err != nil || open.Type != guest.Open {
		return
	}
	go func() {
		defer pipe.Close() // ends the loop below
		buf := make([]byte, 64<<10)
		for {
			n, err := stdout.Read(buf)
			if n > 0 && guest.Write(pipe, guest.Frame{Type: guest.Stdout, Call: open.Call, Body: buf[:n]}) != nil || err != nil {
				break
			}
		}
		guest.Write(pipe, guest.Frame{Type: guest.Done, Call: open.Call, Body: make([]byte, 4)})
	}()
	for {
		f, err := guest.Read(in, guest.MaxCall)
		if err != nil || f.Type != guest.Stdin {
			return
		}
		if len(f.Body) == 0 {
			stdin.Close()
			continue
		}
		if _, err := stdin.Write(f.Body); err != nil && err != io.ErrClosedPipe {
			return
		}
		taken := binary.BigEndian.AppendUint32(nil, uint32(len(f.Body)))
		if guest.Write(pipe, guest.Frame{Type: guest.Taken, Call: f.Call, Body: taken}) != nil {
			return
		}
	}
}
