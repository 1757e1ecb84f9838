"""A countdown that Django streams to the browser: five tabs at once, with one worker and no waiting thread.

One module is the whole site. COUNTDOWN_FROM is the first number (100), COUNTDOWN_PACE_S the seconds between two (1). It
runs on Django 5.2 (Python 3.11) and 6.1 (Python 3.12 and later), under any ASGI server.
"""

import asyncio
import json
import os
import secrets

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

TOP = int(os.environ.get("COUNTDOWN_FROM", "100"))
PACE_S = float(os.environ.get("COUNTDOWN_PACE_S", "1"))

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],  # this site does not use the Host header; list your hosts in your own site
    # This site signs nothing, so each worker may use a random key, and no key is in a public file. A site with sessions
    # sets SECRET_KEY, because workers with different keys refuse each other's cookies.
    SECRET_KEY=os.environ.get("SECRET_KEY") or secrets.token_urlsafe(50),
)

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>Countdown</title>
<style>
  body { display: grid; place-content: center; height: 90vh; text-align: center; font: 1.1rem system-ui, sans-serif }
  output { font-size: 28vmin; font-weight: 700; font-variant-numeric: tabular-nums }
</style>
<main><output id="number">…</output><p id="line">connecting</p></main>
<script>
  const stream = new EventSource("/sse/")
  stream.addEventListener("i", event => {
    const {i} = JSON.parse(event.data)
    number.value = i > 0 ? i : "Lift-off"
    if (i === 0) stream.close()  // or the browser would connect again
  })
  stream.onopen = () => line.textContent = "counting"
  stream.onerror = () => line.textContent = "connection lost, trying again"
</script>
"""


async def index(request):
    return HttpResponse(PAGE)


async def sse(request):
    """Stream the countdown; after a lost connection, as in a reload, it continues at the browser's last number."""
    try:
        top = min(TOP, int(request.headers["Last-Event-ID"]) - 1)
    except (KeyError, ValueError):
        top = TOP
    headers = {
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
    }  # the latter for nginx, which buffers small parts
    return StreamingHttpResponse(countdown(top), content_type="text/event-stream", headers=headers)


async def countdown(top):
    """Yield one event per pace from `top` to 0. When the client leaves, Django ends this generator at its wait."""
    left = top
    try:
        for left in range(top, -1, -1):
            yield f"id: {left}\nevent: i\ndata: {json.dumps({'i': left})}\n\n"
            if left:
                await asyncio.sleep(PACE_S)
    finally:
        if left > 0:
            print(f"a client left at {left}", flush=True)


urlpatterns = [path("", index), path("sse/", sse)]

application = get_asgi_application()
