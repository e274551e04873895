"""langchain-mcp-adapters opens a new session, and so starts a new shim, for every call; LangGraph runs the tools."""
import asyncio
from calls import *
from langchain_core.messages import AIMessage
from langchain_mcp_adapters.client import MultiServerMCPClient
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode


async def main():
    client = MultiServerMCPClient({"s": {"transport": "stdio", "command": COMMAND, "args": ARGS, "env": ENV}})
    tools = await client.get_tools()
    say("tools", sorted(t.name for t in tools))
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode(tools, handle_tool_errors=True))
    graph.add_edge(START, "tools")
    app = graph.compile()
    for i, (tool, args) in enumerate(CALLS):
        out = await app.ainvoke({"messages": [AIMessage("", tool_calls=[{"id": str(i), "name": tool, "args": args}])]})
        say(tool, out["messages"][-1].content)

asyncio.run(main())
