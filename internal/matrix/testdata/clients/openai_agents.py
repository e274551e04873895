import asyncio
from calls import *
from agents import set_tracing_disabled
from agents.mcp import MCPServerStdio


async def main():
    set_tracing_disabled(True)
    async with MCPServerStdio({"command": COMMAND, "args": ARGS, "env": ENV}, client_session_timeout_seconds=60) as s:
        say("tools", sorted(t.name for t in await s.list_tools()))
        for tool, args in CALLS:
            say(tool, (await s.call_tool(tool, args)).content)

asyncio.run(main())
