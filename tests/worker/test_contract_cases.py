"""Each case of the ASGI contract over a real connection; the request comes whole, byte by byte, and in random pieces.

The tests below the tables need a dialog: waiting, disconnects, several tasks.
"""

import asyncio
import random
from typing import Any

import pytest

from asgid.errors import AppError
from tests.worker.apps import body_of, keeps_scopes, respond
from tests.worker.client import Client
from tests.worker.contract_cases import (
    BODIES,
    CHUNKED,
    GET,
    OK,
    REFUSED,
    SCOPES,
    WRITTEN,
    bodiless,
    last,
    part,
    start,
    trailers,
)
from tests.worker.event_loop import until
from tests.worker.worker import Worker, served

_BARE = {"date_header": False, "server_header": ""}  # the response has only the application's fields


def pieces(data: bytes, way: str) -> list[bytes]:
    """Cut a request in the same way in each run."""
    if way == "whole":
        return [data]
    if way == "bytes":
        return [data[at : at + 1] for at in range(len(data))]
    places = sorted(random.Random(data).sample(range(1, len(data)), 5))
    return [data[at:end] for at, end in zip([0, *places], [*places, len(data)], strict=True)]


WAYS = ("whole", "bytes", "at random")


@pytest.mark.parametrize(("sent", "expected"), SCOPES.values(), ids=SCOPES.keys())
async def test_a_request_becomes_a_scope(sent, expected):
    scopes: list[Any] = []

    async with Worker(keeps_scopes(scopes)) as worker:
        for way in WAYS:
            client = await worker.connect(*pieces(sent, way))
            await client.head()

    assert len(WAYS) == len(scopes)
    for way, scope in zip(WAYS, scopes, strict=True):
        assert expected == {key: scope[key] for key in expected}, way
        assert [type(value) for value in expected.values()] == [type(scope[key]) for key in expected], way
        assert all((bytes, bytes) == (type(name), type(value)) for name, value in scope["headers"]), way


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("sent", "expected"), BODIES.values(), ids=BODIES.keys())
async def test_a_body_comes_in_request_messages_and_then_disconnects(sent, expected, way):
    messages: list[Any] = []

    async def app(scope, receive, send):
        while not messages or messages[-1]["more_body"]:
            messages.append(await receive())
        await respond(send)
        assert [{"type": "http.disconnect"}] * 2 == [await receive() for _ in range(2)]  # a third waits 1 s

    async with served(app, *pieces(sent, way)) as (worker, client):
        await client.head()
        await until(lambda: not worker.running)

        assert not worker.lines
    assert expected == b"".join(message["body"] for message in messages)
    assert {("body", bytes), ("more_body", bool), ("type", str)} == {
        (key, type(value)) for message in messages for key, value in message.items()
    }
    assert {"http.request"} == {message["type"] for message in messages}


@pytest.mark.parametrize("waits", [False, True], ids=["an app that does not wait", "an app that waits"])
@pytest.mark.parametrize("case", WRITTEN.values(), ids=WRITTEN.keys())
async def test_messages_become_exactly_these_bytes(case, waits):
    """The next request on the connection is served, or the connection is closed."""
    sent, messages, expected, is_kept = case

    async def app(scope, receive, send):
        for message in messages if scope["path"] == "/" else [start(), last(b"next")]:
            if waits:
                await asyncio.sleep(0)
            await send(message)

    async with served(app, sent, http=_BARE) as (worker, client):
        if is_kept:
            assert expected == await client.exactly(len(expected))
            assert b"next" == (await client.get("/next")).body
        else:
            assert expected == await client.rest()
        assert not worker.lines
        assert 1 + is_kept == len(worker.access_entries)


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
async def test_an_invalid_message_raises_an_error_that_names_it(case):
    """The client gets a 500, or a response that is not whole."""
    messages, words = case
    told: list[str] = []

    async def app(scope, receive, send):
        for message in messages[:-1]:
            await send(message)
        try:
            await send(messages[-1])
        except AppError as error:
            told.append(str(error))
            raise

    async with served(app, GET, http=_BARE) as (worker, client):
        response = await client.rest()
        has_begun = any(message["type"] == "http.response.body" for message in messages[:-1])

        assert 1 == len(told)
        assert words in told[0]
        if has_begun:
            assert response.startswith(OK)
            assert not response.endswith(b"0\r\n\r\n")
        else:
            assert response.startswith(b"HTTP/1.1 500 ")
        assert [200 if has_begun else 500] == [status for _, _, status, _, _ in worker.access_entries]
        assert 1 == worker.counts["EXCEPTIONS"] == len(worker.lines)


async def test_two_requests_share_no_mutable_object():
    scopes: list[Any] = []

    async with Worker(keeps_scopes(scopes)) as worker:
        worker.keep_lifespan_state({"pool": [7]})
        client, other = await worker.connect(), await worker.connect()
        for each in (client, client, other):
            await each.get()

    assert [{"pool": [7]}] * 3 == [scope["state"] for scope in scopes]
    assert 1 == len({id(scope["state"]["pool"]) for scope in scopes})  # a shallow copy
    for key in ("asgi", "headers", "extensions", "state"):
        assert 3 == len({id(scope[key]) for scope in scopes}), key
    assert 3 == len({id(scope) for scope in scopes})


async def test_receive_waits_after_the_body_until_the_client_leaves():
    """Then each call returns a disconnect, and sent messages are dropped (ASGI HTTP 2.3)."""
    seen: list[Any] = []

    async def app(scope, receive, send):
        await body_of(receive)
        waiting = asyncio.ensure_future(receive())
        for _ in range(10):
            await asyncio.sleep(0)
        seen.append(waiting.done())
        seen.extend([await waiting, await receive(), await receive()])
        for message in (start(), part(b"a"), last(), {"type": "http.response.early_hint", "links": []}):
            await send(message)

    async with served(app, GET, tcp=True) as (worker, client):
        await until(lambda: seen)
        client.reset()
        await until(lambda: not worker.running)

        assert [False, *[{"type": "http.disconnect"}] * 3] == seen
        assert not worker.lines


async def test_receive_waits_after_the_body_until_the_response_is_complete():
    """A task may wait in receive() while another one sends."""
    seen: list[Any] = []

    async def app(scope, receive, send):
        await body_of(receive)
        listening = asyncio.ensure_future(receive())
        await send(start(200, (b"content-length", b"2")))
        await send(part(b"a"))
        await asyncio.sleep(0)
        seen.append(listening.done())
        await send(last(b"b"))
        seen.append(await listening)

    async with served(app) as (_, client):
        assert b"ab" == (await client.get()).body
        await until(lambda: 2 == len(seen))
        assert [False, {"type": "http.disconnect"}] == seen


async def _chunk(client: Client, data: bytes) -> None:
    framed = b"%x\r\n%s\r\n" % (len(data), data)
    assert framed == await client.exactly(len(framed))


async def test_each_part_of_a_stream_leaves_at_once():
    """In a stream of events the application makes the next event when the client has the last one."""
    turns: asyncio.Queue[bytes] = asyncio.Queue()

    async def app(scope, receive, send):
        await send(start(200, (b"content-type", b"text/event-stream")))
        await send(part(b""))
        while event := await turns.get():
            await send(part(event))
        await send(last())

    async with served(app, GET, http=_BARE) as (_, client):
        assert b"transfer-encoding: chunked" in await client.head()
        for number in range(5):
            turns.put_nowait(b"data: %d\n\n" % number)
            await _chunk(client, b"data: %d\n\n" % number)
        turns.put_nowait(b"")

        assert b"0\r\n\r\n" == await client.exactly(5)


async def test_a_response_with_trailers_is_complete_after_the_last_trailer():
    """The end of the body does not complete it."""
    go, seen = asyncio.Event(), list[Any]()

    async def app(scope, receive, send):
        await body_of(receive)
        listening = asyncio.ensure_future(receive())
        await send(start(trailers=True))
        await send(last(b"a"))
        await go.wait()
        seen.append(listening.done())
        await send(trailers((b"x", b"1")))
        seen.append(await listening)

    async with served(app, bodiless(b"GET / HTTP/1.1", b"TE: trailers"), http=_BARE) as (worker, client):
        begun = CHUNKED + b"1\r\na\r\n"

        assert begun == await client.exactly(len(begun))
        assert not worker.access_entries
        go.set()
        assert b"0\r\nx: 1\r\n\r\n" == await client.exactly(11)
        await until(lambda: 2 == len(seen))
        assert [False, {"type": "http.disconnect"}] == seen
        assert [1] == [size for _, _, _, size, _ in worker.access_entries]


UNFINISHED = {
    "returns before the start": ([], b"HTTP/1.1 500 "),
    "returns after the start": ([start()], b"HTTP/1.1 500 "),
    "returns within the body": ([start(), part(b"a")], OK),
    "returns without its trailers": ([start(trailers=True), last(b"a")], OK),
    "raises before the start": ([ValueError("no")], b"HTTP/1.1 500 "),
    "raises after a hint": (
        [{"type": "http.response.early_hint", "links": [b"</a>"]}, ValueError("no")],
        b"HTTP/1.1 103 ",
    ),
    "raises within its trailers": ([start(trailers=True), last(b"a"), trailers(more=True), ValueError("no")], OK),
    "is cancelled by itself": ([asyncio.CancelledError()], b"HTTP/1.1 500 "),
}


@pytest.mark.parametrize(("messages", "begins"), UNFINISHED.values(), ids=UNFINISHED.keys())
async def test_an_unfinished_response_never_looks_whole(messages, begins):
    """The client gets a 500 if nothing was sent; otherwise the connection is aborted. The failure is logged once."""

    async def app(scope, receive, send):
        for message in messages:
            if isinstance(message, BaseException):
                raise message
            await send(message)

    async with served(app, GET + GET, http=_BARE) as (worker, client):
        response = await client.rest()

        assert response.startswith(begins)
        assert not response.endswith(b"0\r\n\r\n")
        assert (b" 500 " in response) == (begins != OK)
        assert 1 == worker.counts["EXCEPTIONS"] == len(worker.lines)


async def _read_out(client: Client) -> None:
    while await client.receive():
        pass


@pytest.mark.parametrize("has_left", [False, True], ids=["while it is made", "while it is taken"])
async def test_half_a_body_without_framing_ends_with_a_reset(has_left):
    """HTTP/1.0 has no other sign: an orderly close would be the end of the body."""

    async def app(scope, receive, send):
        await send(start())
        await send(part(b"x" * 5_000_000 if has_left else b"x"))
        raise ValueError("no")

    async with served(app, b"GET / HTTP/1.0\r\n\r\n", tcp=True, timeouts={"write": "30s"}) as (worker, client):
        if has_left:
            await until(lambda: client.is_writing_paused)
            worker.pass_time(31)
        with pytest.raises(ConnectionResetError):
            await _read_out(client)


async def test_half_a_chunked_body_ends_without_a_reset():
    """The client sees that the last chunk is missing; a reset would discard data on its way."""

    async def app(scope, receive, send):
        await send(start())
        await send(part(b"x"))
        raise ValueError("no")

    async with served(app, GET, tcp=True) as (worker, client):
        await _read_out(client)
        assert 1 == worker.counts["ABANDONED"]


async def test_work_after_the_last_part_does_not_delay_the_next_request():
    release = asyncio.Event()

    async def app(scope, receive, send):
        await send(start())
        await send(part(b"a"))
        await send(last(scope["path"].encode()))
        await release.wait()

    async with served(app) as (worker, client):
        assert [b"a/1", b"a/2"] == [(await client.get("/1")).body, (await client.get("/2")).body]
        assert 2 == len(worker.running)
        release.set()


@pytest.mark.parametrize("name", ["", "/tmp/asgid-contract", "\0asgid-contract"], ids=["unnamed", "a path", "abstract"])
async def test_the_addresses_of_a_unix_socket(name, tmp_path):
    """The server's address is its path without a port; a client has none, even if its socket is bound."""
    import os
    import socket

    scopes: list[Any] = []

    path = str(tmp_path / "server") if name.startswith("/") else name and f"{name}-{os.getpid()}"
    async with Worker(keeps_scopes(scopes)) as worker:
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as ours:
            listener.bind(path or str(tmp_path / "server"))
            listener.listen()
            if path:
                ours.bind(str(tmp_path / "client"))
            ours.connect(path or str(tmp_path / "server"))
            theirs, _ = listener.accept()
            client = await worker.connected(ours, theirs)
            await client.get()
        await until(lambda: not worker.connections)
    (scope,) = scopes

    assert scope["client"] is None
    assert (path or str(tmp_path / "server"), None) == scope["server"]


async def test_the_addresses_of_tcp():
    scopes: list[Any] = []

    async with served(keeps_scopes(scopes), tcp=True) as (_, client):
        await client.get()
        expected = client.ends

    assert expected == (scopes[0]["client"], scopes[0]["server"])
    assert [[str, int]] * 2 == [[type(each) for each in scopes[0][key]] for key in ("client", "server")]
