"""A JSON answer by Starlette: an application and a route."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def hello(request: Request) -> JSONResponse:  # noqa: ARG001 - Starlette passes the request
    return JSONResponse({"message": "hello, world"})


app = Starlette(routes=[Route("/", hello)])
