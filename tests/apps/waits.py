"""Never responds."""

import asyncio


async def application(scope, receive, send):
    assert scope["type"] == "http"
    await asyncio.Event().wait()
