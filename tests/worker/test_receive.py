"""A cancelled `receive()`, and `receive()` after the end, cost other clients nothing."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from asgid.worker.asgi import Message, Receive, Send
from asgid.worker.http import exchange
from tests.worker.apps import mirror, mirrored, respond
from tests.worker.client import request
from tests.worker.event_loop import turns, until
from tests.worker.peer import handshake, opened
from tests.worker.worker import Worker, served

_Ask = Callable[[Receive], Awaitable[Any]]


async def _ask_in_a_turn(receive: Receive) -> None:
    """Ask and cancel in the same turn of the loop, as Starlette's `Request.is_disconnected()` does."""
    asked = asyncio.ensure_future(receive())
    await asyncio.sleep(0)
    asked.cancel()
    with suppress(asyncio.CancelledError):
        await asked


async def _ask_for_a_while(receive: Receive) -> None:
    """Ask with a timeout, as a stream with a keep-alive comment does."""
    with suppress(TimeoutError):
        await asyncio.wait_for(receive(), 1e-6)


async def _begin(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
    else:
        await send({"type": "websocket.accept"})


def _futures() -> int:
    gc.collect()
    return sum(type(found) is asyncio.Future for found in gc.get_objects())


@pytest.mark.parametrize("ask", [_ask_in_a_turn, _ask_for_a_while])
@pytest.mark.parametrize("head", [request(), handshake()], ids=["http", "websocket"])
async def test_a_cancelled_receive_leaves_no_future(ask: _Ask, head: bytes) -> None:
    """An application may ask for days whether its client is still there."""
    grown: list[int] = []
    end = asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await _begin(scope, receive, send)
        before = _futures()
        for _ in range(300):
            await ask(receive)
        grown.append(_futures() - before)
        await end.wait()

    async with served(app) as (_, client):
        client.push(head)
        await until(lambda: grown)
        client.close()
        end.set()

        assert grown[0] < 30


async def test_a_cancelled_receive_does_not_count_as_a_reader() -> None:
    """Otherwise an application that seldom receives would fill the memory."""
    is_taken: list[bool] = []

    async def app(_scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await asyncio.sleep(0)
        (ours,) = worker.running
        asked = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        asked.cancel()
        is_taken.append(ours.notify())
        asked = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        is_taken.append(ours.notify())
        asked.cancel()
        await respond(send)

    async with served(app) as (worker, client):
        assert 200 == (await client.get()).status

        assert [False, True] == is_taken


@pytest.mark.parametrize("head", [request(), handshake()], ids=["http", "websocket"])
async def test_an_application_that_loops_on_receive_does_not_block_the_worker(head: bytes) -> None:
    """It ignores the disconnect, so it never returns. Others are served meanwhile, and a stop can cancel it."""
    received: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] == "/other":
            await mirror(scope, receive, send)
            return
        await _begin(scope, receive, send)
        while True:
            received.append((await receive())["type"].partition(".")[2])

    async with Worker(app) as worker:
        client, other = await worker.connect(), await worker.connect()
        client.push(head)
        await until(lambda: worker.running)
        await turns()
        client.close()
        await until(lambda: "disconnect" in received)
        response = await other.get("/other")
        await turns()
        (looping,) = worker.running
        looping.cancel(503, "the server is stopping")
        await until(lambda: not worker.running)

        assert mirrored("GET", "/other") == response.body
        assert ["disconnect", "disconnect"] == received[-2:]
        assert received.count("disconnect") < 5


async def test_several_tasks_may_each_receive_the_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that wait have it at once, and so do those that ask in later turns."""
    monkeypatch.setattr(exchange, "_REPEATED_S", 1000.0)
    received: list[Message] = []

    async def app(_scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await asyncio.gather(*(receive() for _ in range(5)))
        for _ in range(5):
            received.append(await receive())
            await asyncio.sleep(0)

    async with served(app) as (worker, client):
        client.push(request())
        await until(lambda: worker.running)
        await turns()
        client.close()
        await until(lambda: len(received) == 5)

        assert [{"type": "http.disconnect"}] * 5 == received


async def test_receive_reports_a_disconnect_after_the_response() -> None:
    """ASGI: `receive()` returns `http.disconnect` once the response has been sent."""
    received: list[Message] = []

    async def app(_scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await respond(send)
        received.extend([await receive(), await receive()])

    async with served(app) as (_, client):
        assert 200 == (await client.get()).status
        await until(lambda: received)

        assert [{"type": "http.disconnect"}] * 2 == received


@pytest.mark.parametrize("turns_each", range(1, 4))
async def test_a_cancelled_receive_loses_no_message(turns_each: int) -> None:
    """The message may come in the very turn of the cancellation; the next `receive()` returns it."""
    heard: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await _begin(scope, receive, send)
        while len(heard) < 500:
            asked = asyncio.ensure_future(receive())
            await turns(turns_each)
            asked.cancel()
            with suppress(asyncio.CancelledError):
                heard.append((await asked)["text"])
            await asyncio.sleep(0)

    async with opened(app) as (_, peer):
        for number in range(500):
            await peer.send(str(number))
            await turns(number % 3)
        await until(lambda: len(heard) == 500)

        assert [str(number) for number in range(500)] == heard
