"""What `send()` does with the messages of the extensions that the scope names.

An ordinary response never comes here. Where a file goes its own way the response's state keeps other messages out. It
does not know how the application is called.
"""

import asyncio
import os
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from asgid.board import DURATION
from asgid.errors import AppError, ClientDisconnectedError
from asgid.worker.http1.response import COMPLETE, HELD, STREAMING, Message
from asgid.worker.http1.response_head import accepts_trailers
from asgid.worker.net.file_range import Handed, Stretch, path_stretch

if TYPE_CHECKING:
    from asgid.worker.http.exchange import Exchange

#: Files up to here are read and leave with the head in one write.
_SMALL_FILE = 16384


async def send(exchange: "Exchange", kind: object, message: Message) -> None:
    """Take one message; AppError for a kind that is none of the extensions', or does not fit the response's state."""
    response, connection = exchange.response, exchange.connection
    if kind == "http.response.early_hint":
        connection.writer.write(response.early_hint(message))
    elif kind == "http.response.trailers":
        connection.writer.write(response.trailers(message, accepts_trailers(exchange.scope["headers"])))
        if response.state is COMPLETE:
            exchange.complete(monotonic(), DURATION)
    elif kind == "http.response.pathsend" and response.state is HELD:  # never mixed with other parts of a body
        with path_stretch(message) as stretch:
            if stretch.length:
                await _send_stretch(exchange, stretch, more=False)
            else:  # empty, or a file of proc(5), which reports no size
                await _send_handed(exchange, Handed({"file": stretch.fd}), more=False)
    elif kind == "http.response.zerocopysend" and response.state in (HELD, STREAMING):
        await _send_handed(exchange, Handed(message), more=message.get("more_body", False))
    else:
        raise AppError(f"send() of {kind!r} is not expected; the response is {response.state.name.lower()}")
    if connection.writer.is_paused and response.state is not COMPLETE:
        await exchange.until_taken()


async def _send_handed(exchange: "Exchange", handed: Handed, *, more: bool) -> None:
    stretch = handed.stretch()
    if stretch is not None:
        with stretch:
            await _send_stretch(exchange, stretch, more=more)
        handed.taken(stretch)
        return
    if not exchange.response.is_bodiless:
        with suppress(ClientDisconnectedError):  # while it waited for a pipe
            async for part in handed.parts(lambda fd: _until_readable(exchange, fd)):
                await exchange.send({"type": "http.response.body", "body": part, "more_body": True})
                if exchange.is_disconnected:
                    break
    await exchange.send({"type": "http.response.body", "more_body": more})


async def _send_stretch(exchange: "Exchange", stretch: Stretch, *, more: bool) -> None:
    """Send bytes of a file as a part of the body: a few in one write with the head, many past this process."""
    response, connection = exchange.response, exchange.connection
    if stretch.length <= _SMALL_FILE and not response.is_bodiless:
        await exchange.send({"type": "http.response.body", "body": stretch.read(), "more_body": more})
        return
    response.announce(stretch.length, more)
    if response.state is HELD:
        await exchange.send({"type": "http.response.body", "more_body": True})
        if exchange.is_disconnected or response.state is HELD:  # it was dropped
            return
    before, length, after = response.file(stretch.length, more)
    if length:
        connection.writer.write(before)
        try:
            async for sent in stretch.transmit(connection):
                exchange.response_bytes += sent
        except ConnectionError:
            exchange.disconnect()
            connection.abort()
            return
    response.file_sent(more)
    if after:
        connection.writer.write(after)
    if response.state is COMPLETE:
        exchange.complete(monotonic(), DURATION)


async def _until_readable(exchange: "Exchange", fd: int) -> None:
    """Wait until a pipe can be read without waiting; ClientDisconnectedError where the client leaves before."""

    def on_readable() -> None:
        is_readable.set()
        exchange.wake()

    is_readable = asyncio.Event()
    loop, own = asyncio.get_running_loop(), os.dup(fd)  # a descriptor has one reader, and that may be the application's
    try:
        loop.add_reader(own, on_readable)
        while not is_readable.is_set():
            await exchange.news()
            if exchange.is_disconnected:
                raise ClientDisconnectedError("the client has disconnected")
    except PermissionError:  # epoll(7) on a device such as /dev/zero, which never waits
        return
    finally:
        loop.remove_reader(own)
        os.close(own)
