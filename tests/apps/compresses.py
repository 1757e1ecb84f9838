"""Responds with its own source, compressed if the middleware gets its bytes."""

from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse


async def source(scope, receive, send):
    await FileResponse(__file__)(scope, receive, send)


application = GZipMiddleware(source, minimum_size=1)
