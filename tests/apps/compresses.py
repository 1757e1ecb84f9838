"""Its own source, compressed where the middleware gets to see it."""

from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse


async def source(scope, receive, send):
    await FileResponse(__file__)(scope, receive, send)


application = GZipMiddleware(source, minimum_size=1)
