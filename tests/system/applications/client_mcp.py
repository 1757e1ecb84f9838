"""A client of the MCP SDK: `client_mcp.py streamable|sse URL` calls the tool once for each line that it reads."""

import asyncio
import sys

from mcp.client.client import Client
from mcp.client.sse import sse_client


async def on_progress(progress: float, total: float | None, message: str | None) -> None:
    print("progress", int(progress), flush=True)


async def main(kind: str, url: str) -> None:
    async with Client(sse_client(f"{url}/sse") if kind == "sse" else f"{url}/mcp") as client:
        print("tools", *[tool.name for tool in (await client.list_tools()).tools], flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            result = await client.call_tool("wait", {}, progress_callback=on_progress)
            print("result", result.content[0].text, flush=True)
    print("left", flush=True)


asyncio.run(main(*sys.argv[1:]))
