"""A chat room in plain ASGI, without a framework: one page, and a WebSocket for each tab that shows it.

    asgid chat:application -w 1 --set app.directory=examples

The room is in the memory of one process, so it needs one worker; a room for several workers needs a broker. When the
server reloads, each socket is closed with 1012, "service restart", and the page connects again, to the new worker.
"""

import asyncio
import json

MAX_TEXT = 500
MAX_NAME = 30
MAX_INBOX = 100

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
<ul id="messages"></ul>
<form>
  <input id="nickname" maxlength="30" aria-label="your name">
  <input id="text" maxlength="500" autofocus autocomplete="off" placeholder="write a message" aria-label="your message">
  <button>Send</button>
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
      const item = messages.appendChild(document.createElement("li")), author = document.createElement("b")
      author.textContent = name
      item.append(author, " ", text)
      item.scrollIntoView()
    }
    socket.onclose = event => {
      line.textContent = event.code === 1012 ? "the server restarts" : "connection lost, trying again"
      setTimeout(connect, pause_ms * (0.5 + Math.random()))  // random, so that not all tabs connect at once
      pause_ms = Math.min(2 * pause_ms, 10000)
    }
  }
  document.forms[0].onsubmit = event => {
    event.preventDefault()
    if (socket.readyState !== WebSocket.OPEN || !text.value.trim()) return  // keep the text until it can be sent
    socket.send(JSON.stringify({name: nickname.value, text: text.value}))
    text.value = ""
  }
  connect()
</script>
"""

room = set()  # an inbox for each client


async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await visit(receive, send)
    elif scope["type"] == "http":
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", b"%d" % len(PAGE))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": PAGE})
    else:
        raise ValueError(f"this application does not support {scope['type']}")


async def visit(receive, send):
    """Serve one client: its messages go into every inbox, and its own inbox is sent to it."""
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    inbox = asyncio.Queue(MAX_INBOX)
    delivery = asyncio.create_task(deliver(inbox, send))
    room.add(inbox)
    publish(here=len(room))
    try:
        while (message := await receive())["type"] != "websocket.disconnect":
            if words := read(message):
                publish(**words)
    finally:
        room.discard(inbox)
        delivery.cancel()
        if room:
            publish(here=len(room))


async def deliver(inbox, send):
    try:
        while True:
            await send({"type": "websocket.send", "text": await inbox.get()})
    except OSError:
        pass  # the client has gone; visit() receives the disconnect


def read(message):
    """Return the name and the text of a message, cut to their limits; None if the message is malformed."""
    try:
        words = json.loads(message.get("text") or "")
    except (ValueError, RecursionError):  # not JSON, or JSON that is nested too deeply
        return None
    match words:
        case {"name": str(name), "text": str(text)}:
            return {"name": name[:MAX_NAME] or "guest", "text": text[:MAX_TEXT]}
    return None


def publish(**words):
    """Put a message into every inbox. A full inbox misses it, so a slow client does not delay the others."""
    for inbox in room:
        if not inbox.full():
            inbox.put_nowait(json.dumps(words))
