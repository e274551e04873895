package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

// serve is the small MCP server: echo answers its text, bulk answers as many
// bytes as it is asked for, which it never holds. With "last" the id of an
// answer stands behind its result, as some SDKs write it.
func serve(args []string) {
	last := len(args) > 0 && args[0] == "last"
	in := bufio.NewReaderSize(os.Stdin, 64<<10)
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var m struct {
			ID     json.RawMessage
			Method string
			Params struct {
				Name            string
				ProtocolVersion string
				Arguments       struct {
					Text  string
					Bytes int
				}
			}
		}
		if json.Unmarshal(line, &m) != nil || m.ID == nil {
			continue
		}
		result := "{}"
		switch m.Method {
		case "initialize":
			result = fmt.Sprintf(`{"protocolVersion":%q,"capabilities":{"tools":{}},"serverInfo":{"name":"small","version":"1"}}`, m.Params.ProtocolVersion)
		case "tools/list":
			result = `{"tools":[{"name":"echo","description":"echo","inputSchema":{"type":"object","properties":{"text":{"type":"string"}}}},` +
				`{"name":"bulk","description":"bulk","inputSchema":{"type":"object","properties":{"bytes":{"type":"integer"}}}}]}`
		case "tools/call":
			text, _ := json.Marshal(m.Params.Arguments.Text)
			result = fmt.Sprintf(`{"content":[{"type":"text","text":%s}]}`, text)
		}
		head, tail := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":`, m.ID), "}\n"
		if last {
			head, tail = `{"result":`, fmt.Sprintf(`,"jsonrpc":"2.0","id":%s}`+"\n", m.ID)
		}
		out.WriteString(head)
		if n := m.Params.Arguments.Bytes; n > 0 {
			out.WriteString(`{"content":[{"type":"text","text":"`)
			for range n {
				out.WriteByte('x')
			}
			out.WriteString(`"}]}`)
		} else {
			out.WriteString(result)
		}
		out.WriteString(tail)
		out.Flush()
	}
}
