package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// Serve is the MCP server that subjects call, on a connection like standard
// input and output: its tool echo answers its text, and bulk as many bytes as
// it is asked for, which it never holds. With last the id of an answer stands
// behind its result, as some SDKs write it. It returns when in ends.
func Serve(in io.Reader, to io.Writer, last bool) error {
	lines := bufio.NewReaderSize(in, 64<<10)
	out := bufio.NewWriterSize(to, 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
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
			text, err := json.Marshal(m.Params.Arguments.Text)
			if err != nil {
				return err
			}
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
		if err := out.Flush(); err != nil {
			return err
		}
	}
}
