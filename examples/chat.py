"""A chat room in plain ASGI, no framework: one page, and a WebSocket for each tab that has it open.

    asgid chat:application -w 1 --set app.directory=examples

The room is this process's memory, so it takes one worker; rooms that several share need something between them. When
the server reloads, each socket is closed with 1012, "service restart", and the page connects again, to the new worker.
"""

import asyncio
import json

LONGEST_TEXT = 500
LONGEST_NAME = 30
LONGEST_INBOX = 100

PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>Chat</title>
<style>
  :root { color-scheme: light dark; --accent: light-dark(#0a7d5a, #4fd1a5) }
  body { display: grid; grid-template-rows: auto 1fr auto; gap: 1rem; box-sizing: border-box; height: 100dvh;
         max-width: 36rem; margin: 0 auto; padding: 1.5rem; font: 1.05rem/1.5 system-ui, sans-serif }
  h1 { margin: 0; font-size: 1.4rem; font-weight: 650 } small { font-weight: 400; opacity: .65 }
  ul { margin: 0; padding: 0; overflow-y: auto; list-style: none; overflow-wrap: anywhere } b { color: var(--accent) }
  form { display: flex; gap: .5rem } #nickname { width: 7rem } #text { flex: 1 } button { color: var(--accent) }
  input, button { min-width: 0; padding: .5rem .75rem; border: 1px solid #8886; border-radius: .5rem; background: none;
                  font: inherit }
</style>
<h1>Chat <small id="line">connecting</small></h1>
<ul id="said"></ul>
<form>
  <input id="nickname" maxlength="30" aria-label="your name">
  <input id="text" maxlength="500" autofocus autocomplete="off" placeholder="say something" aria-label="what you say">
  <button>Say</button>
</form>
<script>
  let socket, pause_ms = 250
  nickname.value = "guest " + Math.floor(Math.random() * 1000)
  function connect() {
    socket = new WebSocket(location.href.replace("http", "ws"))
    socket.onopen = () => pause_ms = 250
    socket.onmessage = event => {
      const {here, name, text} = JSON.parse(event.data)
      if (here) { line.textContent = here + " here"; return }
      const item = said.appendChild(document.createElement("li")), who = document.createElement("b")
      who.textContent = name
      item.append(who, " ", text)
      item.scrollIntoView()
    }
    socket.onclose = event => {
      line.textContent = event.code === 1012 ? "the server restarts" : "lost the line, trying again"
      setTimeout(connect, pause_ms * (0.5 + Math.random()))  // apart, or all tabs of the room come in one instant
      pause_ms = Math.min(2 * pause_ms, 10000)
    }
  }
  document.forms[0].onsubmit = event => {
    event.preventDefault()
    if (socket.readyState !== WebSocket.OPEN || !text.value.trim()) return  // what was typed stays until it can be said
    socket.send(JSON.stringify({name: nickname.value, text: text.value}))
    text.value = ""
  }
  connect()
</script>
"""

room = set()  # an inbox for each who is here


async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await visit(receive, send)
    elif scope["type"] == "http":
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", b"%d" % len(PAGE))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": PAGE})
    else:
        raise ValueError(f"this application does not speak {scope['type']}")


async def visit(receive, send):
    """One who is here: what they say goes into every inbox, what comes into theirs is sent to them."""
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    inbox = asyncio.Queue(LONGEST_INBOX)
    delivery = asyncio.create_task(deliver(inbox, send))
    room.add(inbox)
    tell(here=len(room))
    try:
        while (message := await receive())["type"] != "websocket.disconnect":
            if words := read(message):
                tell(**words)
    finally:
        room.discard(inbox)
        delivery.cancel()
        if room:
            tell(here=len(room))


async def deliver(inbox, send):
    try:
        while True:
            await send({"type": "websocket.send", "text": await inbox.get()})
    except OSError:
        pass  # they have gone; visit() hears of it too


def read(message):
    """Return the name and the text of a message, cut to their lengths; None where it is not one of this room's."""
    try:
        words = json.loads(message.get("text") or "")
    except (ValueError, RecursionError):  # no JSON, or JSON that is meant to hurt
        return None
    match words:
        case {"name": str(name), "text": str(text)}:
            return {"name": name[:LONGEST_NAME] or "guest", "text": text[:LONGEST_TEXT]}
    return None


def tell(**words):
    """Put it into every inbox; who does not empty theirs misses what comes now, and holds up nobody."""
    for inbox in room:
        if not inbox.full():
            inbox.put_nowait(json.dumps(words))
