import asyncio
from calls import *
from llama_index.tools.mcp import BasicMCPClient, McpToolSpec


async def main():
    tools = {t.metadata.name: t for t in await McpToolSpec(BasicMCPClient(COMMAND, args=ARGS, env=ENV)).to_tool_list_async()}
    say("tools", sorted(tools))
    for tool, args in CALLS:
        say(tool, (await tools[tool].acall(**args)).content)

asyncio.run(main())
