"""A plain ASGI application without a framework, for `make run`: it uses each part of the interface once.

It shows the specification (https://asgi.readthedocs.io) from an application's side: a lifespan that fills the state,
requests that are read and answered in parts, and a stream that ends with its client. It does not depend on a server.
"""

import asyncio
import contextlib
import itertools
import json
import math
from collections import Counter
from datetime import UTC, datetime
from urllib.parse import parse_qs

MAX_WAIT_S = 60.0

PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>Hello from asgid</title>
<style>
  :root { color-scheme: light dark; --accent: light-dark(#0a7d5a, #4fd1a5) }
  body { font: 1.05rem/1.6 system-ui, sans-serif; max-width: 36rem; margin: 12vh auto; padding: 0 1.5rem }
  h1 { font-weight: 650; letter-spacing: -.02em; margin-bottom: 0 }
  a { color: var(--accent) }
  dt { margin-top: 1rem } dd { margin: 0; opacity: .75 }
  code { font-size: .95em } #count { color: var(--accent); font-variant-numeric: tabular-nums }
</style>
<h1>Hello.</h1>
<p>This page has been open for <b id="count">0</b> seconds, by the server's clock.
<dl>
  <dt><a href="/stream">/stream</a><dd>counts until you leave (server-sent events)
  <dt><a href="/headers">/headers</a><dd>your request as the server read it, as JSON
  <dt><a href="/slow?s=2">/slow?s=2</a><dd>answers after two seconds; the worker serves other clients meanwhile
  <dt>/echo<dd>sends the body back while it arrives: <code>curl -NT . localhost:8000/echo</code>
</dl>
<script>
  new EventSource("/stream").onmessage = event => count.textContent = event.data
</script>
"""


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    elif scope["type"] == "http":
        handler = ROUTES.get(scope["path"], not_found)
        if "state" in scope:  # missing if the server runs without lifespan
            scope["state"]["served"][handler.__name__] += 1
        await handler(scope, receive, send)
    else:
        raise ValueError(f"this application does not support {scope['type']}")


async def lifespan(scope, receive, send):
    """Start and stop with the worker. Each request gets a shallow copy of the state, so a counter must be an object."""
    await receive()  # lifespan.startup
    scope["state"]["started_at"] = datetime.now(UTC).isoformat(timespec="milliseconds")
    scope["state"]["served"] = Counter()
    await send({"type": "lifespan.startup.complete"})
    await receive()  # lifespan.shutdown
    await send({"type": "lifespan.shutdown.complete"})


async def index(scope, receive, send):
    """GET / - a page with links to the other paths."""
    await respond(send, 200, PAGE, "text/html; charset=utf-8")


async def stream(scope, receive, send):
    """GET /stream - the seconds since the start of the request, one event per second, until the client leaves."""
    await start(send, 200, "text/event-stream", (b"cache-control", b"no-store"))
    gone = asyncio.create_task(disconnect(receive))
    try:
        for second in itertools.count():
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % second, "more_body": True})
            await asyncio.wait([gone], timeout=1)
            if gone.done():
                return
    finally:
        gone.cancel()


async def echo(scope, receive, send):
    """POST /echo - the body, part by part. No part is kept, so the length does not matter."""
    if scope["method"] not in {"POST", "PUT"}:
        await respond(send, 405, b"send me something: POST or PUT\n", "text/plain", (b"allow", b"POST, PUT"))
        return
    message = await receive()  # before the start, so a client with Expect: 100-continue gets its 100
    await start(send, 200, "application/octet-stream")
    while message["type"] == "http.request":  # and not http.disconnect
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})
        if not more:
            return
        message = await receive()


async def headers(scope, receive, send):
    """GET /headers - the scope: the request as the server read it, with the client's address."""
    seen = {
        key: scope.get(key) for key in ("http_version", "scheme", "method", "path", "root_path", "client", "server")
    }
    seen["query_string"] = scope["query_string"].decode("latin-1")
    seen["headers"] = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    seen["state"] = scope.get("state")
    await respond(send, 200, json.dumps(seen, indent=2).encode() + b"\n", "application/json")


async def slow(scope, receive, send):
    """GET /slow?s=2 - a response after that many seconds, up to a minute."""
    wait_s = math.nan
    with contextlib.suppress(ValueError):
        wait_s = float(parse_qs(scope["query_string"].decode("latin-1")).get("s", ["1"])[0])
    if not 0 <= wait_s <= MAX_WAIT_S:  # also false for NaN
        await respond(send, 400, b"s is a number of seconds, 0 to 60\n", "text/plain")
        return
    await asyncio.sleep(wait_s)
    await respond(send, 200, b"that took %g seconds\n" % wait_s, "text/plain")


async def not_found(scope, receive, send):
    await respond(send, 404, b"nothing here; see /\n", "text/plain")


ROUTES = {"/": index, "/stream": stream, "/echo": echo, "/headers": headers, "/slow": slow}


async def respond(send, status, body, content_type, *more):
    """Send a whole response at once."""
    await start(send, status, content_type, (b"content-length", b"%d" % len(body)), *more)
    await send({"type": "http.response.body", "body": body})


async def start(send, status, content_type, *more):
    """Begin a response; without a content-length the server chooses the framing."""
    fields = [(b"content-type", content_type.encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": fields})


async def disconnect(receive):
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
