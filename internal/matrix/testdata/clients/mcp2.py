"""PyPI mcp, versions 1 and 2, have this in common."""
import asyncio
from calls import *
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def main():
    async with stdio_client(StdioServerParameters(command=COMMAND, args=ARGS, env=ENV)) as (r, w):
        async with ClientSession(r, w) as s:
            await s.initialize()
            say("tools", sorted(t.name for t in (await s.list_tools()).tools))
            for tool, args in CALLS:
                say(tool, (await s.call_tool(tool, args)).content)

asyncio.run(main())
