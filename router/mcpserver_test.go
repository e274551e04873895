package router

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/runners"
)

// serverVar makes this binary an MCP server on its standard input and output;
// its value is the way in which it behaves.
const serverVar = "CASEMATE_ROUTER_TEST_SERVER"

// beMCPGuest is the guest of a tool of MCP: the real runner, with this binary
// as its server.
func beMCPGuest(pipe *os.File, how string) {
	beRunner(pipe, plan.Guest{Tool: "server", Runner: "mcp", Session: true, Command: []plan.Arg{{Text: "/proc/self/exe"}},
		Env: []string{serverVar + "=" + how, "GORACE=atexit_sleep_ms=0"}})
}

// beShell is the guest of a shell tool.
func beShell(pipe *os.File, session bool) {
	beRunner(pipe, plan.Guest{Tool: "sh", Runner: "shell", Session: session})
}

func beRunner(pipe *os.File, g plan.Guest) {
	g.Cwd, _ = os.Getwd()
	if err := runners.Serve(pipe, g, new(sync.Mutex)); err != nil {
		fmt.Fprintln(os.Stderr, "runner:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

var listedTools = []string{"echo", "fail", "rpc", "die", "never", "wait", "twice", "flood", "garbage", "big", "progress", "roots", "sample", "elicit", "change", "quiet", "raw", "set", "get", "pid", "meet", "touch", "log", "kept"}

// listedTool is the tool as the server lists it.
func listedRaw(name, more string) string {
	return fmt.Sprintf(`{"name":%q,"description":"Does %s.%s","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}`, name, name, more)
}

type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name      string          `json:"name"`
		Arguments map[string]any  `json:"arguments"`
		Meta      map[string]any  `json:"_meta"`
		RequestID json.RawMessage `json:"requestId"`
		URI       string          `json:"uri"`
		Level     string          `json:"level"`
		Version   string          `json:"protocolVersion"`
		Caps      json.RawMessage `json:"capabilities"`
	} `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
	raw    string
}

// A testServer is an MCP server by hand: it does what no library would.
type testServer struct {
	how string
	out sync.Mutex

	mu       sync.Mutex
	more     string // at the end of each description
	answers  map[string]chan message
	asked    int
	memory   string
	meeting  int
	met      *sync.Cond
	subs     []string
	level    string
	caps     json.RawMessage
	canceled map[string]chan struct{}
	kept     chan string // of what an eager one asked first
}

func beMCPServer(how string) {
	time.AfterFunc(60*time.Second, func() { os.Exit(78) })
	s := &testServer{how: how, answers: map[string]chan message{}, canceled: map[string]chan struct{}{}, kept: make(chan string, 1)}
	s.met = sync.NewCond(&s.mu)
	fmt.Println("Server running on stdio") // as many do
	fmt.Fprintln(os.Stderr, "listening")
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			os.Exit(0)
		}
		m := message{raw: strings.TrimSpace(line)}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			fmt.Fprintln(os.Stderr, "bad line", err)
			os.Exit(9)
		}
		s.take(m)
	}
}

func (s *testServer) print(format string, a ...any) {
	s.out.Lock()
	defer s.out.Unlock()
	fmt.Printf(format+"\n", a...)
}

func (s *testServer) answer(m message, result string) {
	s.print(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
}

func (s *testServer) text(m message, format string, a ...any) {
	t, _ := json.Marshal(fmt.Sprintf(format, a...))
	s.answer(m, fmt.Sprintf(`{"content":[{"type":"text","text":%s}]}`, t))
}

func (s *testServer) take(m message) {
	switch {
	case m.Method == "":
		s.mu.Lock()
		ch := s.answers[string(m.ID)]
		s.mu.Unlock()
		if ch != nil {
			ch <- m
		}
	case s.how == "mute":
	case m.Method == "initialize":
		if s.how == "stateless" {
			s.print(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32022,"message":"unsupported protocol version","data":{"supported":["2026-07-28"]}}}`, m.ID)
			return
		}
		version := "2025-06-18"
		if s.how == "future" {
			version = "2099-01-01"
		}
		s.mu.Lock()
		s.caps = m.Params.Caps
		s.mu.Unlock()
		s.answer(m, fmt.Sprintf(`{"protocolVersion":%q,"capabilities":{"tools":{"listChanged":true},"prompts":{},"resources":{"subscribe":true}},"serverInfo":{"name":"test","version":"1"},"instructions":"Be nice."}`, version))
	case m.Method == "server/discover":
		switch s.how {
		case "stateless":
			s.answer(m, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
		case "fragile":
			os.Exit(3)
		case "deaf":
		default:
			s.print(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"Method not found"}}`, m.ID)
		}
	case m.Method == "ping", m.Method == "logging/setLevel":
		s.mu.Lock()
		s.level = m.Params.Level
		s.mu.Unlock()
		s.answer(m, "{}")
	case m.Method == "tools/list":
		s.list(m)
	case m.Method == "tools/call":
		go s.call(m)
	case m.Method == "prompts/list":
		s.answer(m, `{"prompts":[{"name":"p"}]}`)
	case m.Method == "resources/subscribe":
		s.mu.Lock()
		s.subs = append(s.subs, m.Params.URI)
		s.mu.Unlock()
		s.answer(m, "{}")
	case m.Method == "notifications/cancelled":
		s.mu.Lock()
		ch := s.canceled[string(m.Params.RequestID)]
		s.mu.Unlock()
		if ch != nil {
			close(ch)
		}
	case m.Method == "notifications/initialized":
		s.begin()
	case m.ID == nil:
	default:
		s.print(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no \u001b[2J %s","data":{"x":1}}}`, m.ID, m.Method)
	}
}

// begin does what the server does when it was initialized.
func (s *testServer) begin() {
	switch s.how {
	case "busy":
		for range 2 {
			go func() {
				for n := new(atomic.Int64); ; {
					n.Add(1)
				}
			}()
		}
	case "greedy":
		for i := range 10 {
			s.print(`{"jsonrpc":"2.0","id":"g%d","method":"roots/list"}`, i)
		}
	case "eager":
		s.print(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"hello"}}`)
		s.print(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
		go func() { s.kept <- string(s.ask("roots/list", "{}").Result) }()
	}
}

func (s *testServer) list(m message) {
	s.mu.Lock()
	more := s.more
	s.mu.Unlock()
	switch s.how {
	case "endless":
		s.answer(m, fmt.Sprintf(`{"tools":[%s],"nextCursor":"%d"}`, listedRaw("echo", ""), time.Now().UnixNano()))
		return
	case "many":
		all := make([]string, 2100)
		for i := range all {
			all[i] = listedRaw(fmt.Sprint("t", i), "")
		}
		s.answer(m, `{"tools":[`+strings.Join(all, ",")+`]}`)
		return
	case "double":
		s.answer(m, `{"tools":[`+listedRaw("echo", "")+","+listedRaw("echo", "x")+`]}`)
		return
	}
	var all []string
	for _, n := range listedTools {
		all = append(all, listedRaw(n, more))
	}
	s.answer(m, `{"tools":[`+strings.Join(all, ",")+`]}`)
}

// ask asks the client and returns its answer.
func (s *testServer) ask(method, params string) message {
	ch := make(chan message, 1)
	s.mu.Lock()
	s.asked++
	id := fmt.Sprintf(`"q%d"`, s.asked)
	s.answers[id] = ch
	s.mu.Unlock()
	s.print(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":%s}`, id, method, params)
	return <-ch
}

func (s *testServer) call(m message) {
	args := m.Params.Arguments
	str := func(k string) string { v, _ := args[k].(string); return v }
	num := func(k string) int { v, _ := args[k].(float64); return int(v) }
	switch m.Params.Name {
	case "echo":
		s.answer(m, fmt.Sprintf(`{"content":[{"type":"text","text":%q},{"type":"text","text":"t","annotations":{"priority":1}},{"type":"resource_link","uri":"x://y","name":"n","icons":[]}],"structuredContent":{"b":1e2,"a":[]},"_meta":{"m":1},"extra":true}`, str("text")))
	case "fail":
		s.answer(m, `{"content":[{"type":"text","text":"it broke"}],"isError":true}`)
	case "rpc":
		s.print(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"bad \u001b[2J argument","data":[1]}}`, m.ID)
	case "die":
		os.Exit(7)
	case "never":
	case "wait":
		ch := make(chan struct{})
		s.mu.Lock()
		s.canceled[string(m.ID)] = ch
		s.mu.Unlock()
		s.print(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"waits"}}`)
		<-ch
		s.text(m, "too late")
		s.print(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"was cancelled"}}`)
	case "twice":
		s.text(m, "once")
		s.text(m, "twice")
		s.print(`{"jsonrpc":"2.0","id":424242,"result":{"content":[]}}`)
	case "flood":
		for {
			s.print("%s", strings.Repeat("garbage ", 1000))
		}
	case "garbage":
		s.print("not json\n{\"jsonrpc\":\"2.0\"\n[]\n{}\n\x00\xff\n{\"jsonrpc\":\"1.0\",\"id\":1,\"result\":{}}\n{\"jsonrpc\":\"2.0\",\"id\":%s,\"id\":%s,\"result\":{}}", m.ID, m.ID)
		s.text(m, "after it")
	case "big":
		s.answer(m, `{"content":[{"type":"text","text":"`+strings.Repeat("y", num("n"))+`"}]}`)
	case "progress":
		token, _ := json.Marshal(m.Params.Meta["progressToken"])
		s.print(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1,"message":"half"}}`, token)
		s.print(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":999999,"progress":1,"message":"foreign"}}`)
		s.text(m, "%s", m.raw)
	case "roots":
		s.text(m, "%s%s", s.ask("roots/list", "{}").Result, s.caps)
	case "sample":
		all := map[string]int{}
		for range num("n") {
			a := s.ask("sampling/createMessage", `{"messages":[],"maxTokens":5,"includeContext":"allServers","_meta":{"casemate/server":"other"}}`)
			all[string(a.Error)+string(a.Result)]++
		}
		b, _ := json.Marshal(all)
		s.text(m, "%s", b)
	case "elicit":
		a := s.ask("elicitation/create", str("params"))
		s.text(m, "%s%s", a.Error, a.Result)
	case "change", "quiet":
		s.mu.Lock()
		s.more = " And more."
		s.mu.Unlock()
		if m.Params.Name == "change" {
			s.print(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
		}
		s.text(m, "changed")
	case "raw":
		s.text(m, "%s", m.raw)
	case "set":
		s.mu.Lock()
		s.memory = str("text")
		s.mu.Unlock()
		s.text(m, "set")
	case "get":
		s.mu.Lock()
		defer s.mu.Unlock()
		s.text(m, "<%s> %s", s.memory, s.level)
	case "kept":
		v := <-s.kept
		s.kept <- v
		s.text(m, "%s", v)
	case "pid":
		s.text(m, "%d", os.Getpid())
	case "meet":
		s.mu.Lock()
		s.meeting++
		s.met.Broadcast()
		for s.meeting < num("n") {
			s.met.Wait()
		}
		s.mu.Unlock()
		s.text(m, "met")
	case "touch":
		s.mu.Lock()
		for _, u := range s.subs {
			s.print(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":%q}}`, u)
		}
		s.mu.Unlock()
		s.text(m, "touched")
	case "log":
		fmt.Fprintln(os.Stderr, str("text"))
		s.text(m, "logged")
	}
}
