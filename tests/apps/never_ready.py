"""Its lifespan startup never ends."""

import asyncio


async def application(scope, receive, send):
    await receive()
    await asyncio.Event().wait()
