"""Messages of an application become a response, and applications that break the protocol become errors."""

import asyncio
from typing import Any, cast

import h11
import pytest

from asgid.worker.http1.connection import Connection
from tests.worker.apps import body_of, mirror, mirrored, respond, responds
from tests.worker.client import request
from tests.worker.contract_cases import part, start
from tests.worker.event_loop import until
from tests.worker.worker import Worker, served

_START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}


END = {"type": "http.response.body"}


def sends(*messages: Any, waits: bool = False) -> Any:
    """Return an application that sends `messages`; an exception among them is raised."""

    async def app(scope, receive, send):
        for message in messages:
            if waits:
                await asyncio.sleep(0)
            if isinstance(message, BaseException):
                raise message
            await send(message)

    return app


LENGTH = (b"content-length", b"5")
# messages, method, HTTP minor, status, body, framing, closes
WHOLE: dict[str, tuple[list[Any], str, int, int, bytes, str, bool]] = {
    "a length of ours": ([start(), part(b"hello", more=False)], "GET", 1, 200, b"hello", "content-length", False),
    "an empty body": ([start(), END], "GET", 1, 200, b"", "content-length", False),
    "a length of its own": (
        [start(200, LENGTH), part(b"he"), part(b"llo"), END],
        "GET",
        1,
        200,
        b"hello",
        "content-length",
        False,
    ),
    "chunks": (
        [start(), part(b"he"), part(b""), part(b"llo"), END],
        "GET",
        1,
        200,
        b"hello",
        "transfer-encoding",
        False,
    ),
    "until the end, for 1.0": ([start(), part(b"he"), part(b"llo"), END], "GET", 0, 200, b"hello", "", True),
    "a length, for 1.0": (
        [start(200, LENGTH), part(b"hello", more=False)],
        "GET",
        0,
        200,
        b"hello",
        "content-length",
        False,
    ),
    "HEAD": ([start(200, LENGTH), part(b"hello", more=False)], "HEAD", 1, 200, b"", "content-length", False),
    "HEAD, streamed": ([start(), part(b"he"), part(b"llo"), END], "HEAD", 1, 200, b"", "", False),
    "HEAD, with less than its length": ([start(200, LENGTH), END], "HEAD", 1, 200, b"", "content-length", False),
    "204": ([start(204), END], "GET", 1, 204, b"", "", False),
    "204 with a body": ([start(204, LENGTH), part(b"hello", more=False)], "GET", 1, 204, b"", "", False),
    "304": ([start(304, LENGTH), END], "GET", 1, 304, b"", "content-length", False),
    "a status of no registry": ([start(299), END], "GET", 1, 299, b"", "content-length", False),
    "close": ([start(200, (b"Connection", b"Close")), END], "GET", 1, 200, b"", "content-length", True),
    "a framing that is not its own": (
        [start(200, (b"transfer-encoding", b"gzip"), (b"keep-alive", b"x")), END],
        "GET",
        1,
        200,
        b"",
        "content-length",
        False,
    ),
    "a large body": (
        [start(), part(b"x" * 100_000, more=False)],
        "GET",
        1,
        200,
        b"x" * 100_000,
        "content-length",
        False,
    ),
    "a large chunk": ([start(), part(b"x" * 100_000), END], "GET", 1, 200, b"x" * 100_000, "transfer-encoding", False),
    "bytes of other kinds": (
        [start(), part(bytearray(b"he")), part(memoryview(b"llo"), more=False)],
        "GET",
        1,
        200,
        b"hello",
        "transfer-encoding",
        False,
    ),
}


@pytest.mark.parametrize("waits", [False, True], ids=["an app that does not wait", "an app that waits"])
@pytest.mark.parametrize("case", WHOLE.values(), ids=WHOLE.keys())
async def test_a_response_has_exactly_one_framing(case, waits):
    """The connection is kept whenever the client can find the end of the body."""
    messages, method, minor, status, body, framing, closes = case
    async with Worker(sends(*messages, waits=waits)) as worker:
        client = await worker.connect(
            f"{method} / HTTP/1.{minor}\r\nHost: a\r\nConnection: keep-alive\r\n\r\n".encode()
        )
        response = await client.response(method)

        assert (status, body) == (response.status, response.body)
        assert ([framing] if framing else []) == [
            name for name in response.headers if name in {"content-length", "transfer-encoding"}
        ]
        if closes:
            assert b"" == await client.rest()
        else:
            await client.send(request(method))
            assert status == (await client.response(method)).status
        await until(lambda: not worker.running)
        assert len(worker.access_entries) == 2 - closes
        assert worker.counts.get("RESPONSE_BYTES", 0) == sum(size for *_, size, _ in worker.access_entries)


async def test_date_and_server_come_from_the_application_if_it_sends_them():
    async with served(sends(start(200, (b"Server", b"mine")), END), request()) as (_, client):
        head = await client.head()

    assert 1 == head.count(b"\r\ndate: ")
    assert 1 == head.lower().count(b"\r\nserver: ")
    assert b"\r\nServer: mine\r\n" in head


# Errors before anything was sent cause a 500; each is counted and logged once.
WRONG_BEFORE: dict[str, list[Any]] = {
    "raises": [ValueError("no")],
    "raises after the start": [start(), ValueError("no")],
    "returns": [],
    "returns after the start": [start()],
    "a body first": [END],
    "two starts": [start(), start()],
    "no such message": [{"type": "http.response.nothing"}],
    "no type": [{}],
    "a WebSocket's": [{"type": "websocket.accept"}],
    "an informational status": [start(101)],
    "no status": [start("200")],
    "a line feed in a value": [start(200, (b"a", b"b\nc: d"))],
    "a carriage return in a value": [start(200, (b"a", b"b\rc"))],
    "a NUL in a value": [start(200, (b"a", b"\0"))],
    "a colon in a name": [start(200, (b"a: b", b"c"))],
    "no name": [start(200, (b"", b"c"))],
    "a space after a name": [start(200, (b"a ", b"c"))],
    "text for bytes": [start(200, ("a", "b"))],
    "no number for a length": [start(200, (b"content-length", b"five"))],
    "two lengths": [start(200, LENGTH, (b"content-length", b"6"))],
    "a body that is text": [start(), {"type": "http.response.body", "body": "text"}],
    "too long at once": [start(200, LENGTH), part(b"hello!", more=False)],
    "too short at once": [start(200, LENGTH), part(b"hell", more=False)],
    "SystemExit": [SystemExit(1)],
    "KeyboardInterrupt": [KeyboardInterrupt()],
    "GeneratorExit": [GeneratorExit()],
    "CancelledError": [asyncio.CancelledError()],
    "a BaseException": [BaseException("no")],
}


@pytest.mark.parametrize(
    ("method", "name", "waits"),
    [
        *(("GET", name, waits) for name in WRONG_BEFORE for waits in (False, True)),
        *(("HEAD", name, False) for name in ("raises", "returns", "two starts")),
    ],
)
async def test_an_application_that_fails_before_its_response_causes_a_500(method, name, waits):
    """The client gets a whole response, the log one line, and the worker goes on."""
    async with served(sends(*WRONG_BEFORE[name], waits=waits), request(method)) as (worker, client):
        response = await client.response(method)

        assert (500, True) == (response.status, response.closes)
        assert b"" == await client.rest()
        assert 1 == worker.counts["EXCEPTIONS"] == worker.counts[f"{method} 500"]
        assert [("error", "application failed")] == [(line.level, line.event) for line in worker.lines]
        assert [500] == [status for _, _, status, _, _ in worker.access_entries]


WRONG_AFTER: dict[str, list[Any]] = {
    "raises": [start(), part(b"x"), ValueError("no")],
    "returns": [start(), part(b"x")],
    "too long": [start(200, LENGTH), part(b"hel"), part(b"lo!")],
    "too short": [start(200, LENGTH), part(b"hel"), END],
    "a start again": [start(), part(b"x"), start()],
    "SystemExit": [start(), part(b"x"), SystemExit(1)],
    "a BaseException": [start(), part(b"x"), BaseException("no")],
}


@pytest.mark.parametrize("waits", [False, True], ids=["an app that does not wait", "an app that waits"])
@pytest.mark.parametrize("messages", WRONG_AFTER.values(), ids=WRONG_AFTER.keys())
async def test_an_application_that_fails_within_its_response_aborts_it(messages, waits):
    """Half a response does not look whole."""
    async with served(sends(*messages, waits=waits), request()) as (worker, client):
        with pytest.raises(h11.RemoteProtocolError):
            await client.response()

        assert 1 == worker.counts["EXCEPTIONS"]
        assert [200] == [status for _, _, status, _, _ in worker.access_entries]
        assert [("error", "application failed")] == [(line.level, line.event) for line in worker.lines]


async def test_a_failure_after_the_response_is_only_logged():
    async with served(sends(start(), END, ValueError("late"))) as (worker, client):
        assert [200, 200] == [(await client.get()).status, (await client.get()).status]
        assert 2 == worker.counts["EXCEPTIONS"] == len(worker.lines)
        assert "ValueError: late" in str(worker.lines[0].fields["stack"])


async def test_a_message_after_the_end_raises_in_the_application():
    async with served(sends(start(), END, END)) as (worker, client):
        assert [200, 200] == [(await client.get()).status, (await client.get()).status]
        assert 2 == worker.counts["EXCEPTIONS"]
        assert "complete" in str(worker.lines[0].fields["stack"])


async def test_an_application_may_correct_an_invalid_message():
    async def app(scope, receive, send):
        await send(start(200, LENGTH))
        with pytest.raises(Exception, match="1 bytes longer"):
            await send(part(b"hello!", more=False))
        await send(part(b"hello", more=False))

    async with served(app) as (_, client):
        assert b"hello" == (await client.get()).body


async def test_work_after_the_response_does_not_delay_the_connection():
    release, done = asyncio.Event(), []

    async def app(scope, receive, send):
        await respond(send, scope["path"].encode())
        assert {"type": "http.disconnect"} == await receive()
        await release.wait()
        done.append(scope["path"])

    async with served(app) as (worker, client):
        assert b"/1" == (await client.get("/1")).body
        assert b"/2" == (await client.get("/2")).body
        assert not done
        assert 2 == len(worker.running)
        release.set()
        await until(lambda: ["/1", "/2"] == done)


# -- Expect: 100-continue ----------------------------------------------------------------------------------------------

_EXPECTS = request("POST", "/a", "Expect: 100-continue", "Content-Length: 3")


async def test_100_continue_is_sent_when_the_application_reads():
    """Before that the application may still reject the body."""
    read = asyncio.Event()

    async def app(scope, receive, send):
        await read.wait()
        await mirror(scope, receive, send)

    async with served(app, _EXPECTS) as (worker, client):
        await until(lambda: worker.running)
        worker.pass_time(61)  # beyond timeouts.body: the client is not late

        assert 0 == client.unsent_bytes
        assert not worker.counts.get("timeout body")
        read.set()
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == await client.head()
        worker.pass_time(59)
        await client.send(b"abc")
        response = await client.response()
        assert (mirrored("POST", "/a", b"abc"), False) == (response.body, response.closes)
        assert mirrored("GET", "/b") == (await client.get("/b")).body


@pytest.mark.parametrize("path", ["/never", "/late"])
async def test_no_100_continue_after_a_response(path):
    """The application did not read the body, so the connection closes."""

    async def app(scope, receive, send):
        await respond(send, b"no", 403)
        if path == "/late":
            assert {"type": "http.disconnect"} == await receive()

    async with served(app, _EXPECTS) as (_, client):
        response = await client.response()

        assert (403, True, ()) == (response.status, response.closes, response.informational)
        assert b"" == await client.rest()


async def test_100_continue_is_sent_until_a_part_of_the_response_has_left():
    """A start alone sends nothing. Without the 100 both sides would wait."""

    async def app(scope, receive, send):
        await send(_START)
        await send({"type": "http.response.body", "body": await body_of(receive)})

    async with served(app, _EXPECTS) as (_, client):
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == await client.head()
        await client.send(b"abc")
        response = await client.response()

        assert (b"abc", False) == (response.body, response.closes)


async def test_a_read_after_a_part_of_the_response_has_a_deadline():
    """A 100 can no longer be sent. A client that waits for it is aborted at its deadline."""
    seen: list[str] = []

    async def app(scope, receive, send):
        await send(_START)
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        seen.append((await receive())["type"])

    async with served(app, _EXPECTS) as (worker, client):
        assert b"connection: close" in await client.head()
        worker.pass_time(61)

        assert b"1\r\na\r\n" == await client.rest()
        await until(lambda: ["http.disconnect"] == seen)
        assert 1 == worker.counts["timeout body"]


async def test_a_client_that_sends_its_body_at_once_gets_no_100():
    async with served(mirror, _EXPECTS + b"abc") as (_, client):
        response = await client.response()

        assert (mirrored("POST", "/a", b"abc"), ()) == (response.body, response.informational)
        assert mirrored("GET", "/b") == (await client.get("/b")).body


async def test_an_expectation_without_a_body_keeps_the_connection():
    async with served(responds(), request("POST", "/", "Expect: 100-continue")) as (_, client):
        assert not (await client.response()).closes
        await client.send(request("POST", "/", "Expect: 100-continue", "Content-Length: 0"))
        assert not (await client.response()).closes


# -- the body is still coming ------------------------------------------------------------------------------------------


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, scope["path"].encode(), 403)


async def test_an_early_response_keeps_the_connection():
    async with served(refuse, request("POST", "/a", "Content-Length: 200000")) as (_, client):
        assert 403 == (await client.response()).status
        for _ in range(20):
            await client.send(b"x" * 10_000)

        assert b"/b" == (await client.get("/b")).body


async def test_an_early_response_to_a_large_body_closes_the_connection():
    """Closing is cheaper than reading; the client still gets its response."""
    async with served(refuse, request("POST", "/a", "Content-Length: 100000000")) as (worker, client):
        for _ in range(30):
            await client.send(b"x" * 10_000)

        assert 403 == (await client.response()).status
        assert b"" == await client.rest()
        worker.pass_time(3)
        await until(lambda: not worker.connections, "the end of the linger")


async def test_an_application_may_respond_while_it_reads():
    """Data flows in both directions."""

    async def app(scope, receive, send):
        await send(start())
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send(part(message["body"], more=more))

    async with served(app, request("POST", "/", "Transfer-Encoding: chunked")) as (_, client):
        head = b""
        for word in (b"one", b"two"):
            await client.send(b"3\r\n" + word + b"\r\n")
            head = head or await client.head()
            assert b"3\r\n" + word + b"\r\n" == await client.exactly(8)
        await client.send(b"0\r\n\r\n")

        assert b"0\r\n\r\n" == await client.exactly(5)
        assert b"transfer-encoding: chunked" in head


async def test_several_tasks_may_receive_at_once():
    got: list[str] = []

    async def app(scope, receive, send):
        await body_of(receive)
        messages = await asyncio.gather(receive(), receive(), receive())
        got.extend(message["type"] for message in messages)

    async with served(app, request()) as (worker, client):
        await until(lambda: worker.running)
        client.close()
        await until(lambda: ["http.disconnect"] * 3 == got)


async def test_an_endless_stream_does_not_block_the_loop():
    """Its client reads everything, so no send waits for it. Others and the disconnect still get their turn."""
    turns: list[str] = []

    async def app(scope, receive, send):
        asyncio.get_running_loop().call_soon(turns.append, "another's")
        await send(start())
        for _ in range(400):  # of what the kernel takes at once
            await send(part(bytes(1000)))
        turns.append("the stream's end")
        await send(END)

    async with served(app, request()) as (_, client):
        assert 400_000 == len((await client.response()).body)
        assert ["another's", "the stream's end"] == turns


async def test_an_unreported_reset_is_a_disconnect():
    """After the transport has closed and before connection_lost, send() drops parts, corked ones as well."""
    returned: list[bool] = []

    async def app(scope, receive, send):
        await send(start())
        await send(part(b"1"))
        await send(part(b"2"))  # corked
        for connection in worker.connections:
            cast("Connection", connection).transport.abort()
        await send(part(b"3"))
        returned.append(True)

    async with Worker(app) as worker:
        await worker.connect(request())
        await until(lambda: returned)

        assert not worker.lines


def _ring() -> Exception:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    return first


async def test_a_cycle_of_causes_does_not_block_the_worker():
    """The search for a disconnect among the causes of an error is bounded."""

    async def app(scope, receive, send):
        await body_of(receive)
        await receive()
        raise _ring()

    async with served(app, request()) as (worker, client):
        await until(lambda: worker.running)
        client.reset()
        await until(lambda: not worker.running)

        assert ["application failed"] == [line.event for line in worker.lines]


async def test_an_error_that_cannot_be_formatted_causes_a_500():
    """The traceback module raises on it; client and log still get a text."""
    place: Any = ("file", 1, "no number", "text")

    async with served(sends(SyntaxError("odd", place))) as (_, client):
        assert 500 == (await client.get()).status


async def test_a_response_to_head_has_no_body_if_middleware_changes_the_scope():
    """Some middleware turns HEAD into GET; the server's own 500 follows the request."""

    async def app(scope, receive, send):
        scope["method"] = "GET"
        raise ValueError("after that")

    async with served(app, request("HEAD")) as (_, client):
        assert (await client.rest()).endswith(b"\r\n\r\n")


async def test_an_error_without_a_readable_traceback_is_a_500():
    """The client gets its response if the log cannot format the error."""

    class UnreadableError(Exception):
        @property
        def __traceback__(self):  # type: ignore[override] # the point of this test
            raise RuntimeError("no traceback")

    async def app(scope, receive, send):
        raise UnreadableError

    async with served(app, request()) as (_, client):
        assert 500 == (await client.response()).status
