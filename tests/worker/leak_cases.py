"""Rounds of using a worker: after a thousand rounds it holds no more than after the first few.

A case is an application and a dialog, an async generator that yields after each round. Each round sends a path, a query
and two kilobytes of cookie that are unique, so any kept request shows as growth. `made` is a method of asgid that each
round calls: `test_leaks.py` keeps its arguments to prove that the case detects a leak.
"""

import asyncio
import threading
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias, cast

from asgid.config import parse
from asgid.errors import BootError
from asgid.log import Log
from asgid.worker.app import asgi1, wsgi
from asgid.worker.app.interface import ADAPTERS
from asgid.worker.app.lifespan import Lifespan
from asgid.worker.asgi import Application
from asgid.worker.http.exchange import Exchange
from asgid.worker.http1.connection import Connection
from asgid.worker.net.lingering_close import LingeringClose
from asgid.worker.net.proxy_protocol import ProxyProtocol
from asgid.worker.net.writer import Writer
from asgid.worker.websocket.protocol import WebSocketProtocol
from asgid.worker.websocket.session import WebSocketSession
from tests.worker.apps import accept, begin, body_of, never_receives, never_returns, respond
from tests.worker.client import Client, request
from tests.worker.event_loop import turns, until
from tests.worker.peer import handshake
from tests.worker.recorder import Recorder
from tests.worker.worker import Worker

Rounds: TypeAlias = AsyncGenerator[None, None]
Dialog: TypeAlias = Callable[[Worker], Rounds]

FILL = "x" * 2000
PIECE = bytes(65536)
LARGE = Path(__file__)  # more than leaves with its head in one write
SMALL = LARGE.with_name("peer.py")
END, LAST_CHUNK = b"<end>", b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Case:
    """An application, its dialog, and the method of asgid that every round calls."""

    app: Any
    dialog: Dialog
    made: tuple[type, str] = (Exchange, "__init__")
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)


# -- the client's part -------------------------------------------------------------------------------------------------


def asked(number: int, method: str = "GET", *headers: str, body: bytes = b"") -> bytes:
    return request(method, f"/{number}?n={number}", f"Cookie: n={number}{FILL}", *headers, body=body)


def upgrade(number: int, *headers: str) -> bytes:
    return handshake(f"/{number}?n={number}", f"Cookie: n={number}{FILL}", *headers)


def chunked(number: int, trailers: bytes = b"") -> bytes:
    chunk = b"%d%s" % (number, FILL.encode())
    return asked(number, "POST", "Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\n%s\r\n" % (
        len(chunk),
        chunk,
        trailers,
    )


async def read(client: Client, mark: bytes = END, times: int = 1) -> None:
    """Read until `mark` has come `times` times. AssertionError if the stream ends before."""
    data = b""
    while data.count(mark) < times:
        more = await client.receive()
        assert more, f"the stream ended after {data[-300:]!r}"
        data += more


def kept(
    make: Callable[[int], bytes] = asked, mark: bytes = END, times: int = 1, late: Callable[[int], bytes] | None = None
) -> Dialog:
    """Return rounds on one connection: send a request, read the response. `late` is sent after `mark` and also gets a
    response.
    """

    async def dialog(worker: Worker) -> Rounds:
        client = await worker.connect()
        number = 0
        while True:
            client.push(make(number))
            await read(client, mark, times)
            if late:
                client.push(late(number))
                await read(client)
            number += 1
            yield

    return dialog


async def gone(worker: Worker) -> None:
    await until(lambda: not worker.connections and not worker.running, "all of the round has gone")


def closes(client: Client) -> None:
    client.close()


def resets(client: Client) -> None:
    client.reset()


def half_closes(client: Client) -> None:
    client.half_close()


def each(
    make: Callable[[int], bytes],
    then: Callable[[Worker, Client], Awaitable[object]],
    end: Callable[[Client], None] = closes,
    *,
    tcp: bool = False,
) -> Dialog:
    """Return rounds of one connection each: send, do `then`, then `end`. The next round begins when nothing is left."""

    async def dialog(worker: Worker) -> Rounds:
        number = 0
        while True:
            client = await (worker.connect_tcp() if tcp else worker.connect())
            client.push(make(number))
            await then(worker, client)
            end(client)
            await gone(worker)
            client.close()
            number += 1
            yield

    return dialog


async def reads_all(worker: Worker, client: Client) -> None:
    await client.rest()


async def reads_answer(worker: Worker, client: Client) -> None:
    await read(client)


async def reads_head(worker: Worker, client: Client) -> None:
    await read(client, b"\r\n\r\n")


async def waits_for_call(worker: Worker, client: Client) -> None:
    await until(lambda: worker.running, "the application is called")


async def waits_for_connection(worker: Worker, client: Client) -> None:
    await until(lambda: worker.connections, "it is accepted")


async def half_closes_and_reads(worker: Worker, client: Client) -> None:
    client.half_close()
    await client.rest()


def passes(seconds: float, *, after: Callable[[Worker, Client], Awaitable[object]]) -> Callable[..., Awaitable[None]]:
    async def then(worker: Worker, client: Client) -> None:
        await after(worker, client)
        await turns(3)
        worker.pass_time(seconds)
        with suppress(ConnectionError):
            await client.rest()

    return then


def closing(number: int) -> bytes:
    return asked(number, "GET", "Connection: close")


# -- ASGI 3 ------------------------------------------------------------------------------------------------------------


async def responds(scope, receive, send):
    await body_of(receive)
    await respond(send, scope["path"].encode() + END)


async def streams(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-path", scope["path"].encode())]})
    for _ in range(3):
        await send({"type": "http.response.body", "body": scope["path"].encode(), "more_body": True})
    await send({"type": "http.response.body", "body": END})


async def streams_forever(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})


async def waits(scope, receive, send):
    while (await receive())["type"] == "http.request":
        pass


async def waits_in_two_tasks(scope, receive, send):
    await asyncio.gather(waits(scope, receive, send), waits(scope, receive, send))


async def begins_and_waits(scope, receive, send):
    await begin(send, END)
    await waits(scope, receive, send)


async def goes_on_behind(scope, receive, send):
    """Respond and go on, as a background task of Starlette does."""
    await respond(send, END)
    await asyncio.sleep(0)
    while (await receive())["type"] == "http.request":
        pass


async def responds_at_once(scope, receive, send):
    await respond(send, END)


async def sends_trailers(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
    await send({"type": "http.response.body", "body": END})
    await send({"type": "http.response.trailers", "headers": [(b"x-path", scope["path"].encode())]})


async def sends_hints(scope, receive, send):
    await send({"type": "http.response.early_hint", "links": [b"<%s>; rel=preload" % scope["raw_path"]]})
    await respond(send, END)


def sends_file(path: Path) -> Application:
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": str(path)})

    return app


def hands_over(opened: Callable[[], Any]) -> Application:
    async def app(scope, receive, send):
        with opened() as file:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.zerocopysend", "file": file})

    return app


def status(code: int) -> Application:
    async def app(scope, receive, send):
        await respond(send, status=code)

    return app


async def fails(scope, receive, send):
    raise ValueError(scope["path"])


async def fails_late(scope, receive, send):
    await begin(send, b"half")
    raise ValueError(scope["path"])


async def answers_nothing(scope, receive, send):
    return


async def is_cancelled(scope, receive, send):
    raise asyncio.CancelledError


async def polls(scope, receive, send):
    """Ask and cancel in the same turn of the loop, as `request.is_disconnected()` of Starlette does."""
    await body_of(receive)
    question = asyncio.ensure_future(receive())
    await asyncio.sleep(0)
    question.cancel()
    with suppress(asyncio.CancelledError):
        await question
    await respond(send, END)


async def polls_in_one_request(scope, receive, send):
    """Send a part of one response in each round, after a cancelled receive()."""
    await body_of(receive)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await receive()
        await send({"type": "http.response.body", "body": END, "more_body": True})


async def one_request(worker: Worker) -> Rounds:
    client = await worker.connect()
    client.push(asked(0))
    while True:
        await read(client)
        yield


class GivesUpWriting:
    """Each round is a `send()` that waits for the client and is cancelled."""

    async def app(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await self._given_up(send, PIECE * 9)
        while await self.rounds.get():
            await self._given_up(send, b"")
            self.rounds.task_done()

    async def _given_up(self, send, body):
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await send({"type": "http.response.body", "body": body, "more_body": True})

    async def dialog(self, worker: Worker) -> Rounds:
        self.rounds = asyncio.Queue[bool]()
        client = await worker.connect(send_buffer=4096)
        client.push(asked(0))
        await until(lambda: client.is_writing_paused)
        try:
            while True:
                self.rounds.put_nowait(True)
                await self.rounds.join()
                yield
        finally:
            self.rounds.put_nowait(False)


WRITES = GivesUpWriting()


# -- WebSockets --------------------------------------------------------------------------------------------------------


def frame(opcode: int, payload: bytes = b"", *, rsv1: bool = False, fin: bool = True) -> bytes:
    """Return a client's frame; its mask is zero."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
    return bytes([fin << 7 | rsv1 << 6 | opcode]) + length + bytes(4) + payload


def told(number: int) -> bytes:
    return b"%d%s" % (number, FILL.encode()) + END


def deflated(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
COMPRESSED = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
LEAVE = frame(CLOSE, (1000).to_bytes(2))
GOING = (1012).to_bytes(2) + b"service restart"


async def echoes(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept", "headers": [(b"x-path", scope["path"].encode())]})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def takes(scope, receive, send):
    """Respond to each message with a short one: a compressed one is readable as it is."""
    await accept(receive, send)
    while (await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": END})


async def floods(scope, receive, send):
    await accept(receive, send)
    while True:
        await send({"type": "websocket.send", "bytes": PIECE})


def closing_socket(*messages: dict[str, Any]) -> Application:
    async def app(scope, receive, send):
        await receive()
        for message in messages:
            await send(message)

    return app


async def fails_open(scope, receive, send):
    await accept(receive, send)
    raise ValueError(scope["path"])


async def polls_socket(scope, receive, send):
    """Receive each message after a `receive()` that was cancelled."""
    await accept(receive, send)
    while True:
        question = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        question.cancel()
        with suppress(asyncio.CancelledError):
            await question
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        await send({"type": "websocket.send", "bytes": END})


DENIAL = (
    {"type": "websocket.http.response.start", "status": 401, "headers": []},
    {"type": "websocket.http.response.body", "body": END},
)


def messages(make: Callable[[int], bytes], mark: bytes = END, *headers: str) -> Dialog:
    """Return rounds of one message each, over one WebSocket."""

    async def dialog(worker: Worker) -> Rounds:
        client = await worker.connect()
        client.push(upgrade(0, *headers))
        await client.head()
        number = 0
        while True:
            client.push(make(number))
            await read(client, mark)
            number += 1
            yield

    return dialog


def sockets(*steps: bytes | Callable[[Worker, Client], Awaitable[object]], headers: tuple[str, ...] = ()) -> Dialog:
    """Return rounds of one WebSocket each: send bytes, then call a function."""

    async def dialog(worker: Worker) -> Rounds:
        number = 0
        while True:
            client = await worker.connect()
            client.push(upgrade(number, *headers))
            await client.head()
            for step in steps:
                if isinstance(step, bytes):
                    client.push(step)
                else:
                    await step(worker, client)
            client.close()
            await gone(worker)
            number += 1
            yield

    return dialog


async def reads_anything(worker: Worker, client: Client) -> None:
    await client.receive()


async def cancels(worker: Worker, client: Client) -> None:
    worker.cancel_applications(500)


async def drains(worker: Worker, client: Client) -> None:
    await until(lambda: worker.websockets)
    worker.close_websockets()
    await read(client, GOING)


def lets_pass(*seconds: float) -> Callable[[Worker, Client], Awaitable[None]]:
    async def then(worker: Worker, client: Client) -> None:
        await until(lambda: worker.websockets)
        await turns(3)
        for each_s in seconds:
            worker.pass_time(each_s)
            await turns(3)

    return then


# -- the other interfaces ----------------------------------------------------------------------------------------------


def asgi2(app: Application) -> Application:
    def twice(scope):
        async def instance(receive, send):
            await app(scope, receive, send)

        return instance

    return ADAPTERS["asgi2"](twice, parse('app.target = "a:b"', ""))


def replies(message):
    message["reply_channel"].send({"status": 200, "content": message["path"].encode() + END})


async def replies_as_a_coroutine(message):
    await message["reply_channel"].send({"status": 200, "content": b"one", "more_content": True})
    message["reply_channel"].send({"content": END})


def replies_later(message):
    channel = message["reply_channel"]
    asyncio.get_running_loop().call_soon(channel.send, {"status": 200, "content": END})


def replies_from_a_thread(message):
    channel = message["reply_channel"]
    threading.Thread(target=channel.send, args=({"status": 200, "content": END},)).start()


def never_replies(message):
    return


def fails_to_reply(message):
    raise ValueError(message["path"])


async def reads_a_channel(message):
    more = "body_channel" in message
    while more:
        more = (await message["body_channel"].receive())["more_content"]
    message["reply_channel"].send({"status": 200, "content": END})


async def replies_forever(message):
    channel = message["reply_channel"]
    await channel.send({"status": 200, "content": PIECE, "more_content": True})
    while True:
        await channel.send({"content": PIECE, "more_content": True})


def large_upload(number: int) -> bytes:
    return asked(number, "POST", f"Content-Length: {(1 << 20) + 1}")


async def sends_large(worker: Worker, client: Client) -> None:
    await client.send(bytes((1 << 20) + 1))
    await read(client)


def in_threads(app: Any) -> Application:
    return wsgi.adapt(app, 2)


def says(parts: Callable[[str], Iterable[bytes]]) -> Application:
    def app(environ, start_response):
        start_response("200 OK", [("X-Path", environ["PATH_INFO"])])
        return parts(environ["PATH_INFO"])

    return in_threads(app)


def echo_body(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [body, END]


def writes(environ, start_response):
    write = start_response("200 OK", [])
    write(environ["PATH_INFO"].encode())
    return [END]


def fails_in_a_thread(environ, start_response):
    raise ValueError(environ["PATH_INFO"])


def fails_late_in_a_thread(environ, start_response):
    start_response("200 OK", [])
    yield b"half"
    raise ValueError(environ["PATH_INFO"])


class Endless:
    """A body without an end; `close` reports that its thread is about to be free."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __iter__(self):
        return self

    def __next__(self) -> bytes:
        return PIECE


class Slow:
    """An application in a thread that waits until its client has its 504."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)

    def __call__(self, environ, start_response):
        self.begun.release()
        try:
            self.go.acquire(timeout=30)
            start_response("200 OK", [])
            return [END]
        finally:
            self.ended.release()


def given_up_in_a_thread(slow: Slow) -> Dialog:
    async def then(worker: Worker, client: Client) -> None:
        await until(lambda: slow.begun.acquire(blocking=False), "it has a thread")
        worker.pass_time(4)
        await client.rest()
        slow.go.release()
        await until(lambda: slow.ended.acquire(blocking=False), "its thread is free")

    return each(asked, then)


SLOW = Slow()


# -- other dialogs -----------------------------------------------------------------------------------------------------


def overloaded(places: tuple[int, int, float], rounds: Dialog) -> Dialog:
    """Let one request run in the only place during all rounds."""

    async def dialog(worker: Worker) -> Rounds:
        worker.limit_requests(*places)
        first = await worker.connect()
        first.push(asked(0))
        await waits_for_call(worker, first)
        async for _ in rounds(worker):
            yield

    return dialog


def beside_the_first(make: Callable[[int], bytes], then: Callable[[Worker, Client], Awaitable[object]]) -> Dialog:
    """As `each`, beside a connection that stays open."""

    async def dialog(worker: Worker) -> Rounds:
        number = 0
        while True:
            client = await worker.connect()
            client.push(make(number))
            await then(worker, client)
            client.close()
            await until(lambda: len(worker.connections) == 1, "only the first is left")
            number += 1
            yield

    return dialog


async def waits_in_the_queue(worker: Worker, client: Client) -> None:
    await until(lambda: worker.queued_requests)


async def waits_too_long(worker: Worker, client: Client) -> None:
    await waits_in_the_queue(worker, client)
    worker.pass_time(2)
    await client.rest()


def behind(header: bytes, rest: Callable[[int], bytes], then: Callable[[Worker, Client], Awaitable[object]]) -> Dialog:
    async def dialog(worker: Worker) -> Rounds:
        number = 0
        while True:
            client = await worker.connect_behind(tcp=False)
            client.push(header + rest(number))
            await then(worker, client)
            client.close()
            await gone(worker)
            number += 1
            yield

    return dialog


async def starts_and_stops(scope, receive, send):
    await receive()
    scope["state"]["fill"] = FILL + str(id(scope))
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def fails_to_start(scope, receive, send):
    await receive()
    raise ValueError(FILL)


def lifespans(app: Application) -> Dialog:
    async def dialog(worker: Worker) -> Rounds:
        while True:
            lifespan = Lifespan(app, "auto", cast("Log", Recorder()))
            with suppress(BootError):
                await lifespan.startup()
            await lifespan.shutdown(10)
            yield

    return dialog


def nothing(number: int) -> bytes:
    return b""


def half_a_head(number: int) -> bytes:
    return asked(number)[:-2]


def half_a_body(number: int) -> bytes:
    return asked(number, "POST", "Content-Length: 100") + b"half"


def refused(number: int) -> bytes:
    return asked(number, "GET", "Host: another")


def too_large(number: int) -> bytes:
    return asked(number, "POST", "Content-Length: 1000")


def too_large_in_chunks(number: int) -> bytes:
    return asked(number, "POST", "Transfer-Encoding: chunked") + b"200\r\n" + bytes(512) + b"\r\n0\r\n\r\n"


def three(number: int) -> bytes:
    return asked(number) + asked(number, "POST", body=b"body") + asked(number)


def expects(number: int) -> bytes:
    return asked(number, "POST", "Expect: 100-continue", "Content-Length: 4")


_CONN, _SOCKET = (Connection, "__init__"), (WebSocketProtocol, "__init__")
_CALL, _ANSWER = (wsgi._Call, "__init__"), (asgi1._ReplyStream, "__init__")
_FAREWELL, _NEWS = (LingeringClose, "__init__"), (Exchange, "wait_for_event")
_LIMITS = {"limits": {"body": 500}}
_V1 = b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 443\r\n"

CASES: dict[str, Case] = {
    # requests on a kept connection
    "GET": Case(responds, kept()),
    "HEAD": Case(responds, kept(lambda number: asked(number, "HEAD"), b"\r\n\r\n")),
    "POST": Case(responds, kept(lambda number: asked(number, "POST", body=told(number)))),
    "POST in chunks": Case(responds, kept(chunked)),
    "POST with trailers": Case(responds, kept(lambda number: chunked(number, b"X-N: %d\r\n" % number))),
    "pipelined": Case(responds, kept(three, times=3)),
    "Expect": Case(responds, kept(expects, b"100 Continue\r\n\r\n", late=lambda number: b"body")),
    "a body that is not read": Case(responds_at_once, kept(lambda number: asked(number, "POST", body=told(number)))),
    "a stream": Case(streams, kept()),
    "trailers": Case(sends_trailers, kept(lambda number: asked(number, "GET", "TE: trailers"), b"\r\n\r\n", 2)),
    "early hints": Case(sends_hints, kept()),
    "a small file by path": Case(sends_file(SMALL), kept(mark=SMALL.read_bytes()[-40:])),
    "a large file by path": Case(sends_file(LARGE), kept(mark=LARGE.read_bytes()[-40:])),
    "an open file": Case(hands_over(lambda: LARGE.open("rb")), kept(mark=LARGE.read_bytes()[-40:])),
    "a file in memory": Case(hands_over(lambda: BytesIO(told(1))), kept(mark=LAST_CHUNK)),
    "204": Case(status(204), kept(mark=b"\r\n\r\n")),
    "work behind the answer": Case(goes_on_behind, kept()),
    "an empty application": Case(answers_nothing, each(asked, reads_all)),
    # cancelled receive()
    "receive() polled": Case(polls, kept(), _NEWS),
    "receive() polled within one request": Case(polls_in_one_request, one_request, (Exchange, "receive")),
    "receive() polled on a WebSocket": Case(polls_socket, messages(lambda number: frame(TEXT, told(number))), _NEWS),
    "send() given up": Case(WRITES.app, WRITES.dialog, (Writer, "drain")),
    # ends of a connection
    "Connection: close": Case(responds, each(closing, reads_all)),
    "close after the answer": Case(responds, each(asked, reads_answer)),
    "close before the answer": Case(waits, each(asked, waits_for_call)),
    "close before the answer, two tasks": Case(waits_in_two_tasks, each(asked, waits_for_call)),
    "close within the answer": Case(begins_and_waits, each(asked, reads_answer)),
    "close within an endless answer": Case(streams_forever, each(asked, reads_head)),
    "close within a file": Case(sends_file(LARGE), each(asked, reads_head)),
    "close within a body": Case(waits, each(half_a_body, waits_for_call)),
    "close within a head": Case(responds, each(half_a_head, waits_for_connection), _CONN),
    "half-close": Case(responds, each(asked, half_closes_and_reads)),
    "half-close before the answer": Case(waits, each(asked, waits_for_call, half_closes)),
    "half-close within the answer": Case(begins_and_waits, each(asked, reads_answer, half_closes)),
    "reset after the answer": Case(responds, each(asked, reads_answer, resets, tcp=True)),
    "reset before the answer": Case(waits, each(asked, waits_for_call, resets, tcp=True)),
    "reset within the answer": Case(streams_forever, each(asked, reads_head, resets, tcp=True)),
    "400": Case(responds, each(refused, reads_all), _FAREWELL),
    "413": Case(responds, each(too_large, reads_all), _FAREWELL, _LIMITS),
    "413 within chunks": Case(waits, each(too_large_in_chunks, reads_all), tables=_LIMITS),
    "header timeout": Case(responds, each(nothing, passes(11, after=waits_for_connection)), _CONN),
    "header timeout within a head": Case(responds, each(half_a_head, passes(11, after=waits_for_connection)), _CONN),
    "keep-alive timeout": Case(responds, each(asked, passes(100, after=reads_answer))),
    "body timeout": Case(waits, each(half_a_body, passes(100, after=waits_for_call))),
    "write timeout": Case(streams_forever, each(asked, passes(100, after=reads_head))),
    "request timeout": Case(
        never_returns, each(asked, passes(5, after=waits_for_call)), tables={"timeouts": {"request": "4s"}}
    ),
    "an error before the start": Case(fails, each(asked, reads_all)),
    "an error after the start": Case(fails_late, each(asked, reads_all)),
    "a cancelled application": Case(is_cancelled, each(asked, reads_all)),
    "503, no room": Case(waits, overloaded((1, 0, 1.0), beside_the_first(asked, reads_all))),
    "503, waited too long": Case(waits, overloaded((1, 9, 1.0), beside_the_first(asked, waits_too_long))),
    "close in the queue": Case(waits, overloaded((1, 9, 1.0), beside_the_first(asked, waits_in_the_queue))),
    # before the request
    "a PROXY header": Case(responds, behind(_V1, asked, reads_answer), (ProxyProtocol, "__init__")),
    "no PROXY header": Case(responds, behind(b"", asked, reads_all), (ProxyProtocol, "__init__")),
    "half a PROXY header": Case(responds, behind(_V1[:9], nothing, waits_for_connection), (ProxyProtocol, "__init__")),
    # WebSockets
    "messages": Case(echoes, messages(lambda number: frame(TEXT, told(number))), (WebSocketSession, "feed")),
    "compressed messages": Case(
        takes,
        messages(lambda number: frame(TEXT, deflated(told(number)), rsv1=True), END, COMPRESSED),
        (WebSocketSession, "feed"),
    ),
    "fragments": Case(
        echoes,
        messages(lambda number: frame(BINARY, told(number)[:9], fin=False) + frame(0, told(number)[9:])),
        (WebSocketSession, "feed"),
    ),
    "pings": Case(
        echoes, messages(lambda number: frame(PING, b"ping") + frame(TEXT, told(number))), (WebSocketSession, "feed")
    ),
    "a WebSocket that its client closes": Case(echoes, sockets(frame(TEXT, told(0)), reads_answer, LEAVE), _SOCKET),
    "a compressed WebSocket": Case(
        echoes,
        sockets(frame(TEXT, deflated(told(0)), rsv1=True), reads_anything, LEAVE, headers=(COMPRESSED,)),
        _SOCKET,
    ),
    "a WebSocket whose client vanishes": Case(echoes, sockets(waits_for_call), _SOCKET),
    "a WebSocket whose client reads nothing": Case(floods, sockets(waits_for_call, lets_pass(100)), _SOCKET),
    "a WebSocket that is not taken from": Case(
        never_receives, sockets(frame(TEXT, told(0)) * 40, waits_for_call, cancels), _SOCKET
    ),
    "a WebSocket that the application closes": Case(
        closing_socket({"type": "websocket.accept"}, {"type": "websocket.close"}), sockets(LEAVE, reads_all), _SOCKET
    ),
    "a WebSocket whose application returns": Case(
        closing_socket({"type": "websocket.accept"}), sockets(LEAVE, reads_all), _SOCKET
    ),
    "a WebSocket whose application fails": Case(fails_open, sockets(LEAVE, reads_all), _SOCKET),
    "a WebSocket that breaks the rules": Case(echoes, sockets(frame(3), reads_all), _SOCKET),
    "a message that is too long": Case(
        echoes, sockets(frame(TEXT, told(0)), reads_all), _SOCKET, {"websocket": {"max_message": 1024}}
    ),
    "a ping that is not answered": Case(echoes, sockets(lets_pass(21, 21), reads_all), _SOCKET),
    "a WebSocket of a worker that drains": Case(echoes, sockets(drains), _SOCKET),
    "a denied handshake": Case(closing_socket({"type": "websocket.close"}), each(upgrade, reads_all)),
    "a denial with a response": Case(closing_socket(*DENIAL), each(upgrade, reads_all)),
    "a handshake that is none": Case(echoes, each(lambda n: upgrade(n, "Sec-WebSocket-Version: 12"), reads_all)),
    # other interfaces
    "ASGI 2": Case(asgi2(responds), kept()),
    "ASGI 2, an error": Case(asgi2(fails), each(asked, reads_all)),
    "ASGI 2, close before the answer": Case(asgi2(waits), each(asked, waits_for_call)),
    "ASGI 2, a WebSocket": Case(asgi2(echoes), sockets(frame(TEXT, told(0)), reads_answer, LEAVE), _SOCKET),
    "ASGI 1": Case(asgi1.adapt(replies), kept(), _ANSWER),
    "ASGI 1, POST": Case(asgi1.adapt(replies), kept(lambda n: asked(n, "POST", body=told(n))), _ANSWER),
    "ASGI 1, a coroutine": Case(asgi1.adapt(replies_as_a_coroutine), kept(), _ANSWER),
    "ASGI 1, later": Case(asgi1.adapt(replies_later), kept(), _ANSWER),
    "ASGI 1, from a thread": Case(asgi1.adapt(replies_from_a_thread), kept(), _ANSWER),
    "ASGI 1, never": Case(asgi1.adapt(never_replies), each(asked, reads_all), _ANSWER),
    "ASGI 1, an error": Case(asgi1.adapt(fails_to_reply), each(asked, reads_all), _ANSWER),
    "ASGI 1, a body channel": Case(asgi1.adapt(reads_a_channel), each(large_upload, sends_large), _ANSWER),
    "ASGI 1, close within the answer": Case(asgi1.adapt(replies_forever), each(asked, reads_head), _ANSWER),
    "WSGI": Case(says(lambda path: [path.encode() + END]), kept(), _CALL),
    "WSGI, HEAD": Case(says(lambda path: [END]), kept(lambda n: asked(n, "HEAD"), b"\r\n\r\n"), _CALL),
    "WSGI, POST": Case(in_threads(echo_body), kept(lambda n: asked(n, "POST", body=told(n))), _CALL),
    "WSGI, a stream": Case(says(lambda path: iter([path.encode(), END])), kept(mark=LAST_CHUNK), _CALL),
    "WSGI, write()": Case(in_threads(writes), kept(mark=LAST_CHUNK), _CALL),
    "WSGI, an error": Case(in_threads(fails_in_a_thread), each(asked, reads_all), _CALL),
    "WSGI, an error after the start": Case(in_threads(fails_late_in_a_thread), each(asked, reads_all), _CALL),
    "WSGI, close within the answer": Case(says(Endless), each(asked, reads_head), _CALL),
    "WSGI, request timeout": Case(in_threads(SLOW), given_up_in_a_thread(SLOW), _CALL, {"timeouts": {"request": "3s"}}),
    # the lifespan
    "a lifespan": Case(responds, lifespans(starts_and_stops), (Lifespan, "__init__")),
    "a lifespan that fails": Case(responds, lifespans(fails_to_start), (Lifespan, "__init__")),
}
