"""Its lifespan startup fails."""


async def application(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database of this application is down"})
