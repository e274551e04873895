import asyncio
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from calls import *


async def main():
    async with Client(StdioTransport(COMMAND, ARGS, env=ENV)) as c:
        say("tools", sorted(t.name for t in await c.list_tools()))
        for tool, args in CALLS:
            say(tool, (await c.call_tool(tool, args, raise_on_error=False)).content)

asyncio.run(main())
