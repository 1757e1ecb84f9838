"""A task that fails and is never awaited; `GET /seen` responds with the log records of the application."""

import asyncio
import logging

seen = []


class Listener(logging.Handler):
    def emit(self, record):
        error = record.exc_info[1] if record.exc_info else None
        seen.append(f"{record.name} {record.levelname} {error!r}")


logging.getLogger().addHandler(Listener())


async def fails():
    raise KeyError("in a task")


async def application(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/fail":
        asyncio.create_task(fails())  # noqa: RUF006 - that nobody keeps it is the fault
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": "\n".join(seen).encode()})
