"""What is read beside the table of cases: what never ends, what is no request, what comes a thousand times."""

import asyncio
from typing import Any

import pytest

from asgid.board import QUEUED
from tests.worker.harness import Worker, on_a_loop, request, respond, tell, told, until

_CHUNKED = "Transfer-Encoding: chunked"


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
            if client.is_reading_stopped:
                break

        assert client.is_reading_stopped
        assert (await client.answer()).status in {400, 414, 431}


@on_a_loop
async def test_empty_lines_are_no_request():
    """They are read over (RFC 9112 section 2.2), and renew no deadline."""
    async with Worker(tell) as worker:
        client = await worker.connect()
        await client.get("/a")
        deadline = client.deadline
        await client.send(b"\r\n" * 100, b"\r\n" * 100)

        assert deadline == client.deadline
        assert told("GET", "/b") == (await client.get("/b")).body


@pytest.mark.parametrize("blank", [b"\r\n", b"\r"], ids=["an empty line", "half an empty line"])
@on_a_loop
async def test_an_idle_connection_ends_on_its_time_whatever_blanks_it_sends(blank):
    """Who sends an empty line now and then is idle all the same, and is told nothing."""
    async with Worker(tell, timeouts={"keep_alive": "30s", "header": "10s"}) as worker:
        client = await worker.connect()
        await client.get("/a")
        worker.pass_time(20)
        await client.send(blank)
        worker.pass_time(11)

        assert b"" == await client.rest()
        assert 1 == worker.counts["timeout keep_alive"]


@pytest.mark.parametrize("size", [10, 5000], ids=["remembered", "too large to be remembered"])
@on_a_loop
async def test_headers_that_are_sent_again_are_each_requests_own(size):
    """What an application does to the list it was given is not seen by the next request."""
    seen = []

    async def app(scope, receive, send):
        seen.append(list(scope["headers"]))
        scope["headers"].append((b"x-user", b"admin"))
        await tell(scope, receive, send)

    async with Worker(app) as worker:
        client = await worker.connect()
        for path in ("/a", "/a", "/b"):
            await client.send(request("GET", path, "A: " + "b" * size))
            assert told("GET", path) == (await client.answer()).body

        assert [[(b"host", b"test.invalid"), (b"a", b"b" * size)]] * 3 == seen


@on_a_loop
async def test_what_is_remembered_is_compared_whole():
    """A head that only begins like the last one, or is as long, is another."""
    seen = []

    async def app(scope, receive, send):
        seen.append((scope["method"], scope["path"], scope["headers"][1:]))
        await respond(send)

    async with Worker(app) as worker:
        client = await worker.connect()
        for lines in (["A: 1"], ["A: 1", "B: 2"], ["A: 2"], ["A: 1"], ["A: 1"]):
            await client.send(request("GET", "/", *lines))
            await client.answer()
        await client.send(request("HEAD", "/", "A: 1"))
        await client.answer("HEAD")

        one, two = (b"a", b"1"), (b"a", b"2")
        assert [[one], [one, (b"b", b"2")], [two], [one], [one], [one]] == [headers for _, _, headers in seen]
        assert ("HEAD", "/") == seen[-1][:2]


@on_a_loop
async def test_any_number_of_offers_may_come_at_once():
    """Each is declined by itself, however many one read brings."""
    async with Worker(tell) as worker:
        client = await worker.connect()
        offer = request("GET", "/a", "Connection: upgrade", "Upgrade: x")
        client.deliver(offer * 90)  # by itself: more than one read of a socket may bring

        assert [told("GET", "/a")] * 90 == [(await client.answer()).body for _ in range(90)]
        assert told("GET", "/b") == (await client.get("/b")).body


@pytest.mark.parametrize("before", [b"", request("GET"), request("HEAD")], ids=["first", "after GET", "after HEAD"])
@pytest.mark.parametrize("cut", [None, 20], ids=["whole", "cut"])
@on_a_loop
async def test_a_refusal_of_head_has_no_body(before, cut):
    """Also where the request never came as far as the application (RFC 9110 section 9.3.2)."""
    async with Worker(tell) as worker:
        client = await worker.connect()
        if before:
            await client.send(before)
            await client.answer("GET" if before.startswith(b"GET") else "HEAD")
        sent = b"HEAD / HTTP/1.1\r\nA: b\r\n\r\n"
        await client.send(sent[:cut], *([sent[cut:]] if cut else []))

        assert 400 == (await client.answer("HEAD")).status
        assert b"" == await client.rest()


@on_a_loop
async def test_a_refusal_of_what_is_no_head_request_has_a_body():
    """Whatever came before it."""
    async with Worker(tell) as worker:
        client = await worker.connect()
        await client.send(request("HEAD"))
        await client.answer("HEAD")
        await client.send(b"GARBAGE\r\n")

        assert (await client.answer()).body


@on_a_loop
async def test_a_refusal_is_logged_once_a_second():
    """With who sent it and why; the next line says how many were not logged."""
    async with Worker(tell) as worker:
        for late in (0, 0, 0, 2):
            worker.pass_time(late)
            client = await worker.connect_tcp()
            await client.send(b"GET / HTTP/1.1\r\n\r\n")
            address = client.address
            assert 400 == (await client.answer()).status
        first, second = worker.lines

        assert ("warning", "request refused", 0) == (first.level, first.event, first.fields["suppressed"])
        assert ("malformed", 400) == (first.fields["kind"], first.fields["status"])
        assert "there is no host header (RFC 9112 section 3.2)" == first.fields["reason"]
        assert (2, address) == (second.fields["suppressed"], second.fields["client"])


@on_a_loop
async def test_a_client_on_a_socket_file_has_no_address():
    """The line is written all the same."""
    async with Worker(tell) as worker:
        client = await worker.connect()
        await client.send(b"GARBAGE\r\n")
        assert 400 == (await client.answer()).status

        assert [None] == [line.fields["client"] for line in worker.lines]


@on_a_loop
async def test_offers_are_not_nested():
    """However many of them come in one read, they are no recursion."""
    async with Worker(tell) as worker:
        client = await worker.connect()
        offer = request("GET", "/", "Connection: upgrade", "Upgrade: x")
        client.deliver(offer * 5_000)

        assert [200] * 5_000 == [(await client.answer()).status for _ in range(5_000)]


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
@on_a_loop
async def test_a_request_that_is_refused_after_its_head_is_answered_like_another(sent, status, is_asked):
    """It has a method and a path: so it counts as a request, and has its line in the access log."""
    heard: list[Any] = []

    async def app(scope, receive, send):
        while True:
            heard.append((await receive())["type"])
            if heard[-1] == "http.disconnect":
                raise OSError("it is gone")

    async with Worker(app, limits={"body": 10}) as worker:
        client = await worker.connect()
        await client.send(sent)
        if is_asked:
            await until(lambda: heard == ["http.request"])
            worker.pass_time(61)
        answer = await client.answer()
        await until(lambda: not worker.running)

        assert (status, True) == (answer.status, answer.closes)
        assert ["http.request", "http.disconnect"] * is_asked == heard
        assert [("POST", "/")] == [(line.fields["method"], line.fields["path"]) for line in worker.lines]
        assert [("POST", "/", status, len(answer.body))] == [one[:4] for one in worker.answers]
        assert 1 == worker.counts["STARTED"] == worker.counts[f"POST {status}"]
        assert not worker.counts.keys() & {"ABANDONED", "DISCONNECTS", "EXCEPTIONS"}


@on_a_loop
async def test_who_is_refused_while_it_waits_for_a_place_leaves_the_waiting_room():
    """The next one in it has its turn."""
    go = asyncio.Event()

    async def app(scope, receive, send):
        await go.wait()
        await respond(send)

    async with Worker(app) as worker:
        worker.limit_requests(1, 2, 5.0)
        first, second, third = [await worker.connect() for _ in range(3)]
        await first.send(request())
        await until(lambda: worker.running)
        await second.send(request("POST", "/", "Transfer-Encoding: chunked"))
        await until(lambda: worker.row[QUEUED] == 1)
        await third.send(request())
        await until(lambda: worker.row[QUEUED] == 2)
        await second.send(b"x\r\n")

        assert 400 == (await second.answer()).status
        assert 1 == worker.row[QUEUED]
        go.set()
        assert [200, 200] == [(await first.answer()).status, (await third.answer()).status]
