"""A tool of the MCP SDK that reports progress until the file GATE exists; each transport is an application."""

import asyncio
import os

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("gate")


@server.tool()
async def wait(ctx: Context) -> str:
    """Wait for the gate, and return which process has waited."""
    number = 0
    while not os.path.exists(os.environ["GATE"]):  # noqa: ASYNC240 - a moment, and only the test waits
        number += 1
        await ctx.report_progress(number)
        await asyncio.sleep(0.05)
    return str(os.getpid())


streamable = server.streamable_http_app()
sse = server.sse_app()
