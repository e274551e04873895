"""An agent of Pydantic AI with a scripted model calls the tools."""
import asyncio
from calls import *
from pydantic_ai import Agent
from fastmcp.client.transports import StdioTransport
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart, RetryPromptPart
from pydantic_ai.models.function import FunctionModel


def model(messages, info):
    done = sum(isinstance(p, (ToolReturnPart, RetryPromptPart)) for m in messages for p in m.parts)
    if done == 0:
        say("tools", sorted(t.name for t in info.function_tools))
    for m in messages[-1:]:
        for p in m.parts:
            if isinstance(p, (ToolReturnPart, RetryPromptPart)):
                say(p.tool_name, p.content)
    if done < len(CALLS):
        return ModelResponse([ToolCallPart(*CALLS[done])])
    return ModelResponse([TextPart("done")])


async def main():
    server = MCPToolset(StdioTransport(COMMAND, ARGS, env=ENV))
    agent = Agent(FunctionModel(model), toolsets=[server], retries=5)
    async with agent:
        await agent.run("go")

asyncio.run(main())
