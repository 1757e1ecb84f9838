"""Files as parts of a body: sent by the kernel, framed, counted, and aborted if they fail."""

import asyncio
import contextlib
import gzip
import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from asgid.errors import AppError
from tests.worker.client import request
from tests.worker.contract_cases import (
    CHUNKED,
    GET,
    HEAD,
    OK,
    OLD,
    OLD_KEPT,
    WANTS_TRAILERS,
    Message,
    bodiless,
    last,
    part,
    start,
    trailers,
)
from tests.worker.event_loop import until
from tests.worker.worker import Worker, served

LARGE = bytes(range(256)) * 12_000  # 3 MB: more than a socket buffer or one sendfile(2) takes
_BARE = {"date_header": False, "server_header": ""}
SMALL = b"0123456789"


def path(file: object) -> Message:
    return {"type": "http.response.pathsend", "path": file if isinstance(file, int | bytes) else str(file)}


def handed(file: object, **keys: Any) -> Message:
    return {"type": "http.response.zerocopysend", "file": file, **keys}


def length(size: int) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % size


def framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    file = tmp_path / "large"
    file.write_bytes(LARGE)
    return file


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "small"
    file.write_bytes(SMALL)
    return file


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


_LENGTH = b"content-length: %d\r\n" % len(LARGE)
#: request, messages of a file -> the bytes written without Date and Server, and whether the connection is kept.
PATHS: dict[str, tuple[bytes, Callable[[Path], list[Message]], bytes, bool]] = {
    "a length of ours": (GET, lambda it: [start(), path(it)], OK + _LENGTH + b"\r\n" + LARGE, True),
    "its length": (GET, lambda it: [start(200, length(len(LARGE))), path(it)], OK + _LENGTH + b"\r\n" + LARGE, True),
    "HEAD": (HEAD, lambda it: [start(200, length(len(LARGE))), path(it)], OK + _LENGTH + b"\r\n", True),
    "HEAD without a length": (HEAD, lambda it: [start(), path(it)], OK + _LENGTH + b"\r\n", True),
    "HEAD with trailers": (
        bodiless(b"HEAD / HTTP/1.1", b"TE: trailers"),
        lambda it: [start(trailers=True), path(it), trailers((b"x", b"1"))],
        OK + b"\r\n",
        True,
    ),
    "304": (GET, lambda it: [start(304), path(it)], b"HTTP/1.1 304 Not Modified\r\n\r\n", True),
    "1.0": (OLD, lambda it: [start(), path(it)], OK + _LENGTH + b"connection: close\r\n\r\n" + LARGE, False),
    "1.0, kept": (
        OLD_KEPT,
        lambda it: [start(), path(it)],
        OK + _LENGTH + b"connection: keep-alive\r\n\r\n" + LARGE,
        True,
    ),
    "trailers": (
        WANTS_TRAILERS,
        lambda it: [start(trailers=True), path(it), trailers((b"x", b"1"))],
        CHUNKED + framed(LARGE) + b"0\r\nx: 1\r\n\r\n",
        True,
    ),
}


_WARM = OK + b"content-length: 4\r\n\r\nnext"


async def _ask(worker: Worker, sent: bytes, expected: bytes, *, is_kept: bool) -> None:
    client = await worker.connect(sent)
    if is_kept:
        assert expected == await client.exactly(len(expected))
        assert b"next" == (await client.get("/next")).body
    else:
        assert expected == await client.rest()


def _sends(messages: Callable[[], list[Message]]) -> Any:
    async def app(scope, receive, send):
        for message in messages() if scope["path"] == "/" else [start(), last(b"next")]:
            await send(message)

    return app


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("case", PATHS.values(), ids=PATHS.keys())
def test_a_file_is_sent_by_its_path(case, large, loop):
    """Byte for byte; it is counted, no descriptor stays open, and the connection goes on."""
    sent, messages, expected, is_kept = case

    async def run() -> None:
        async with Worker(_sends(lambda: messages(large)), http=_BARE) as worker:
            await _ask(worker, bodiless(b"GET /warm HTTP/1.1"), _WARM, is_kept=True)
            before = _open_files()  # a loop opens some of its own for its first connection
            await asyncio.wait_for(_ask(worker, sent, expected, is_kept=is_kept), 20)

            size = len(LARGE) if LARGE in expected else 0
            assert [4, 4, size, 4][: 3 + is_kept] == [size for _, _, _, size, _ in worker.access_entries]
            assert sum(size for _, _, _, size, _ in worker.access_entries) == worker.counts.get("RESPONSE_BYTES", 0)
            assert not worker.lines
        await until(lambda: before >= _open_files(), "every descriptor is closed")

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


SMALL_CASES: dict[str, tuple[bytes, Callable[[Path], list[Message]], bytes]] = {
    "by its path": (GET, lambda it: [start(), path(it)], OK + b"content-length: 10\r\n\r\n" + SMALL),
    "by its path, for HEAD without a length": (
        HEAD,
        lambda it: [start(), path(it)],
        OK + b"content-length: 10\r\n\r\n",
    ),
    "by its path, for HEAD": (HEAD, lambda it: [start(200, length(10)), path(it)], OK + b"content-length: 10\r\n\r\n"),
    "nothing": (GET, lambda it: [start(), path(it.with_name("none"))], OK + b"content-length: 0\r\n\r\n"),
}


@pytest.mark.parametrize("case", SMALL_CASES.values(), ids=SMALL_CASES.keys())
async def test_a_small_file_leaves_with_its_head(case, small):
    sent, messages, expected = case
    small.with_name("none").touch()
    async with served(_sends(lambda: messages(small)), http=_BARE) as (_, client):
        writes = client.counted_writes()
        await client.send(sent)

        assert expected == await client.exactly(len(expected))
        assert [expected] == writes


async def test_a_relative_path_is_below_the_working_directory(large, monkeypatch):
    """The specification asks for an absolute path, but Starlette's FileResponse passes any path on."""
    monkeypatch.chdir(large.parent)
    async with served(FileResponse(large.name)) as (_, client):
        answer = await client.get()

    assert (200, LARGE) == (answer.status, answer.body)


WRONG_PATHS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda it: it / "missing", "No such file"),
    "a folder": (lambda it: it, "not a regular file"),
    "a FIFO": (lambda it: it / "fifo", "not a regular file"),
    "a device": (lambda it: "/dev/zero", "not a regular file"),
    "relative": (lambda it: "missing", "No such file"),
    "bytes": (lambda it: b"/large", "not text"),
    "a number": (lambda it: 5, "not text"),
    "a NUL": (lambda it: "/a\0b", "cannot be opened"),
}


@pytest.mark.parametrize("case", WRONG_PATHS.values(), ids=WRONG_PATHS.keys())
async def test_a_file_that_cannot_be_sent_raises_before_the_head(case, tmp_path):
    """The client gets a 500, or another response if the application catches the error."""
    find, words = case
    os.mkfifo(tmp_path / "fifo")
    told: list[str] = []

    async def app(scope, receive, send):
        await send(start())
        try:
            await send(path(find(tmp_path)))
        except AppError as error:
            told.append(str(error))
            if scope["path"] == "/":
                raise
        await send(last(b"instead"))

    async with served(app) as (_, client):
        assert b"instead" == (await client.get("/mended")).body
        assert 500 == (await client.get()).status
        assert 2 == len(told)
        assert words in told[0]


@pytest.mark.parametrize("promised", [-1, 1], ids=["shorter", "longer"])
@pytest.mark.parametrize("size", [10, len(LARGE)], ids=["small", "large"])
async def test_a_content_length_must_be_that_of_the_file(promised, size, small, large):
    file = small if size == 10 else large
    async with served(_sends(lambda: [start(200, length(size + promised)), path(file)])) as (worker, client):
        assert 500 == (await client.get()).status
        assert "content-length" in str(worker.lines[0].fields["stack"])


MIXED: dict[str, list[Callable[[Path], Message]]] = {
    "after a part": [lambda it: start(), lambda it: part(b"a"), path],
    "before a part": [lambda it: start(trailers=True), path, lambda it: part(b"a")],
    "before the start": [path],
    "twice": [lambda it: start(trailers=True), path, path],
}


@pytest.mark.parametrize("messages", MIXED.values(), ids=MIXED.keys())
async def test_a_path_is_a_whole_body(messages, large):
    async with served(_sends(lambda: [message(large) for message in messages]), GET) as (worker, client):
        await client.rest()

        assert 1 == len(worker.lines)
        assert "the response is " in str(worker.lines[0].fields["stack"])


async def test_requests_behind_a_file_are_served(large):
    async with served(_sends(lambda: [start(), path(large)]), send_buffer=4096, http=_BARE) as (_, client):
        following = bodiless(b"GET /next HTTP/1.1")
        await client.send(following + GET + following + GET)
        one = OK + _LENGTH + b"\r\n" + LARGE
        other = OK + b"content-length: 4\r\n\r\nnext"

        assert 2 * (other + one) == await client.exactly(2 * len(other + one))


async def test_no_part_of_a_file_is_in_memory(large):
    """The transport buffers nothing of it while the client does not read."""
    async with served(_sends(lambda: [start(), path(large)]), GET, send_buffer=4096) as (_, client):
        await until(lambda: client.is_writing_paused)

        assert 0 == client.unsent_bytes
        assert LARGE == (await client.response()).body


async def test_a_file_is_sent_after_the_data_before_it(large):
    """Even if the client has not read that data."""

    async def app(scope, receive, send):
        await send(start())
        sending = asyncio.ensure_future(send(part(b"x" * 300_000)))
        await asyncio.sleep(0)
        assert not sending.done()
        with large.open("rb") as file:
            await send(handed(file))
        await sending

    async with served(app, GET, send_buffer=4096) as (_, client):
        await until(lambda: client.is_writing_paused)

        assert b"x" * 300_000 + LARGE == (await client.response()).body


async def _stopped(worker: Worker) -> Any:
    """Return a client that has requested a file and stops after its first bytes."""
    client = await worker.connect(GET, send_buffer=4096)
    await until(lambda: client.is_writing_paused)
    return client


def _reports(file: Path, seen: list[object]) -> Any:
    """Return an application that sends a file and appends the error, or None."""

    async def app(scope, receive, send):
        await send(start())
        try:
            await send(path(file))
        except BaseException as error:
            seen.append(error)
            raise
        seen.append(None)

    return app


def logged_bytes(worker: Worker) -> int:
    """Return the body bytes in the only access line."""
    [(_, _, status, size, _)] = worker.access_entries

    assert 200 == status
    return size


async def test_a_client_that_reads_nothing_of_a_file_is_aborted(large):
    """After timeouts.write, which begins again with each read; the application's call goes on."""
    seen: list[object] = []
    async with Worker(_reports(large, seen), timeouts={"write": "30s"}) as worker:
        client, before = await _stopped(worker), _open_files()
        for _ in range(3):
            worker.pass_time(20)
            await client.exactly(400_000)
            await until(lambda: client.is_writing_paused)
        assert not worker.counts.get("timeout write")
        worker.pass_time(31)
        await until(lambda: not worker.running)

        assert 1 == worker.counts["timeout write"] == worker.counts["DISCONNECTS"]
        assert [None] == seen
        assert not worker.lines
        assert len(LARGE) > len(await client.rest())
        await until(lambda: before - 3 >= _open_files(), "the file's, the duplicate's and the transport's are closed")


async def test_a_client_that_leaves_within_a_file_is_a_disconnect(large):
    """send() returns, so background tasks after the response run; nothing is logged."""
    seen: list[object] = []
    async with Worker(_reports(large, seen)) as worker:
        client = await _stopped(worker)
        client.close()
        await until(lambda: not worker.running)

        assert [None] == seen
        assert 1 == worker.counts["DISCONNECTS"]
        assert not worker.lines
        assert 0 < logged_bytes(worker) < len(LARGE)


async def test_a_file_that_shrinks_aborts_its_response(large):
    seen: list[object] = []
    async with Worker(_reports(large, seen)) as worker:
        client = await _stopped(worker)
        os.truncate(large, len(LARGE) // 2)

        assert len(LARGE) > len(await client.rest())
        assert "short of its size" in str(seen[0])
        assert 1 == worker.counts["EXCEPTIONS"]
        assert len(LARGE) // 2 == logged_bytes(worker)


async def test_a_file_that_grows_is_sent_up_to_its_first_size(large):
    async with Worker(_sends(lambda: [start(), path(large)])) as worker:
        client = await _stopped(worker)
        with large.open("ab") as file:
            file.write(b"more")

        assert LARGE == (await client.response()).body
        assert b"next" == (await client.get("/next")).body


@pytest.mark.parametrize("promised", [(), (length(len(LARGE) + 5),)], ids=["chunks", "a length"])
async def test_no_other_message_is_accepted_while_a_file_is_sent(promised, large):
    """It would stand in the middle of the file. It does not count against a promised length."""

    async def app(scope, receive, send):
        await send(start(200, *promised))
        with large.open("rb") as file:
            sending = asyncio.ensure_future(send(handed(file, more_body=True)))
            await asyncio.sleep(0)
            with pytest.raises(AppError, match="sending"):
                await send(last(b"among"))
            with pytest.raises(AppError, match="sending"):
                await send(handed(file))
            await sending
        await send(last(b"after"))

    async with Worker(app) as worker:
        client = await _stopped(worker)

        assert LARGE + b"after" == (await client.response()).body


@pytest.mark.parametrize("by", ["the application", "timeouts.request"])
async def test_a_cancelled_file_aborts_its_response(by, large):
    waiting: list[asyncio.Future[None]] = []

    async def app(scope, receive, send):
        await send(start())
        waiting.append(asyncio.ensure_future(send(path(large))))
        with contextlib.suppress(asyncio.CancelledError):
            await waiting[0]

    async with Worker(app, timeouts={"request": "30s", "write": "60s"}) as worker:
        client = await _stopped(worker)
        if by == "the application":
            waiting[0].cancel()
        else:
            worker.pass_time(31)

        assert len(LARGE) > len(await client.rest())
        assert 0 < logged_bytes(worker) < len(LARGE)


#: messages of an open file -> the body, in chunks if nothing else is given.
HANDED: dict[str, tuple[Callable[[io.BufferedReader], list[Message]], bytes]] = {
    "all of it": (lambda it: [start(), handed(it)], LARGE),
    "a descriptor": (lambda it: [start(), handed(it.fileno())], LARGE),
    "from an offset": (lambda it: [start(), handed(it, offset=1_000_000)], LARGE[1_000_000:]),
    "a number of bytes": (lambda it: [start(), handed(it, count=1_000_000)], LARGE[:1_000_000]),
    "both": (lambda it: [start(), handed(it, offset=500_001, count=2_000_000)], LARGE[500_001:2_500_001]),
    "more than there is": (lambda it: [start(), handed(it, offset=3_000_000, count=1_000_000)], LARGE[3_000_000:]),
    "from beyond its end": (lambda it: [start(), handed(it, offset=4_000_000)], b""),
    "nothing": (lambda it: [start(), handed(it, count=0)], b""),
    "one after the other": (lambda it: [start(), handed(it, count=1_000_000, more_body=True), handed(it)], LARGE),
    "one after the other, by a descriptor": (
        lambda it: [start(), handed(it.fileno(), count=1_000_000, more_body=True), handed(it.fileno())],
        LARGE,
    ),
    "a few after the other": (
        lambda it: [start(), handed(it, count=3, more_body=True), handed(it, count=3)],
        LARGE[:6],
    ),
    "between parts": (lambda it: [start(), part(b"a"), handed(it, more_body=True), last(b"b")], b"a" + LARGE + b"b"),
    "between parts of a known length": (
        lambda it: [start(200, length(len(LARGE) + 2)), part(b"a"), handed(it, more_body=True), last(b"b")],
        b"a" + LARGE + b"b",
    ),
    "with an end of its own": (lambda it: [start(), handed(it, more_body=True), last()], LARGE),
    "with trailers": (lambda it: [start(trailers=True), handed(it), trailers((b"x", b"1"))], LARGE),
}


@pytest.mark.parametrize("sent", [GET, OLD], ids=["1.1", "1.0"])
@pytest.mark.parametrize("case", HANDED.values(), ids=HANDED.keys())
async def test_an_open_file_is_sent(case, sent, large):
    """Like its bytes in a message; it stays open for the application."""
    messages, body = case
    closed: list[bool] = []

    async def app(scope, receive, send):
        with large.open("rb") as file:
            for message in messages(file):
                await send(message)
            closed.append(file.closed)

    async with served(app, sent) as (worker, client):
        answer = await client.response()

        assert body == answer.body
        assert [len(body)] == [size for _, _, _, size, _ in worker.access_entries]
        await until(lambda: [False] == closed)
        assert not worker.lines


async def test_a_file_is_sent_from_its_position(large):
    """That of a buffered reader, not of its descriptor. Afterwards it is the end of the sent bytes."""
    told: list[int] = []

    async def app(scope, receive, send):
        with large.open("rb") as file:
            file.read(3)
            await send(start())
            await send(handed(file, count=100_000, more_body=True))
            told.append(file.tell())
            await send(last(file.read(3)))

    async with served(app) as (_, client):
        assert LARGE[3:100_006] == (await client.get()).body
        assert [100_003] == told


@pytest.mark.parametrize("count", [None, 50_000])
async def test_a_file_in_memory_is_read(count):
    """sendfile(2) cannot read it."""
    file = io.BytesIO(LARGE)
    message = handed(file, offset=7) if count is None else handed(file, count=count)
    async with served(_sends(lambda: [start(), message])) as (_, client):
        assert (LARGE[7:] if count is None else LARGE[:count]) == (await client.get()).body


async def test_a_pipe_is_read_as_it_fills():
    """Each part leaves at once, and the end of the pipe ends the body."""
    read, write = os.pipe()

    async def app(scope, receive, send):
        await send(start())
        await send(handed(read, more_body=True))
        await send(last(b"end"))

    async with served(app, GET, http=_BARE) as (worker, client):
        await until(lambda: worker.running)
        for word in (b"one", b"two"):
            os.write(write, word)
            assert (CHUNKED if word == b"one" else b"") + framed(word) == await client.exactly(
                len(framed(word)) + (len(CHUNKED) if word == b"one" else 0)
            )
        os.close(write)

        assert framed(b"end") + b"0\r\n\r\n" == await client.exactly(13)
    os.close(read)


async def test_a_device_is_read_up_to_its_count():
    """A loop cannot watch it, and it never blocks."""

    async def app(scope, receive, send):
        await send(start())
        await send(handed(device, count=100_000))

    device = os.open("/dev/zero", os.O_RDONLY)
    async with served(app) as (_, client):
        assert bytes(100_000) == (await client.get()).body
    os.close(device)


async def test_a_client_that_leaves_ends_the_wait_for_a_pipe():
    """Body that arrives meanwhile does not matter."""
    read, write = os.pipe()
    seen: list[str] = []

    async def app(scope, receive, send):
        await send(start())
        await send(handed(read))
        seen.append("it goes on")

    async with served(app, bodiless(b"POST / HTTP/1.1", b"Content-Length: 5") + b"a", tcp=True) as (worker, client):
        await until(lambda: worker.running)
        await client.send(b"b")
        client.reset()
        await until(lambda: seen)

        assert ["it goes on"] == seen
        assert not worker.lines
    os.close(read)
    os.close(write)


WRONG_FILES: dict[str, Callable[[Path], Message]] = {
    "no file": lambda it: {"type": "http.response.zerocopysend"},
    "a path": lambda it: handed(str(it)),
    "a descriptor that is closed": lambda it: handed(999_999),
    "an object that is closed": lambda it: handed(_closed(it)),
    "a negative offset": lambda it: handed(io.BytesIO(b"a"), offset=-1),
    "an offset beyond all files": lambda it: handed(io.BytesIO(b"a"), offset=2**64),
    "an offset of one too many": lambda it: handed(0, offset=2**63),
    "a count beyond all files": lambda it: handed(io.BytesIO(b"a"), count=2**64),
    "a count as text": lambda it: handed(io.BytesIO(b"a"), count="1"),
    "a file of text": lambda it: handed(io.StringIO("a")),
}


def _closed(path: Path) -> object:
    with path.open("rb") as file:
        return file


@pytest.mark.parametrize("message", WRONG_FILES.values(), ids=WRONG_FILES.keys())
async def test_an_object_that_is_not_an_open_file_raises(message, small):
    async with served(_sends(lambda: [start(), message(small)])) as (worker, client):
        assert 500 == (await client.get()).status
        assert "AppError" in str(worker.lines[0].fields["stack"])


@pytest.mark.parametrize("sent", [HEAD, bodiless(b"HEAD / HTTP/1.1", b"TE: trailers")])
async def test_a_file_is_not_read_for_a_response_without_body(sent):
    """An empty pipe does not delay the response to HEAD."""
    read, write = os.pipe()
    async with Worker(_sends(lambda: [start(), handed(read)]), http=_BARE) as worker:
        await _ask(worker, sent, OK + b"\r\n", is_kept=True)
    os.close(read)
    os.close(write)


async def test_starlette_sends_files_by_their_path(large):
    """FileResponse uses the announced extension: no byte of the file passes through the application."""
    kinds: list[str] = []

    async def app(scope, receive, send):
        async def noting(message: Any) -> None:
            kinds.append(message["type"])
            await send(message)

        await FileResponse(large, filename="it")(scope, receive, noting)

    async with served(app, http={"sendfile": True}) as (_, client):
        whole = await client.get()
        await client.send(HEAD)
        head = await client.response("HEAD")
        await client.send(bodiless(b"GET / HTTP/1.1", b"Range: bytes=10-99999"))
        piece = await client.response()

    assert LARGE == whole.body
    assert str(len(LARGE)) == whole.headers["content-length"] == head.headers["content-length"]
    assert (206, LARGE[10:100_000]) == (piece.status, piece.body)
    assert ["http.response.start", "http.response.pathsend", "http.response.start", "http.response.body"] == kinds[:4]


@pytest.mark.parametrize("by", [path, lambda it: handed(os.open(it, os.O_RDONLY))], ids=["path", "descriptor"])
async def test_a_file_that_reports_no_size_is_read_to_its_end(by):
    """Those of proc(5) report 0 bytes and have some."""
    version = Path("/proc/version")
    size, content = version.stat().st_size, version.read_bytes()  # noqa: ASYNC240 - in memory
    async with served(_sends(lambda: [start(), by(version)])) as (_, client):
        assert (0, content) == (size, (await client.get()).body)


async def test_an_empty_file_is_an_empty_body(tmp_path):
    """It has a length, although the server must read it like one of proc(5)."""
    (tmp_path / "it").touch()
    async with served(_sends(lambda: [start(), path(tmp_path / "it")])) as (_, client):
        answer = await client.get()

        assert (200, "0", b"") == (answer.status, answer.headers["content-length"], answer.body)


class _Holding:
    """Middleware that delays the start until the first part of the body, as brotli-asgi does."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        held: list[Any] = []

        async def holding(message: Any) -> None:
            if message["type"] == "http.response.start":
                held.append(message)
            elif message["type"] == "http.response.body":
                while held:
                    await send(held.pop())
                await send(message)

        await self._app(scope, receive, holding)


async def _join(request: Any, call_next: Any) -> Any:
    """Middleware that collects the whole body, to log it or to sign it."""
    response = await call_next(request)
    return Response(b"".join([part async for part in response.body_iterator]), response.status_code)


#: What stands before a file -> whether it compresses.
MIDDLEWARE: dict[str, tuple[Any, bool]] = {
    "that holds the start": (_Holding, False),
    "that reads bodies": (partial(BaseHTTPMiddleware, dispatch=_join), False),
    "that compresses": (GZipMiddleware, True),
}


@pytest.mark.parametrize("case", MIDDLEWARE.values(), ids=MIDDLEWARE.keys())
async def test_middleware_gets_the_bytes_of_a_file_by_default(case, tmp_path):
    """No extension for files is announced, so a static file passes through middleware."""
    make, compresses = case
    data = b"of a file " * 10_000
    (tmp_path / "it.js").write_bytes(data)
    async with Worker(make(StaticFiles(directory=tmp_path))) as worker:
        client = await worker.connect(request("GET", "/it.js", "Accept-Encoding: gzip"))
        answer = await client.response()

        assert (200, compresses) == (answer.status, "content-encoding" in answer.headers)
        assert data == (gzip.decompress(answer.body) if compresses else answer.body)
        assert not worker.lines


async def test_the_file_extensions_are_withdrawn_if_a_file_gets_lost(small):
    """With `http.sendfile` on: one 500 and one warning that names the setting; then every connection works."""
    async with Worker(_Holding(FileResponse(small)), http={"sendfile": True}) as worker:
        client, other = await worker.connect(), await worker.connect()
        statuses = [(await each.get()).status for each in (client, await worker.connect(), other)]

        assert [500, 200, 200] == statuses
        assert ["http.sendfile is off from now on in this worker", "application failed"] == [
            line.event for line in worker.lines
        ]
        assert "http.sendfile = false" in str(worker.lines[0].fields["reason"])


async def test_no_warning_about_files_without_the_setting():
    """It is for operators that have set `http.sendfile`."""

    async def app(scope, receive, send):
        """Return without a response."""

    async with served(app) as (worker, client):
        assert 500 == (await client.get()).status
        assert ["application failed"] == [line.event for line in worker.lines]
