import asyncio
from calls import *
from autogen_ext.tools.mcp import McpWorkbench, StdioServerParams


async def main():
    async with McpWorkbench(StdioServerParams(command=COMMAND, args=ARGS, env=ENV, read_timeout_seconds=60)) as w:
        say("tools", sorted(t["name"] for t in await w.list_tools()))
        for tool, args in CALLS:
            say(tool, (await w.call_tool(tool, args)).to_text())

asyncio.run(main())
