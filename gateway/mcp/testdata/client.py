"""client.py MODE URL TOKEN | client.py MODE COMMAND ARGUMENT…

Lists the tools of an MCP server and calls echo three times at once, once with
bad arguments, and a tool that is not there; prints what it learned as JSON.
MODE is for the client library 2.x: legacy, auto, or a protocol version.
"""
import asyncio, json, os, sys

import mcp

mode, target, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
http = target.startswith("http")
server = None if http else mcp.StdioServerParameters(command=target, args=rest, env=dict(os.environ))


async def drive(client, version):
    tools = await client.list_tools()
    said = await asyncio.gather(*(client.call_tool("echo", {"text": f"word {i}"}) for i in range(3)))
    bad = await client.call_tool("echo", {"txt": "x"})
    try:
        await client.call_tool("nope", {})
        unknown = 0
    except Exception as e:
        unknown = getattr(e, "code", None) or e.error.code
    print(json.dumps({
        "version": version,
        "tools": [t.name for t in tools.tools],
        "said": [r.content[0].text for r in said],
        "bad": getattr(bad, "is_error", None) or getattr(bad, "isError", None),
        "unknown": unknown,
    }))


async def one():
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamablehttp_client

    transport = streamablehttp_client(target, headers={"Authorization": "Bearer " + rest[0]}) if http else stdio_client(server)
    async with transport as streams, mcp.ClientSession(streams[0], streams[1]) as session:
        info = await session.initialize()
        await drive(session, info.protocolVersion)


async def two():
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    transport = server
    if http:
        client = httpx2.AsyncClient(headers={"Authorization": "Bearer " + rest[0]}, timeout=30)
        transport = streamable_http_client(target, http_client=client)
    async with mcp.Client(transport, mode=mode) as client:
        await drive(client, client.protocol_version)


asyncio.run(two() if hasattr(mcp, "Client") else one())
