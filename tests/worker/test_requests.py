"""Requests as bytes -> what the application is given and what the client is answered, however the bytes are cut up."""

import sys
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.worker.harness import Answer, Worker, cuts, on_a_loop, request, tell, tell_later, told

_CHUNKED = "Transfer-Encoding: chunked"
_UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")


@dataclass(frozen=True)
class Case:
    """`sent` is answered with `bodies`, in order, all 200; `closes` is whether the connection ends after them."""

    sent: bytes
    bodies: list[bytes]
    closes: bool = False
    methods: list[str] = field(default_factory=list)


SERVED = {
    "no body": Case(request("GET", "/a"), [told("GET", "/a")]),
    "a length": Case(request("POST", "/a", body=b"hello"), [told("POST", "/a", b"hello")]),
    "an empty body": Case(request("POST", "/a", "Content-Length: 0"), [told("POST", "/a")]),
    "chunks": Case(
        request("POST", "/a", _CHUNKED) + b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
        [told("POST", "/a", b"abc0123456789")],
    ),
    "chunk extensions": Case(
        request("POST", "/a", _CHUNKED) + b'3;name=value;other="x;y"\r\nabc\r\n0;last\r\n\r\n',
        [told("POST", "/a", b"abc")],
    ),
    "trailers": Case(
        request("POST", "/a", _CHUNKED) + b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n",
        [told("POST", "/a", b"abc")],
    ),
    "empty lines before it": Case(b"\r\n\r\n" + request("GET", "/a"), [told("GET", "/a")]),
    "close": Case(request("GET", "/a", "Connection: close"), [told("GET", "/a")], closes=True),
    "bytes after a close": Case(
        request("GET", "/a", "Connection: close") + request("GET", "/b"), [told("GET", "/a")], closes=True
    ),
    "1.0": Case(b"GET /a HTTP/1.0\r\n\r\n", [told("GET", "/a")], closes=True),
    "1.0 that keeps alive": Case(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", [told("GET", "/a")]),
    "1.0 that expects what it cannot know": Case(
        b"POST /a HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
        [told("POST", "/a", b"hi")],
    ),
    "a pipeline": Case(
        request("GET", "/a") + request("POST", "/b", body=b"xyz") + request("GET", "/c"),
        [told("GET", "/a"), told("POST", "/b", b"xyz"), told("GET", "/c")],
    ),
    "a pipeline that ends": Case(
        request("GET", "/a") + request("GET", "/b", "Connection: close"),
        [told("GET", "/a"), told("GET", "/b")],
        closes=True,
    ),
    "an offer to upgrade": Case(
        request("GET", "/a", *_UPGRADE) + request("GET", "/b"), [told("GET", "/a"), told("GET", "/b")]
    ),
    "an offer to upgrade, with a body": Case(
        request("POST", "/a", *_UPGRADE, body=request("GET", "/smuggled")) + request("GET", "/b"),
        [told("POST", "/a", request("GET", "/smuggled")), told("GET", "/b")],
    ),
    "an offer to upgrade, with chunks": Case(
        request("POST", "/a", *_UPGRADE, _CHUNKED) + b"3\r\nabc\r\n0\r\n\r\n" + request("GET", "/b"),
        [told("POST", "/a", b"abc"), told("GET", "/b")],
    ),
    "a tunnel": Case(
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n" + request("GET", "/smuggled"),
        [told("CONNECT", "a:1")],
        closes=True,
    ),
    "a method of no registry": Case(request("PURGE", "/a"), [told("PURGE", "/a")]),
    "the whole server": Case(request("OPTIONS", "*"), [told("OPTIONS", "*")]),
    "an absolute target": Case(request("GET", "http://test.invalid/a"), [told("GET", "/a")]),
    "expect, with the body at once": Case(
        request("POST", "/a", "Expect: 100-continue", body=b""), [told("POST", "/a")]
    ),
}
_WAYS = ["whole", "bytes", "cut"]


def _pieces(sent: bytes, way: str) -> list[list[bytes]]:
    all_ways = cuts(sent)
    return (
        [all_ways[way]] if way in all_ways else [pieces for name, pieces in all_ways.items() if name.startswith("at")]
    )


@pytest.mark.parametrize("app", [tell, tell_later], ids=["an app that does not wait", "an app that waits"])
@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize("case", SERVED.values(), ids=SERVED.keys())
@on_a_loop
async def test_a_request_is_served(case, way, app):
    """Each request is answered in its turn; then the connection takes the next one, or ends."""
    for pieces in _pieces(case.sent, way):
        async with Worker(app) as worker:
            client = await worker.connect()
            await client.send(*pieces)
            answers = [await client.answer() for _ in case.bodies]

            assert [(200, body) for body in case.bodies] == [(answer.status, answer.body) for answer in answers]
            if case.closes:
                assert b"" == await client.rest()
            else:
                assert told("GET", "/next") == (await client.get("/next")).body
            assert len(case.bodies) + (not case.closes) == len(worker.answers) == worker.row[_started()]


def _started() -> int:
    from asgid.board import STARTED

    return STARTED


_LIMITS: dict[str, Any] = {"request_line": "100B", "header_size": "200B", "header_count": 5, "body": "10B"}
_LONG = "x" * 150
REFUSED = {
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed"),
    "no version": (b"GET /\r\nHost: a\r\n\r\n", 505, "malformed"),
    "a bare line feed": (b"GET / HTTP/1.1\nHost: a\n\n", 400, "malformed"),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
    "a space before a colon": (b"GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", 400, "malformed"),
    "a folded line": (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", 400, "malformed"),
    "a NUL": (b"GET / HTTP/1.1\r\nHost: a\r\nA: \x00\r\n\r\n", 400, "malformed"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "malformed"),
    "HTTP/2": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "malformed"),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed"),
    "two lengths": (request("POST", "/", "Content-Length: 1", "Content-Length: 2"), 400, "malformed"),
    "a signed length": (request("POST", "/", "Content-Length: +1"), 400, "malformed"),
    "a length beyond all": (request("POST", "/", "Content-Length: " + "0" * 60 + "1"), 400, "framing"),
    "a length and chunks": (request("POST", "/", "Content-Length: 1", _CHUNKED), 400, "malformed"),
    "chunks and a length": (request("POST", "/", _CHUNKED, "Content-Length: 1"), 400, "malformed"),
    "an unknown coding": (request("POST", "/", "Transfer-Encoding: gzip, chunked"), 501, "framing"),
    "chunked twice": (request("POST", "/", _CHUNKED, _CHUNKED), 400, "malformed"),
    "1.0 with chunks": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "framing"),
    "no chunk size": (request("POST", "/", _CHUNKED) + b"x\r\n", 400, "malformed"),
    "a chunk longer than its size": (request("POST", "/", _CHUNKED) + b"1\r\nabc\r\n", 400, "malformed"),
    "a long target": (request("GET", "/" + _LONG), 414, "request_line"),
    "a long target without end": (b"GET /" + b"x" * 150, 414, "request_line"),
    "long headers": (request("GET", "/", f"A: {_LONG}", f"B: {_LONG}"), 431, "header_size"),
    "a long header without end": (request("GET", "/").removesuffix(b"\r\n") + b"A: " + b"x" * 500, 431, "header_size"),
    "many headers": (request("GET", "/", *("A: b",) * 6), 431, "header_count"),
    "many headers without end": (request("GET", "/", *("A: b",) * 6).removesuffix(b"\r\n"), 431, "header_count"),
    "a long body": (request("POST", "/", body=b"x" * 11), 413, "body_size"),
    "a long body in chunks": (
        request("POST", "/", _CHUNKED) + b"6\r\nabcdef\r\n5\r\nghijk\r\n0\r\n\r\n",
        413,
        "body_size",
    ),
    "a trailer without end": (
        request("POST", "/", _CHUNKED) + b"1\r\na\r\n0\r\nA: " + b"x" * 500,
        431,
        "header_size",
    ),
}
# Counted only where it is not complete after a read: in one piece these are still below what the parser may hold.
_ONLY_IN_PIECES = {"a long header without end", "a trailer without end"}


@pytest.mark.parametrize("app", [tell, tell_later], ids=["an app that does not wait", "an app that waits"])
@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize("name", REFUSED)
@on_a_loop
async def test_a_request_is_refused(name, way, app):
    """It is answered once and counted once, by its kind, and the connection ends; what came earlier has its answer."""
    sent, status, kind = REFUSED[name]
    if name in _ONLY_IN_PIECES and way != "bytes":
        way = "bytes"
    before = request("GET", "/before")
    for pieces in _pieces(sent, way):
        async with Worker(app, limits=_LIMITS) as worker:
            client = await worker.connect()
            await client.send(before)
            await client.send(*pieces)
            first, refusal = await client.answer(), await client.answer()

            assert (200, told("GET", "/before")) == (first.status, first.body)
            assert (status, True) == (refusal.status, refusal.closes)
            assert b"" == await client.rest()
            assert 1 == worker.counts[f"error {kind}"]
            assert 1 == sum(count for cell, count in worker.counts.items() if cell.startswith("error"))


@pytest.mark.parametrize("app", [tell, tell_later], ids=["an app that does not wait", "an app that waits"])
@pytest.mark.parametrize("name", [name for name in REFUSED if name not in _ONLY_IN_PIECES])
@on_a_loop
async def test_what_came_before_in_the_same_bytes_is_answered_first(name, app):
    """A refusal waits for its turn, also where the requests before it are not answered yet."""
    sent, status, kind = REFUSED[name]
    async with Worker(app, limits=_LIMITS) as worker:
        client = await worker.connect()
        await client.send(request("GET", "/1") + request("GET", "/2") + sent)
        answers = [await client.answer() for _ in range(3)]

        assert [200, 200, status] == [answer.status for answer in answers]
        assert b"" == await client.rest()
        assert 1 == worker.counts[f"error {kind}"]


async def _seen(sent: bytes) -> tuple[Any, Answer]:
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await tell(scope, receive, send)

    async with Worker(app) as worker:
        client = await worker.connect()
        await client.send(sent)
        answer = await client.answer()
    (scope,) = scopes
    return scope, answer


@on_a_loop
async def test_trailers_are_not_headers():
    """What comes after the body cannot pretend to have been looked at before it."""
    scope, answer = await _seen(request("POST", "/", _CHUNKED) + b"1\r\na\r\n0\r\nAuthorization: x\r\n\r\n")

    assert 200 == answer.status
    assert [(b"host", b"test.invalid"), (b"transfer-encoding", b"chunked")] == scope["headers"]


@on_a_loop
async def test_the_headers_of_a_declined_upgrade_are_the_clients():
    """The body is read by means of our own, which the application does not see."""
    scope, _ = await _seen(request("POST", "/", "Connection: upgrade", "Upgrade: h2c", body=b"abc"))

    assert [b"host", b"connection", b"upgrade", b"content-length"] == [name for name, _ in scope["headers"]]


@on_a_loop
async def test_header_limits_hold_whichever_is_the_smaller():
    """A header section over its limit is refused also where it is shorter than a request line may be."""
    async with Worker(tell, limits={"request_line": "8KiB", "header_size": "200B"}) as worker:
        client = await worker.connect()
        await client.send(request("GET", "/", "A: " + "x" * 300))

        assert 431 == (await client.answer()).status


@pytest.mark.parametrize(
    "sent",
    [
        request("POST", "/", _CHUNKED) + b"1\r\na\r\n0\r\nA: ",
        request("POST", "/", _CHUNKED) + b"1;",
        request("GET", "/").removesuffix(b"\r\n") + b"A: ",
        b"GET /",
    ],
    ids=["trailer", "chunk extension", "header", "target"],
)
@on_a_loop
async def test_nothing_is_read_for_ever(sent):
    """No part of the framing grows without end: the client is told, or the connection ends."""
    async with Worker(tell) as worker:
        client = await worker.connect()
        await client.send(sent)
        for _ in range(64):
            await client.send(b"x" * 1024)
            if client.server.is_deaf:
                break

        assert client.server.is_deaf
        assert (await client.answer()).status in {400, 414, 431}


@on_a_loop
async def test_empty_lines_are_no_request():
    """They are read over (RFC 9112 section 2.2), and renew no deadline."""
    async with Worker(tell) as worker:
        client = await worker.connect()
        await client.get("/a")
        deadline = client.server.deadline
        await client.send(b"\r\n" * 100, b"\r\n" * 100)

        assert deadline == client.server.deadline
        assert told("GET", "/b") == (await client.get("/b")).body


@on_a_loop
async def test_any_number_of_offers_may_come_at_once():
    """Each is declined by itself, however many one read brings."""
    async with Worker(tell) as worker:
        client = await worker.connect()
        offer = request("GET", "/a", "Connection: upgrade", "Upgrade: x")
        client.server.data_received(offer * 90)  # by itself: more than one read of a socket may bring
        client.server.received = 0

        assert [told("GET", "/a")] * 90 == [(await client.answer()).body for _ in range(90)]
        assert told("GET", "/b") == (await client.get("/b")).body


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before Python 3.12 each request waits, and only a hundred may")
@on_a_loop
async def test_offers_are_not_nested():
    """However many of them come in one read, they are no recursion."""
    async with Worker(tell) as worker:
        client = await worker.connect()
        offer = request("GET", "/", "Connection: upgrade", "Upgrade: x")
        client.server.data_received(offer * 60_000)
        client.server.received = 0

        statuses: list[int] = []
        is_last = False
        while not is_last:
            answer = await client.answer()
            statuses.append(answer.status)
            is_last = answer.closes

        # What the client has not taken by then makes the others wait, and of those there may be a hundred.
        assert [200] * (len(statuses) - 1) + [503] == statuses
        assert len(statuses) > 500
