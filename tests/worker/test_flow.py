"""Back-pressure in both directions, and the bound on the memory of one client."""

import asyncio

import pytest

from asgid.worker.http.context import HIGH_WATER
from tests.worker.apps import begin, body_of, respond, responds
from tests.worker.client import request
from tests.worker.event_loop import until
from tests.worker.worker import Worker, served

_READ = 262_144  # one read of the loop, at most


async def test_reading_pauses_if_the_application_reads_no_body():
    """Above the high-water mark the worker reads nothing; it goes on when the application reads."""
    read = asyncio.Event()

    async def app(scope, receive, send):
        await read.wait()
        await respond(send, str(len(await body_of(receive))).encode())

    async with served(app) as (worker, client):
        size = 8 << 20
        await client.send(request("POST", "/", f"Content-Length: {size}"))
        sent = asyncio.ensure_future(client.send(*[b"x" * 65_536] * (size // 65_536)))
        await until(lambda: client.is_reading_paused)
        for _ in range(100):
            await asyncio.sleep(0)

        assert client.received < HIGH_WATER + 2 * _READ
        worker.pass_time(61)  # beyond timeouts.body: the worker does not read
        assert not worker.counts.get("timeout body")
        read.set()
        assert str(size).encode() == (await client.response()).body
        await sent
        assert size == worker.counts["REQUEST_BYTES"]


async def test_a_paused_client_gets_its_whole_time_again():
    """The pause does not count against its deadline."""
    read, more = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        await read.wait()
        await receive()
        await more.wait()
        await respond(send, str(len(await body_of(receive))).encode())

    async with Worker(app, timeouts={"body": "60s"}) as worker:
        client = await worker.connect(request("POST", "/", f"Content-Length: {HIGH_WATER + 1}") + b"x" * HIGH_WATER)
        await until(lambda: client.is_reading_paused)
        worker.pass_time(59)
        read.set()
        await until(lambda: not client.is_reading_paused)
        worker.pass_time(59)
        assert not worker.counts.get("timeout body")
        await client.send(b"x")
        more.set()

        assert b"1" == (await client.response()).body


async def test_send_waits_for_a_client_that_does_not_read():
    """The worker holds at most the high-water mark and one message."""
    sent = 0
    chunk = b"x" * 16_384

    async def app(scope, receive, send):
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            sent += 1
        await send({"type": "http.response.body"})

    async with served(app, request(), send_buffer=4096) as (_, client):
        await until(lambda: client.is_writing_paused)
        for _ in range(100):
            await asyncio.sleep(0)

        assert sent < 40
        assert client.unsent_bytes <= 65_536 + 2 * len(chunk)
        assert 1000 * len(chunk) == len((await client.response()).body)


@pytest.mark.parametrize("requests", [20, 2000])
async def test_a_client_that_never_reads_cannot_fill_memory(requests):
    """A response waits for the earlier ones to be read, however many requests arrive."""
    large = b"x" * 300_000
    calls = 0

    async def app(scope, receive, send):
        nonlocal calls
        calls += 1
        await respond(send, large)

    async with served(app, send_buffer=4096) as (_, client):
        asking = request() * 20
        for _ in range(requests // 20):
            client.push(asking)
            for _ in range(5):
                await asyncio.sleep(0)
        await until(lambda: client.is_writing_paused)
        for _ in range(100):
            await asyncio.sleep(0)

        assert 1 == calls
        assert client.unsent_bytes <= len(large) + 1000
        assert client.is_reading_paused
        assert len(large) == len((await client.response()).body)
        assert len(large) == len((await client.response()).body)


async def test_every_waiting_request_is_served_when_the_client_reads():
    large = b"x" * 300_000

    async def app(scope, receive, send):
        await respond(send, large + scope["path"].encode())

    async with served(app, send_buffer=4096) as (_, client):
        for n in range(10):
            await client.send(request("GET", f"/{n}"))

        for n in range(10):
            assert (await client.response()).body.endswith(f"/{n}".encode())
        assert b"x/end" == (await client.get("/end")).body[-5:]


async def test_an_application_may_cancel_a_waiting_send():
    async def app(scope, receive, send):
        await begin(send, b"x" * 200_000)

    gave_up = asyncio.Event()

    async def impatient(scope, receive, send):
        sending = asyncio.ensure_future(app(scope, receive, send))
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        gave_up.set()
        await send({"type": "http.response.body", "body": b"end"})

    async with served(impatient, request(), send_buffer=4096) as (_, client):
        await gave_up.wait()

        assert b"x" * 200_000 + b"end" == (await client.response()).body


async def test_an_idle_connection_keeps_no_request():
    async with Worker(responds()) as worker:
        client = await worker.connect(request("POST", "/", body=b"x" * 50_000))
        await client.response()

        assert not client.has_exchange


async def test_parts_of_one_turn_leave_in_one_write():
    """Except the first one, which leaves at once. An application that waits between two parts delays neither."""
    step = asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        for part in (b"one", b"two", b"three"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await step.wait()
        await send({"type": "http.response.body", "body": b"four"})

    async with served(app) as (_, client):
        transport = client.mocked_transport()
        await client.send(request())
        written = transport.write.call_args_list
        await until(lambda: len(written) == 2, "the parts have left")

        assert b"one" in written[0].args[0]
        assert b"3\r\ntwo\r\n5\r\nthree\r\n" == written[1].args[0]
        step.set()

        assert b"onetwothreefour" == (await client.response()).body
