"""A client that sends as fast as it can blocks the loop only for a moment."""

import asyncio
import sys

import pytest

from asgid import board
from asgid.worker.http1.parser import SLICE
from asgid.worker.net.turns import SHARE_S
from tests.worker.apps import body_of, respond, responds
from tests.worker.client import request
from tests.worker.event_loop import until
from tests.worker.worker import Worker, served

_EAGER = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="before Python 3.12 an application takes a turn to begin"
)
#: One read of each kind: tiny pieces, or requests that are expensive to parse.
_CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
_FLOODS = {
    "requests": request() * 4000,
    "long query strings": (b"GET /?" + b"%41" * 2600 + b" HTTP/1.1\r\nHost: a\r\n\r\n") * 20,
    "empty lines": (b"\r\n" * 4000 + request()) * 20,
    "fields": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * 90 + b"\r\n") * 400,
    "chunks": _CHUNKED + b"1\r\na\r\n" * 30_000 + b"0\r\n\r\n",
    "trailers": (_CHUNKED + b"0\r\n" + b"a:\r\n" * 90 + b"\r\n") * 400,
}


@_EAGER
async def test_pipelining_clients_do_not_block_others():
    """Eight clients send thousands of requests of a millisecond each; together they have one turn of the loop."""

    served: dict[str, float] = {}

    async def app(scope, receive, send):
        served[scope["path"]] = worker.now()
        worker.work(0.001)
        await respond(send, scope["path"].encode())

    async with Worker(app) as worker:
        flooders = [await worker.connect() for _ in range(8)]
        other = await worker.connect()
        for flooder in flooders:
            flooder.push(b"".join(request("GET", f"/{n}") for n in range(1000)))
        began = worker.now()
        other.push(request("GET", "/other"))
        assert 200 == (await other.response()).status
        waited = served["/other"] - began
        responses = [(await flooders[0].response()).body for _ in range(1000)]

        assert waited < 0.1
        assert [f"/{n}".encode() for n in range(1000)] == responses
        await until(lambda: worker.counts["GET 200"] == 8 * 1000 + 1)


@pytest.mark.parametrize("flood", _FLOODS.values(), ids=_FLOODS.keys())
@_EAGER
async def test_one_read_is_parsed_in_several_turns(flood):
    """Each look at the clock takes a quarter of a turn, so the whole read takes many turns."""
    turns, seen = 0, []

    async def app(scope, receive, send):
        seen.append(turns)
        await body_of(receive)
        await respond(send)
        seen.append(turns)

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with served(app) as (worker, client):
        counting = asyncio.ensure_future(count())
        worker.clock.look_s = SHARE_S / 4
        last = request("GET", "/last", "Connection: close")
        sending = asyncio.ensure_future(client.send(flood + last))
        taking = asyncio.ensure_future(client.rest())
        responses = await taking
        counting.cancel()
        await sending

        assert responses.count(b"HTTP/1.1 200 OK\r\n") == worker.row[board.STARTED]
        assert b"connection: close" in responses
        assert seen[-1] - seen[0] > 5


@pytest.mark.parametrize("size", [SLICE, 4 * SLICE])
async def test_queued_bytes_are_parsed_before_their_deadline_is_checked(size):
    """The worker is late, not the client."""
    async with Worker(responds()) as worker:
        client = await worker.connect()
        worker.begin_turn()
        worker.work(SHARE_S)
        client.deliver(request("GET", "/", f"x: {'y' * size}"))
        worker.pass_time(1000)

        assert "STARTED" not in worker.counts
        assert 200 == (await client.response()).status
        assert 200 == (await client.get()).status
