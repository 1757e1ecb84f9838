"""Requests that a table of cases cannot hold: endless ones, and thousands of them."""

import asyncio
from typing import Any

import pytest

from asgid.board import QUEUED
from tests.worker.apps import after, mirror, mirrored, respond
from tests.worker.client import request
from tests.worker.event_loop import until
from tests.worker.worker import Worker, served

_CHUNKED = "Transfer-Encoding: chunked"


async def test_the_smaller_header_limit_holds():
    """A header section over its limit is rejected even if it is shorter than a request line may be."""
    async with Worker(mirror, limits={"request_line": "8KiB", "header_size": "200B"}) as worker:
        client = await worker.connect(request("GET", "/", "A: " + "x" * 300))

        assert 431 == (await client.response()).status


async def test_the_limit_of_a_body_in_chunks_counts_for_each_request():
    """The second body of a connection has the whole limit again."""
    sent = request("POST", "/", _CHUNKED) + b"6\r\n012345\r\n0\r\n\r\n"
    async with served(mirror, sent + sent, limits={"body": 10}) as (_, client):
        assert [200, 200] == [(await client.response()).status for _ in range(2)]


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
async def test_no_endless_input_is_read_forever(sent):
    """Each part of the framing has a bound: the client gets an error, or the connection ends."""
    async with served(mirror, sent) as (_, client):
        for _ in range(64):
            await client.send(b"x" * 1024)
            if client.is_reading_stopped:
                break

        assert client.is_reading_stopped
        assert (await client.response()).status in {400, 414, 431}


async def test_empty_lines_before_a_request_are_ignored():
    """They extend no deadline (RFC 9112 section 2.2)."""
    async with served(mirror) as (_, client):
        await client.get("/a")
        deadline = client.deadline
        await client.send(b"\r\n" * 100, b"\r\n" * 100)

        assert deadline == client.deadline
        assert mirrored("GET", "/b") == (await client.get("/b")).body


@pytest.mark.parametrize("blank", [b"\r\n", b"\r"], ids=["an empty line", "half an empty line"])
async def test_empty_lines_do_not_extend_the_idle_timeout(blank):
    """The client counts as idle, and gets no response."""
    async with served(mirror, timeouts={"keep_alive": "30s", "header": "10s"}) as (worker, client):
        await client.get("/a")
        worker.pass_time(20)
        await client.send(blank)
        worker.pass_time(11)

        assert b"" == await client.rest()
        assert 1 == worker.counts["timeout keep_alive"]


@pytest.mark.parametrize("size", [10, 5000], ids=["remembered", "too large to be remembered"])
async def test_each_request_has_its_own_list_of_headers(size):
    seen = []

    async def app(scope, receive, send):
        seen.append(list(scope["headers"]))
        scope["headers"].append((b"x-user", b"admin"))
        await mirror(scope, receive, send)

    async with served(app) as (_, client):
        for path in ("/a", "/a", "/b", "/c"):  # the cache holds the second head; the third and fourth come from it
            await client.send(request("GET", path, "A: " + "b" * size))
            assert mirrored("GET", path) == (await client.response()).body

        assert [[(b"host", b"test.invalid"), (b"a", b"b" * size)]] * 4 == seen


async def test_the_head_cache_compares_whole_heads():
    """A head with the same beginning or the same length is another one."""
    seen = []

    async def app(scope, receive, send):
        seen.append((scope["method"], scope["path"], scope["headers"][1:]))
        await respond(send)

    async with served(app) as (_, client):
        for lines in (["A: 1"], ["A: 1", "B: 2"], ["A: 2"], ["A: 1"], ["A: 1"]):
            await client.send(request("GET", "/", *lines))
            await client.response()
        await client.send(request("HEAD", "/", "A: 1"))
        await client.response("HEAD")

        one, two = (b"a", b"1"), (b"a", b"2")
        assert [[one], [one, (b"b", b"2")], [two], [one], [one], [one]] == [headers for _, _, headers in seen]
        assert ("HEAD", "/") == seen[-1][:2]


async def test_each_upgrade_offer_of_one_read_is_served():
    """However many offers one read brings."""
    async with served(mirror) as (_, client):
        offer = request("GET", "/a", "Connection: upgrade", "Upgrade: x")
        client.deliver(offer * 90)  # at once: more than one read of a socket may bring

        assert [mirrored("GET", "/a")] * 90 == [(await client.response()).body for _ in range(90)]
        assert mirrored("GET", "/b") == (await client.get("/b")).body


@pytest.mark.parametrize("before", [b"", request("GET"), request("HEAD")], ids=["first", "after GET", "after HEAD"])
@pytest.mark.parametrize("cut", [None, 20], ids=["whole", "cut"])
async def test_a_rejected_head_request_has_no_body(before, cut):
    """Even if the application was not called (RFC 9110 section 9.3.2)."""
    async with served(mirror) as (_, client):
        if before:
            await client.send(before)
            await client.response("GET" if before.startswith(b"GET") else "HEAD")
        sent = b"HEAD / HTTP/1.1\r\nA: b\r\n\r\n"
        await client.send(sent[:cut], *([sent[cut:]] if cut else []))

        assert 400 == (await client.response("HEAD")).status
        assert b"" == await client.rest()


async def test_a_rejected_other_request_has_a_body():
    async with served(mirror, request("HEAD")) as (_, client):
        await client.response("HEAD")
        await client.send(b"GARBAGE\r\n")

        assert (await client.response()).body


async def test_rejections_are_logged_once_a_second():
    async with Worker(mirror) as worker:
        for late in (0, 0, 0, 2):
            worker.pass_time(late)
            client = await worker.connect_tcp(b"GET / HTTP/1.1\r\n\r\n")
            address = client.address
            assert 400 == (await client.response()).status
        first, second = worker.lines

        assert ("warning", "request refused", 0) == (first.level, first.event, first.fields["suppressed"])
        assert ("malformed", 400) == (first.fields["kind"], first.fields["status"])
        assert "the host header is missing (RFC 9112 section 3.2)" == first.fields["reason"]
        assert (2, address) == (second.fields["suppressed"], second.fields["client"])


async def test_a_client_on_a_unix_socket_has_no_address():
    async with served(mirror, b"GARBAGE\r\n") as (worker, client):
        assert 400 == (await client.response()).status

        assert [None] == [line.fields["client"] for line in worker.lines]


async def test_upgrade_offers_are_not_nested():
    """Thousands of them in one read cause no recursion."""
    async with served(mirror) as (_, client):
        offer = request("GET", "/", "Connection: upgrade", "Upgrade: x")
        client.deliver(offer * 5_000)

        assert [200] * 5_000 == [(await client.response()).status for _ in range(5_000)]


# -- what is refused after its head ------------------------------------------------------------------------------------

_PIECE = b"5\r\nhello\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "is_asked"),
    [
        (request("POST", "/", "Content-Length: 11"), 413, False),
        (request("POST", "/", "Content-Length: 11", "Expect: 100-continue"), 413, False),
        (request("POST", "/", "Transfer-Encoding: chunked") + b"b\r\n", 413, False),
        (request("POST", "/", "Transfer-Encoding: chunked") + b"x\r\n", 400, False),
        (request("POST", "/", "Transfer-Encoding: chunked") + _PIECE, 408, True),
    ],
    ids=["too long", "too long, and it asks", "a chunk too long", "no chunk", "a body that stands still"],
)
async def test_a_request_rejected_within_its_body_is_counted(sent, status, is_asked):
    """It has a method and a path, so it counts as a request and has a line in the access log."""
    heard: list[Any] = []

    async def app(scope, receive, send):
        while True:
            heard.append((await receive())["type"])
            if heard[-1] == "http.disconnect":
                raise OSError("it is gone")

    async with served(app, sent, limits={"body": 10}) as (worker, client):
        if is_asked:
            await until(lambda: heard == ["http.request"])
            worker.pass_time(61)
        response = await client.response()
        await until(lambda: not worker.running)

        assert (status, True) == (response.status, response.closes)
        assert ["http.request", "http.disconnect"] * is_asked == heard
        assert [("POST", "/")] == [(line.fields["method"], line.fields["path"]) for line in worker.lines]
        assert [("POST", "/", status, len(response.body))] == [one[:4] for one in worker.access_entries]
        assert 1 == worker.counts["STARTED"] == worker.counts[f"POST {status}"]
        assert not worker.counts.keys() & {"ABANDONED", "DISCONNECTS", "EXCEPTIONS"}


async def test_a_request_rejected_in_the_queue_leaves_it():
    """The next one gets its turn."""
    go = asyncio.Event()

    async with Worker(after(go)) as worker:
        worker.limit_requests(1, 2, 5.0)
        first, second, third = [await worker.connect() for _ in range(3)]
        await first.send(request())
        await until(lambda: worker.running)
        await second.send(request("POST", "/", "Transfer-Encoding: chunked"))
        await until(lambda: worker.row[QUEUED] == 1)
        await third.send(request())
        await until(lambda: worker.row[QUEUED] == 2)
        await second.send(b"x\r\n")

        assert 400 == (await second.response()).status
        assert 1 == worker.row[QUEUED]
        go.set()
        assert [200, 200] == [(await first.response()).status, (await third.response()).status]
