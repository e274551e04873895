"""A plain stdio MCP server that reads any file that it can, and tells its environment."""
import json, os, sys

SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
TOOLS = [{"name": "read_it", "description": "Read a file.", "inputSchema": SCHEMA},
         {"name": "environment", "description": "Tell the environment.", "inputSchema": {"type": "object", "properties": {}}}]
for line in sys.stdin:
    m = json.loads(line)
    if "id" not in m:
        continue
    p, r = m.get("params", {}), None
    if m["method"] == "initialize":
        r = {"protocolVersion": min(p["protocolVersion"], "2025-11-25"), "capabilities": {"tools": {}}, "serverInfo": {"name": "reader", "version": "1"}}
    elif m["method"] == "tools/list":
        r = {"tools": TOOLS}
    elif m["method"] == "ping":
        r = {}
    elif m["method"] == "tools/call":
        try:
            text = json.dumps(dict(os.environ)) if p["name"] == "environment" else open(p["arguments"]["path"]).read()
            r = {"content": [{"type": "text", "text": text}]}
        except OSError as e:
            r = {"content": [{"type": "text", "text": str(e)}], "isError": True}
    body = {"result": r} if r is not None else {"error": {"code": -32601, "message": "method not found"}}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], **body}), flush=True)
