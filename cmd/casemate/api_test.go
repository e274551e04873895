package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/casemate/casemate/catalog"
	"github.com/casemate/casemate/internal/testenv"
)

const (
	testToken  = "a-token-of-the-test-0123456789"
	otherToken = "a-token-of-another-caller-0123"
)

const shellTool = `
  - name: shell
    parameters: {type: object, properties: {command: {type: string}}, required: [command]}
    run: {shell: {}}
    security: {network: none, timeout: 60s}
  - name: kept
    parameters: {type: object, properties: {command: {type: string}}, required: [command]}
    run: {shell: {}}
    security: {network: none, filesystem: temp, timeout: 60s, scope: session}
`

// An apiServer is a casemate serve that is reached through a unix socket.
type apiServer struct {
	*serving
	socket string
	client *http.Client
}

func (p *place) api(more ...string) *apiServer {
	p.t.Helper()
	a := &apiServer{socket: filepath.Join(p.dir, "run", "api.sock")}
	a.serving = p.serve(append([]string{"--listen", "unix:" + a.socket}, more...)...)
	a.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", a.socket)
	}}}
	p.t.Cleanup(a.client.CloseIdleConnections)
	eventually(p.t, "it listens", func() bool { return strings.Contains(a.said.String(), a.socket) })
	return a
}

// do sends one request, with a token where there is one, and returns the
// status and the body.
func (a *apiServer) do(ctx context.Context, method, path, body, token string) (int, string) {
	a.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := a.client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

// call runs a tool, and returns the status of the answer and what it printed.
func (a *apiServer) call(body string) (status, text string) {
	a.t.Helper()
	_, got := a.do(a.t.Context(), "POST", "/v1/calls", body, "")
	var out struct {
		Status string
		Result struct{ Content []struct{ Text string } }
	}
	if err := json.Unmarshal([]byte(got), &out); err != nil {
		a.t.Fatalf("%s: %v", got, err)
	}
	for _, c := range out.Result.Content {
		text += c.Text
	}
	return out.Status, text
}

func (p *place) withCallers() {
	p.env = append(p.env, "CASEMATE_TOKEN="+testToken)
	sum := sha256.Sum256([]byte(otherToken))
	p.t.Helper()
	host := "version: 1\nhost: {callers: {other: {token_sha256: " + hex.EncodeToString(sum[:]) + ", tools: [\"ke*\"], contexts: {none: {tools: [shell]}}}}}\ntools:"
	if err := os.WriteFile(filepath.Join(p.dir, "casemate.yaml"), []byte(host+shellTool), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// TestUnixSocket: only its user reaches it, without a token; it is gone when
// the server is, and both listeners reach the same sessions.
func TestUnixSocket(t *testing.T) {
	p := newPlace(t, shellTool)
	p.withCallers()
	a := p.api("--listen", "127.0.0.1:0")
	if fi, err := os.Lstat(a.socket); err != nil || fi.Mode() != os.ModeSocket|0o600 {
		t.Fatal(fi.Mode(), err)
	}
	if status, text := a.call(`{"tool":"kept","session":"s","arguments":{"command":"echo hi > /tmp/x; cat /tmp/x"}}`); status != "done" || text != "hi\n" {
		t.Errorf("%s %q", status, text)
	}
	for token, want := range map[string]int{"": 200, testToken: 200, otherToken: 200, "wrong-token-0123456789": 401} {
		if code, body := a.do(t.Context(), "GET", "/v1/tools", "", token); code != want || token == otherToken && strings.Contains(body, "shell") {
			t.Errorf("%q: %d %s", token, code, body)
		}
	}
	_, said, _ := strings.Cut(a.said.String(), "http://127.0.0.1:")
	port, _, _ := strings.Cut(said, "/")
	r, _ := http.NewRequest("GET", "http://127.0.0.1:"+port+"/v1/sessions/s", nil)
	for token, want := range map[string]int{"": 401, testToken: 200, otherToken: 410} {
		r.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(r)
		if err != nil || res.StatusCode != want {
			t.Errorf("by TCP with %q: %v %v", token, res, err)
		}
	}
	if b := p.serve("--listen", "unix:"+a.socket); b.ends(testWait) != 1 || !strings.Contains(b.said.String(), "another process serves this socket") {
		t.Errorf("a socket that is served was taken: %s", b.said)
	}
	a.cmd.Process.Signal(syscall.SIGTERM)
	if code := a.ends(testWait); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if _, err := os.Lstat(a.socket); err == nil {
		t.Error("the socket is still there")
	}
}

// TestNamesAfterARestart: what a caller named before is gone.
func TestNamesAfterARestart(t *testing.T) {
	p := newPlace(t, shellTool)
	a := p.api()
	a.call(`{"tool":"kept","session":"before","arguments":{"command":"true"}}`)
	_, made := a.do(t.Context(), "POST", "/v1/sessions", "{}", "")
	var s struct{ ID string }
	if err := json.Unmarshal([]byte(made), &s); err != nil {
		t.Fatal(err)
	}
	a.cmd.Process.Kill() // without an end in order the socket is left
	<-a.exited
	if _, err := os.Lstat(a.socket); err != nil {
		t.Fatal(err)
	}
	b := p.api()
	for session, want := range map[string]string{"before": "gone", s.ID: "gone", "after": "done"} {
		if status, _ := b.call(fmt.Sprintf(`{"tool":"kept","session":%q,"arguments":{"command":"true"}}`, session)); status != want {
			t.Errorf("%s: %s, want %s", session, status, want)
		}
	}
	if log := p.run("log", "--json"); !strings.Contains(log, `"event":"session"`) || strings.Contains(log, "before") {
		t.Errorf("%s", log)
	}
	if log := p.run("log"); !strings.Contains(log, "session") {
		t.Errorf("%s", log)
	}
}

// TestBackgroundCommand: a command is spoken to while it runs, with its whole
// family it is killed, and nothing of it is left.
func TestBackgroundCommand(t *testing.T) {
	a := newPlace(t, shellTool).api()
	begin := func(command string) string {
		code, body := a.do(t.Context(), "POST", "/v1/calls", fmt.Sprintf(`{"tool":"shell","background":true,"stdin":true,"arguments":{"command":%q}}`, command), "")
		var v struct{ Call string }
		if err := json.Unmarshal([]byte(body), &v); err != nil || code != 202 {
			t.Fatalf("%d %s", code, body)
		}
		return "/v1/calls/" + v.Call
	}
	at := begin(`trap 'echo caught; exit 7' TERM; read line; echo "got $line" >&2; while :; do sleep 0.05; done`)
	events := make(chan string, 100)
	go func() {
		defer close(events)
		res, err := a.client.Get("http://localhost" + at + "/output")
		if err != nil {
			return
		}
		defer res.Body.Close()
		for in := bufio.NewScanner(res.Body); in.Scan(); {
			events <- in.Text()
		}
	}()
	until := func(what string) string {
		t.Helper()
		for end := time.After(testWait); ; {
			select {
			case line, ok := <-events:
				if strings.Contains(line, what) {
					return line
				}
				if !ok {
					t.Fatalf("the stream ended before %q", what)
				}
			case <-end:
				t.Fatalf("no %q within %v", what, testWait)
			}
		}
	}
	if code, body := a.do(t.Context(), "POST", at+"/stdin", "some words\n", ""); code != 200 {
		t.Fatal(code, body)
	}
	until("event: stderr")
	until("got some words")
	if code, body := a.do(t.Context(), "POST", at+"/signal", `{"signal":"TERM"}`, ""); code != 202 {
		t.Fatal(code, body)
	}
	until("caught")
	if line := until(`"status"`); !strings.Contains(line, `"exitCode":7`) {
		t.Error(line)
	}

	at = begin("sleep 61 & setsid sleep 62 & echo ready; wait")
	sleepers := func(all map[string]string) (n int) {
		for _, name := range all {
			if strings.Contains(name, "sleep 61") || strings.Contains(name, "sleep 62") {
				n++
			}
		}
		return n
	}
	eventually(t, "it runs", func() bool { return sleepers(family(a.cmd.Process.Pid)) >= 2 })
	all := family(a.cmd.Process.Pid)
	if code, body := a.do(t.Context(), "DELETE", at, "", ""); code != 200 || !strings.Contains(body, `"status":"cancelled"`) {
		t.Errorf("%d %s", code, body)
	}
	for _, left := range alive(all) {
		if strings.Contains(left, "sleep 6") {
			t.Errorf("left: %s", left)
		}
	}

	// A client that hangs up ends its call.
	ctx, hangUp := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		a.do(ctx, "POST", "/v1/calls", `{"tool":"shell","arguments":{"command":"sleep 61 & sleep 62"}}`, "")
		close(over)
	}()
	eventually(t, "it runs", func() bool { return sleepers(family(a.cmd.Process.Pid)) >= 2 })
	hangUp()
	<-over
	eventually(t, "it is gone", func() bool { return sleepers(family(a.cmd.Process.Pid)) == 0 })
}

// TestFilesOfASession moves bytes in and out of a real guest.
func TestFilesOfASession(t *testing.T) {
	a := newPlace(t, shellTool).api()
	big := strings.Repeat("0123456789abcde\xff", 3<<16)
	const at = "/v1/sessions/s/files"
	if code, body := a.do(t.Context(), "PUT", at+"?path=in/big", big, ""); code != 200 {
		t.Fatal(code, body)
	}
	if status, text := a.call(`{"tool":"kept","session":"s","arguments":{"command":"wc -c < in/big; cp in/big /tmp/copy; mkdir -p d; ls"}}`); status != "done" || !strings.HasPrefix(text, fmt.Sprint(len(big))) {
		t.Errorf("%s %q", status, text)
	}
	if code, got := a.do(t.Context(), "GET", at+"?path=/tmp/copy", "", ""); code != 200 || got != big {
		t.Errorf("%d, %d bytes", code, len(got))
	}
	for _, c := range []struct {
		method, query, has string
		want               int
	}{
		{"GET", "?path=nope", "file_not_found", 404},
		{"GET", "?path=d", "is_directory", 409},
		{"GET", "?path=d&list=1", `"entries":[]`, 200},
		{"GET", "?path=in&list=1", `"name":"big","kind":"file","size":` + fmt.Sprint(len(big)), 200},
		{"GET", "?path=in/big/x", "not_a_directory", 409},
		{"PUT", "?path=/etc/x", "", 403},
		{"GET", "?path=/etc/shadow", "", 0},
		{"DELETE", "?path=in/big", "done", 200},
		{"GET", "?path=in/big&stat=1", "file_not_found", 404},
	} {
		code, got := a.do(t.Context(), c.method, at+c.query, "", "")
		if c.want != 0 && code != c.want || c.want == 0 && code == 200 || !strings.Contains(got, c.has) {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.query, code, got, c.want, c.has)
		}
	}
	code, got := a.do(t.Context(), "POST", at, fmt.Sprintf(`{"files":[{"path":"m/one","data":%q},{"path":"/proc/x","data":""},{"path":"m/one","op":"read"}]}`, base64.StdEncoding.EncodeToString([]byte("one"))), "")
	if code != 200 || strings.Count(got, `"error"`) != 1 || !strings.Contains(got, `"data":"b25l"`) {
		t.Errorf("%d %s", code, got)
	}
}

func TestListenUnix(t *testing.T) {
	dir := t.TempDir()
	open, shut, file := filepath.Join(dir, "open"), filepath.Join(dir, "shut"), filepath.Join(dir, "file")
	for _, err := range []error{os.Mkdir(open, 0o700), os.Chmod(open, 0o777|os.ModeSticky), os.Mkdir(shut, 0o700), os.WriteFile(file, nil, 0o600), os.Symlink(open, filepath.Join(dir, "link"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"":                         "names no file",
		"/":                        "names no file",
		open + "/s":                "written by others",
		dir + "/link/s":            "written by others",
		dir + "/nope/s":            "no such file",
		file:                       "no socket lies there",
		file + "/s":                "not a folder",
		shut:                       "no socket lies there",
		shut + "/s":                "",
		shut + "/../shut/relative": "",
	} {
		l, remove, err := listenUnix(path)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
		if err == nil {
			l.Close()
			os.Remove(path)
			os.WriteFile(path, nil, 0o600)
			remove()
			if _, err := os.Lstat(path); err != nil {
				t.Error("what another put there was removed")
			}
		}
	}
}

// TestStrangersAtTheSocket: whoever is neither its user nor root gets no byte.
func TestStrangersAtTheSocket(t *testing.T) {
	testenv.AsUser(t, func(t *testing.T) {
		for uid, want := range map[int]string{os.Geteuid(): "hello", os.Geteuid() + 1: ""} {
			u, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l := &ownListener{u, uid}
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					io.WriteString(c, "hello")
					c.Close()
				}
			}()
			c, err := net.Dial("unix", u.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(testWait))
			b, err := io.ReadAll(c)
			if string(b) != want || err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("as one of %d: %q %v", uid, b, err)
			}
			c.Close()
			l.Close()
		}
	})
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		f := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(f, []byte(text), mode), os.Chmod(f, mode)); err != nil {
			t.Fatal(err)
		}
		return f
	}
	sum := sha256.Sum256([]byte(testToken))
	got, err := credentials(map[string]catalog.Caller{
		"b": {TokenFile: write("good", testToken+"\n", 0o600), Tools: []string{}},
		"a": {SHA256: strings.Repeat("0", 64), Contexts: map[string][]string{"c": {"x"}}},
	})
	if err != nil || len(got) != 2 || got[0].Name != "a" || !got[0].All() || got[1].SHA256 != hex.EncodeToString(sum[:]) || got[1].May("x") {
		t.Errorf("%+v %v", got, err)
	}
	for _, f := range []string{write("open", testToken, 0o644), write("short", "x", 0o600), write("empty", "", 0o600), filepath.Join(dir, "nope"), dir} {
		if _, err := credentials(map[string]catalog.Caller{"a": {TokenFile: f}}); err == nil || strings.Contains(err.Error(), testToken) {
			t.Errorf("%s: %v", f, err)
		}
	}
}
