package matrix

import (
	"archive/zip"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const canary = "CANARY-5b1e"

// A place is where one server runs: its folder, a folder outside it with a key,
// and a service of the host's loopback.
type place struct {
	server   server
	casemate string
	dir      string // of the configuration, its lock and the store
	data     string
	outside  string
	port     string
	hits     atomic.Int64
}

func newPlace(t *testing.T, s server, casemate string) *place {
	t.Helper()
	// What was approved of a server is approved for how it is run.
	how := fmt.Sprintf("%x", sha256.Sum256([]byte(s.command+s.env)))[:8]
	name := regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(s.name), "-")
	p := &place{server: s, casemate: casemate, dir: cache(t, "matrix", name+"-"+how)}
	p.data, p.outside = filepath.Join(p.dir, "data"), filepath.Join(p.dir, "outside")
	for _, d := range []string{p.data, p.outside} {
		if err := os.RemoveAll(d); err != nil {
			t.Fatal(err)
		}
		repository(t, filepath.Join(d, "repo"))
	}
	p.write(t, filepath.Join(p.data, "a.txt"), "alpha\n")
	p.write(t, filepath.Join(p.outside, "key"), canary+"\n")
	p.write(t, filepath.Join(p.data, "a.xlsx"), workbook(t, "alpha"))
	p.write(t, filepath.Join(p.outside, "key.xlsx"), workbook(t, canary))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.hits.Add(1)
			c.Close()
		}
	}()
	_, p.port, _ = net.SplitHostPort(l.Addr().String())
	for name, text := range s.files {
		p.write(t, filepath.Join(p.data, name), p.fill(text))
	}
	return p
}

// repository makes a git repository whose one commit says "first" and CANARY.
func repository(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q"}, {"-c", "user.name=n", "-c", "user.email=e@example.com", "commit", "-q", "--allow-empty", "-m", "first " + canary}} {
		if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
}

// workbook is the least that is one: a sheet "s" with a text in its first cell.
func workbook(t *testing.T, text string) string {
	t.Helper()
	const office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, part := range [][2]string{
		{"[Content_Types].xml", `<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>`},
		{"_rels/.rels", `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" Type="` + office + `/officeDocument" Target="xl/workbook.xml"/></Relationships>`},
		{"xl/workbook.xml", `<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="` + office + `"><sheets><sheet name="s" sheetId="1" r:id="r1"/></sheets></workbook>`},
		{"xl/_rels/workbook.xml.rels", `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" Type="` + office + `/worksheet" Target="worksheets/sheet1.xml"/></Relationships>`},
		{"xl/worksheets/sheet1.xml", `<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><dimension ref="A1"/><sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>` + text + `</t></is></c></row></sheetData></worksheet>`},
	} {
		w, err := z.Create(part[0])
		if err == nil {
			_, err = w.Write([]byte(part[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func (p *place) write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (p *place) fill(s string) string {
	return strings.NewReplacer("%DATA%", "/data", "%OUTSIDE%", p.outside, "%KEY%", filepath.Join(p.outside, "key"), "%PORT%", p.port).Replace(s)
}

// A variant is what a server is granted beside its folder.
type variant int

const (
	ordinary variant = iota
	divided          // one tool has the folder to read only
	granted          // the folder outside and the client's key too: what is dangerous then does its harm, or the test would show nothing
)

// configure writes the configuration.
func (p *place) configure(t *testing.T, v variant) string {
	t.Helper()
	s := p.server
	security := "network: none"
	if s.memory != "" {
		security += ", memory: " + s.memory
	}
	security += ", timeout: 2m, processes: 128"
	switch {
	case s.env != "":
		security += ", env: " + p.fill(s.env)
	case v == granted:
		security += ", env: [A_CLIENTS_KEY]"
	}
	if s.extra != "" {
		security += ", " + s.extra
	}
	more := ""
	if v == granted {
		more = fmt.Sprintf(", {path: ./outside, at: %q, access: write}", p.outside)
	}
	mount := func(access string) string {
		return "filesystem: [{path: ./data, at: /data, access: " + access + "}" + more + "]"
	}
	mcp := "command: " + p.fill(s.command)
	if v == divided {
		mcp += fmt.Sprintf(", split: per-tool, tools: {%q: {security: {%s}}}", s.split.reader, mount("read"))
	}
	host := ""
	if os.Geteuid() != 0 {
		host = "host: {allow_degraded: [memory, cpu]}\n"
	}
	path := filepath.Join(p.dir, "casemate.yaml")
	p.write(t, path, fmt.Sprintf("version: 1\n%stools:\n  - name: it\n    mcp: {%s}\n    security: {%s, %s}\n", host, mcp, security, mount("write")))
	return path
}

// unharmed checks that a dangerous call did nothing.
func (p *place) unharmed(t *testing.T, text string) {
	t.Helper()
	if harm := p.harm(t, text); harm != "" {
		t.Errorf("%s: %s", harm, text)
	}
}

// harm says what a dangerous call did.
func (p *place) harm(t *testing.T, text string) string {
	t.Helper()
	if strings.Contains(text, canary) {
		return "the key was read"
	}
	if n := p.hits.Load(); n > 0 {
		return fmt.Sprintf("a service of the host was reached %d times", n)
	}
	var names []string
	all, err := os.ReadDir(p.outside)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, []string{"key", "key.xlsx", "repo"}) {
		return fmt.Sprintf("outside its folder there is now %v", names)
	}
	return ""
}

// splits shows that the reader cannot write what the writer can.
func (p *place) splits(t *testing.T, c *client) string {
	t.Helper()
	s := p.server.split
	file := filepath.Join(p.data, s.file)
	os.Remove(file)
	c.call(t, s.reader, p.fill(s.args))
	if _, err := os.Lstat(file); err == nil {
		t.Errorf("%s wrote", s.reader)
	}
	text := c.call(t, s.writer.tool, p.fill(s.writer.args))
	if _, err := os.Lstat(file); err != nil {
		t.Errorf("%s did not write: %s", s.writer.tool, text)
	}
	return "`" + s.reader + "` cannot write, `" + s.writer.tool + "` can"
}

// A client is a bare MCP client over standard input and output.
type client struct {
	cmd *exec.Cmd
	in  *json.Encoder
	end func() error
	out *bufio.Reader
	n   int
}

func (p *place) connect(t *testing.T, v variant) *client {
	t.Helper()
	cmd := exec.Command(p.casemate, "serve")
	cmd.Dir = p.dir
	run := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "CASEMATE_CONFIG="+p.configure(t, v), "XDG_STATE_HOME="+filepath.Join(p.dir, "state"), "XDG_RUNTIME_DIR="+run, "A_CLIENTS_KEY="+canary)
	var said strings.Builder
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(5*time.Minute, func() { cmd.Process.Kill() })
	c := &client{cmd: cmd, in: json.NewEncoder(in), end: in.Close, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		late.Stop()
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("casemate said:\n%s", said.String())
		}
	})
	c.ask(t, "initialize", `{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"matrix","version":"1"}}`)
	c.in.Encode(map[string]any{"jsonrpc": "2.0", "method": "notifications/initialized"})
	return c
}

func (c *client) ask(t *testing.T, method, params string) json.RawMessage {
	t.Helper()
	c.n++
	if err := c.in.Encode(map[string]any{"jsonrpc": "2.0", "id": c.n, "method": method, "params": json.RawMessage(params)}); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := c.out.ReadBytes('\n')
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		var m struct {
			ID     json.RawMessage
			Method string
			Result json.RawMessage
			Error  json.RawMessage
		}
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if string(m.ID) != strconv.Itoa(c.n) || m.Method != "" {
			continue
		}
		if m.Error != nil {
			return m.Error
		}
		return m.Result
	}
}

// call returns everything that the answer holds, as text.
func (c *client) call(t *testing.T, tool, args string) string {
	t.Helper()
	b := c.ask(t, "tools/call", fmt.Sprintf(`{"name":%q,"arguments":%s}`, tool, args))
	var r struct{ Content []struct{ Text string } }
	json.Unmarshal(b, &r)
	var text []string
	for _, p := range r.Content {
		text = append(text, p.Text)
	}
	return strings.Join(append(text, string(b)), "\n")
}

func (c *client) close(t *testing.T) {
	t.Helper()
	c.end()
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("casemate serve: %v", err)
	}
}
