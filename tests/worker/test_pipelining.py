"""Requests in order on one connection: bytes that wait, and one end for all of them."""

import asyncio
import sys
from contextvars import ContextVar

import pytest

from tests.worker.apps import after, begin, body_of, mirror, mirror_later, mirrored, respond
from tests.worker.client import request
from tests.worker.event_loop import turns, until
from tests.worker.worker import served

MANY = 500


@pytest.mark.parametrize("app", [mirror, mirror_later], ids=["an app that does not wait", "an app that waits"])
async def test_responses_have_the_order_of_the_requests(app):
    async with served(app, b"".join(request("GET", f"/{n}") for n in range(MANY))) as (_, client):
        bodies = [(await client.response()).body for _ in range(MANY)]

        assert [mirrored("GET", f"/{n}") for n in range(MANY)] == bodies
        assert mirrored("GET", "/next") == (await client.get("/next")).body


async def test_one_request_runs_at_a_time():
    running: list[str] = []
    most = 0

    async def app(scope, receive, send):
        nonlocal most
        running.append(scope["path"])
        most = max(most, len(running))
        await asyncio.sleep(0)
        running.remove(scope["path"])
        await respond(send)

    async with served(app, request("GET", "/1") + request("GET", "/2") + request("GET", "/3")) as (_, client):
        assert [200] * 3 == [(await client.response()).status for _ in range(3)]
        assert 1 == most


async def test_each_request_has_its_own_context_variables():
    """A change of the context ends with the call, even if the next request starts from within it."""
    user = ContextVar("user", default="nobody")

    async def app(scope, receive, send):
        found = user.get()
        user.set(scope["path"])
        await asyncio.sleep(0)
        await respond(send, found.encode())

    async with served(app, request("GET", "/1") + request("GET", "/2") + request("GET", "/3")) as (_, client):
        assert [b"nobody"] * 3 == [(await client.response()).body for _ in range(3)]


async def test_reading_pauses_until_the_response():
    """The worker takes no more from its client than one read, and loses nothing of that."""
    go = asyncio.Event()
    async with served(after(go)) as (worker, client):
        requests = [request("GET", f"/{n}", f"X: {'x' * 4000}") for n in range(500)]
        sending = asyncio.ensure_future(client.send(*requests))
        await until(lambda: client.is_reading_paused)
        await turns()
        began = worker.counts["STARTED"]
        sent_whole = sending.done()
        go.set()
        bodies = [(await client.response()).body for _ in requests]

        assert (1, False) == (began, sent_whole)
        assert [mirrored("GET", f"/{n}") for n in range(500)] == bodies
        await sending


@pytest.mark.parametrize(
    ("last", "status"),
    [(b"BAD\r\n\r\n", 400), (request("GET", "/", "Content-Length: x"), 400), (b"GET /" + b"x" * 9000, 414)],
    ids=["no request", "no length", "too long"],
)
async def test_a_bad_request_waits_for_its_turn(last, status):
    """It is parsed after the responses to the requests before it."""
    go = asyncio.Event()
    async with served(after(go), request("GET", "/1") + request("GET", "/2") + last) as (worker, client):
        await until(lambda: worker.counts.get("STARTED"))
        await turns()
        errors = [name for name in worker.counts if name.startswith("error ")]
        go.set()

        assert [] == errors
        assert [200, 200, status] == [(await client.response()).status for _ in range(3)]
        assert b"" == await client.rest()


@pytest.mark.parametrize("cut", range(1, len(request("GET", "/2"))))
async def test_a_waiting_head_may_come_in_parts(cut):
    go = asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/1":
            await go.wait()
        await mirror(scope, receive, send)

    async with served(app) as (worker, client):
        second = request("GET", "/2")
        await client.send(request("GET", "/1") + second[:cut])
        await until(lambda: client.is_reading_paused)
        go.set()
        first = await client.response()
        await client.send(second[cut:])

        assert mirrored("GET", "/1") == first.body
        assert mirrored("GET", "/2") == (await client.response()).body
        assert not worker.paused_connections


async def test_a_waiting_body_is_whole():
    """A request behind another one is parsed as far as it has arrived, and goes on in its turn."""
    go = asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/1":
            await go.wait()
        await respond(send, str(len(await body_of(receive))).encode())

    async with served(app) as (worker, client):
        size = 300_000
        await client.send(request("GET", "/1") + request("POST", "/2", f"Content-Length: {size}") + b"x" * 10)
        rest = asyncio.ensure_future(client.send(*[b"x" * 10_000] * 28, b"x" * 19_990))
        worker.pass_time(61)  # beyond timeouts.body: the client is not late
        go.set()

        assert b"0" == (await client.response()).body
        assert str(size).encode() == (await client.response()).body
        await rest
        assert not worker.counts.get("timeout body")


async def test_connection_close_ends_the_pipeline():
    paths: list[str] = []

    async def app(scope, receive, send):
        paths.append(scope["path"])
        await asyncio.sleep(0)
        await respond(send, headers=[(b"connection", b"close")] if scope["path"] == "/2" else [])

    async with served(app, b"".join(request("GET", f"/{n}") for n in range(1, 6))) as (_, client):
        assert [False, True] == [(await client.response()).closes for _ in range(2)]
        assert b"" == await client.rest()
        assert ["/1", "/2"] == paths


async def test_waiting_requests_end_with_their_client():
    paths: list[str] = []

    async def app(scope, receive, send):
        paths.append(scope["path"])
        assert {"type": "http.request", "body": b"", "more_body": False} == await receive()
        assert {"type": "http.disconnect"} == await receive()

    async with served(app, b"".join(request("GET", f"/{n}") for n in range(1, 6))) as (worker, client):
        await until(lambda: paths)
        client.close()
        # The worker does not read while requests wait, so it notices the end by its deadline or by writing.
        client.abort_at_the_worker()
        await until(lambda: not worker.connections)

        assert ["/1"] == paths
        assert 1 == worker.counts["STARTED"] == worker.counts["DISCONNECTS"]


# -- one write for the answers to one read -----------------------------------------------------------------------------


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before Python 3.12 an application never runs within the read")
@pytest.mark.parametrize(
    "last",
    [request("GET", "/last"), request("GET", "/last", "Connection: close"), b"BAD\r\n\r\n", b"GET /half"],
    ids=["a request", "a request that closes", "no request", "a part of one"],
)
async def test_responses_to_one_read_leave_in_two_writes(last):
    """The first one leaves at once, because mostly it is the only one; the others leave together."""
    async with served(mirror) as (_, client):
        writes = client.counted_writes()
        client.deliver(b"".join(request("GET", f"/{n}") for n in range(16)) + last)
        responses = [await client.response() for _ in range(16)]

        assert [mirrored("GET", f"/{n}") for n in range(16)] == [response.body for response in responses]
        assert [1, 15] == [write.count(b"GET /") - write.count(b"/last") for write in writes]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before Python 3.12 an application never runs within the read")
async def test_corked_responses_leave_before_an_abort():
    """A failing response does not discard the whole ones before it."""

    async def app(scope, receive, send):
        if scope["path"] == "/fail":
            await begin(send, b"half")
            raise RuntimeError("half way")
        await mirror(scope, receive, send)

    async with served(app) as (_, client):
        writes = client.counted_writes()
        client.deliver(request("GET", "/a") + request("GET", "/b") + request("GET", "/fail"))

        assert b"".join(writes).count(b" /b ") == 1
        assert client.is_closing
