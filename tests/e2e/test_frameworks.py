"""Applications as people write them, asked by the clients that people use: each framework with each client."""

import asyncio
import gzip
import http.client
import io
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import aiohttp
import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Data, Subprotocol

from tests.client import Client, get, request
from tests.conftest import Start
from tests.daemon import APPS, WITHIN_S, Daemon, eventually

MIB = bytes(range(256)) * 4096
MULTIPART = (
    b'--edge\r\nContent-Disposition: form-data; name="file"; filename="bytes"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" + MIB + b"\r\n--edge--\r\n"
)
JSON = "application/json"

Ask: TypeAlias = Callable[[str, str, bytes | None, str], tuple[int, bytes]]
"""(method, url, body, content type) -> (status, body)."""


def by_httpx(method: str, url: str, body: bytes | None, kind: str) -> tuple[int, bytes]:
    with httpx.Client(trust_env=False, timeout=WITHIN_S) as client:
        answer = client.request(method, url, content=body, headers={"content-type": kind} if kind else {})
        return answer.status_code, answer.content


def by_aiohttp(method: str, url: str, body: bytes | None, kind: str) -> tuple[int, bytes]:
    async def ask() -> tuple[int, bytes]:
        headers = {"content-type": kind} if kind else {}
        data = None if body is None else io.BytesIO(body)  # of large bytes, which it cannot cut, aiohttp warns
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, data=data, headers=headers) as answer,
        ):
            return answer.status, await answer.read()

    return asyncio.run(ask())


def by_http_client(method: str, url: str, body: bytes | None, kind: str) -> tuple[int, bytes]:
    parts = httpx.URL(url)
    connection = http.client.HTTPConnection(parts.host, parts.port or 80, timeout=WITHIN_S)
    try:
        connection.request(method, parts.path, body, {"Content-Type": kind} if kind else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def by_curl(method: str, url: str, body: bytes | None, kind: str) -> tuple[int, bytes]:
    if not shutil.which("curl"):
        pytest.skip("curl is missing; Debian's package of that name brings it")
    data = ["--data-binary", "@-", "--header", f"Content-Type: {kind}"] if body is not None else []
    done = subprocess.run(
        [
            "curl",
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--request",
            method,
            *data,
            "--write-out",
            "\n%{http_code}",
            url,
        ],
        input=body,
        capture_output=True,
        timeout=WITHIN_S,
        check=True,
    )
    answer, _, status = done.stdout.rpartition(b"\n")
    return int(status), answer


Converse: TypeAlias = Callable[[str, list[Data]], list[Data]]
"""(url, what to send) -> what came back, one for one."""


def socket_by_websockets(url: str, messages: list[Data]) -> list[Data]:
    with connect(url, proxy=None) as socket:
        answers = []
        for message in messages:
            socket.send(message)
            answers.append(socket.recv(timeout=10))
        return answers


def socket_by_aiohttp(url: str, messages: list[Data]) -> list[Data]:
    async def converse() -> list[Data]:
        async with aiohttp.ClientSession() as session, session.ws_connect(url, compress=15) as socket:
            answers = []
            for message in messages:
                await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
                answers.append((await socket.receive(timeout=10)).data)
            return answers

    return asyncio.run(converse())


SOCKETS = {"websockets": socket_by_websockets, "aiohttp": socket_by_aiohttp}
CLIENTS = {"httpx": by_httpx, "aiohttp": by_aiohttp, "http.client": by_http_client, "curl": by_curl}


@dataclass(frozen=True)
class Framework:
    """What sets a framework apart from most."""

    has_lifespan: bool = True
    tells_code: bool = True  #: with which a client has closed, to a WebSocket's handler
    closes: tuple[int, str] = (4001, "bye")  #: what a client sees of a close(4001, "bye")
    quiet: tuple[str, ...] = ("quiet",)  #: its streams that have nothing to send, and a task after their end
    denial: tuple[int, bytes] | None = (403, b"")  #: its answer to a handshake that it does not want, where it has one


#: One application each, with the same routes: `tests/apps/in_NAME.py`.
FRAMEWORKS = {
    "starlette": Framework(quiet=("quiet", "behind", "sse"), denial=(401, b"who are you?")),
    "fastapi": Framework(denial=(401, b'{"detail":"who are you?"}')),
    "litestar": Framework(),
    "quart": Framework(tells_code=False, denial=(401, b"who are you?")),
    # It never listens for a disconnect, and it accepts a WebSocket before it asks.
    "sanic": Framework(tells_code=False, closes=(1000, ""), quiet=(), denial=None),
    "falcon": Framework(quiet=()),  # it looks for a disconnect between two events, and never waits for one
    "django": Framework(has_lifespan=False),
}


@dataclass(frozen=True)
class Served:
    """A framework's application under one worker, with the files through which it and the test speak."""

    framework: Framework
    daemon: Daemon
    gate: Path
    background: Path
    farewell: Path


def env(files: Path) -> dict[str, str]:
    """Return where an application finds its gate, and leaves its marks."""
    return {name: str(files / name.lower()) for name in ("GATE", "BACKGROUND", "FAREWELL")}


@pytest.fixture(scope="module", params=FRAMEWORKS)
def served(request: pytest.FixtureRequest, start_shared: Start, tmp_path_factory) -> Iterator[Served]:
    """Serve one framework after the other; each ends as it was told to, bids farewell, and complains of nothing."""
    framework, files = FRAMEWORKS[request.param], tmp_path_factory.mktemp(request.param)
    daemon = start_shared(f"in_{request.param}:application", workers={"count": 1}, app={"env": env(files)})
    served = Served(framework, daemon, files / "gate", files / "background", files / "farewell")
    yield served
    served.gate.touch()

    assert 0 == daemon.stop()
    assert framework.has_lifespan == served.farewell.exists()
    assert [] == daemon.log_events(level="error")


@pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS.keys())
def test_every_client_understands_every_framework(served: Served, ask: Ask) -> None:
    """Text, JSON, a form with a file of 1 MiB, 1 MiB as it is, and a page that is not there."""
    url = served.daemon.url

    hello = ask("GET", f"{url}/hello", None, "")
    status, double = ask("POST", f"{url}/double", b'{"number": 21}', JSON)
    form = ask("POST", f"{url}/upload", MULTIPART, "multipart/form-data; boundary=edge")
    raw = ask("POST", f"{url}/raw", MIB, "application/octet-stream")
    missing = ask("GET", f"{url}/nowhere", None, "")

    assert hello == (200, b"hello")
    assert (status, json.loads(double)) == (200, {"twice": 42})
    assert form == (200, str(len(MIB)).encode())
    assert raw == (200, str(len(MIB)).encode())
    assert missing[0] == 404


def test_pieces_of_a_stream_arrive_as_they_are_sent(served: Served) -> None:
    """The application yields the next piece only after the test, holding the last one, has asked for it."""
    with Client(served.daemon.address()) as client:
        client.send(request("GET", "/stream"))
        assert client.head().status == 200
        pieces = []
        for _ in range(3):
            pieces.append(client.chunk())
            assert get(served.daemon.address(), "/next").status == 200
        rest = list(iter(client.chunk, b""))

    assert pieces == [b"piece 0\n", b"piece 1\n", b"piece 2\n"]
    assert rest == []


def test_a_background_task_runs_after_its_response(served: Served) -> None:
    """The answer is whole while the task still waits for the test; then the task ends, too."""
    with Client(served.daemon.address()) as client:
        answer = client.get("/background")
        assert answer.body == b"answered"
        assert not served.background.exists()
        assert client.get("/hello").body == b"hello"

        served.gate.touch()
        eventually(served.background.exists)


@pytest.mark.parametrize("served", [name for name in FRAMEWORKS if FRAMEWORKS[name].has_lifespan], indirect=True)
def test_what_startup_left_is_there_for_every_request(served: Served) -> None:
    """In the place that the framework has for it, which is not always the scope's `state`."""
    assert b"from startup" == get(served.daemon.address(), "/state").body


def test_server_sent_events_arrive_and_end_with_their_reader(served: Served) -> None:
    """One after the other, of a stream without an end; when the browser's tab is closed the application hears of it."""
    assert b"events" not in get(served.daemon.address(), "/gone").body
    events_of = f"{served.daemon.url}/events"
    with httpx.Client(trust_env=False, timeout=WITHIN_S) as client, client.stream("GET", events_of) as answer:
        kind = answer.headers["content-type"]
        lines = (line for line in answer.iter_lines() if line)
        events = [next(lines) for _ in range(3)]

    assert "text/event-stream" == kind.partition(";")[0]
    assert ["data: 0", "data: 1", "data: 2"] == events
    eventually(lambda: b"events" in get(served.daemon.address(), "/gone").body)


@pytest.mark.parametrize("served", [name for name in FRAMEWORKS if FRAMEWORKS[name].quiet], indirect=True)
def test_a_stream_with_nothing_to_send_ends_with_its_reader(served: Served) -> None:
    """Its generator is ended, and the work runs that the framework does after a response. No send() is needed for it.

    In Starlette also behind a BaseHTTPMiddleware, and with the response class of sse-starlette.
    """
    for name in served.framework.quiet:
        with Client(served.daemon.address()) as client:
            client.send(request("GET", f"/{name}"))
            assert 200 == client.head().status
            assert b"hello" in client.chunk()
    for name in served.framework.quiet:
        eventually(lambda name=name: {f"{name}-ended", f"{name}-task"} <= set(gone(served)))  # type: ignore[misc] # a bool


# -- WebSockets


@contextmanager
def chat(served: Served) -> Iterator[ClientConnection]:
    """Enter the room, which one has only when the welcome has come."""
    with connect(f"ws://{served.daemon.address()}/chat", proxy=None) as socket:
        assert "welcome" == socket.recv(timeout=10)
        yield socket


def gone(served: Served) -> list[str]:
    """Return how the application has seen clients leave: an echo by code or "left", the others by their path."""
    return get(served.daemon.address(), "/gone").body.decode().split()


@pytest.mark.parametrize("converse", SOCKETS.values(), ids=SOCKETS.keys())
def test_messages_come_back_as_they_were_sent(served: Served, converse: Converse) -> None:
    """Text as text and bytes as bytes: short, long, in other scripts; compressed, where the client offers that."""
    texts: list[Data] = ["hello", "", "grüße, 你好 🙂", "long " * 50_000]
    octets: list[Data] = [b"\0\xff", MIB]

    assert texts == converse(f"ws://{served.daemon.address()}/echo", texts)
    assert octets == converse(f"ws://{served.daemon.address()}/bytes", octets)


def test_a_chat_reaches_everybody_in_the_room(served: Served) -> None:
    """Each hears what any of them says, in one order; who leaves holds up nobody."""
    with chat(served) as first, chat(served) as second:
        first.send("is anybody there?")
        assert ["is anybody there?"] * 2 == [socket.recv(timeout=10) for socket in (first, second)]
        second.send("I am")
        assert ["I am"] * 2 == [socket.recv(timeout=10) for socket in (first, second)]
        with chat(served) as third:
            third.send("only passing")
            assert ["only passing"] * 3 == [socket.recv(timeout=10) for socket in (first, second, third)]
        eventually(lambda: "chat" in gone(served))  # until then it is a member, and to speak to it is an error
        first.send("who was that?")

        assert "who was that?" == second.recv(timeout=10)


def test_a_subprotocol_is_agreed_on(served: Served) -> None:
    """The one that the application knows, of those that the client offers; none where it knows none."""
    for offered, agreed in {("chat.v1", "chat.v2"): "chat.v2", ("chat.v1",): None}.items():
        names = [Subprotocol(name) for name in offered]
        with connect(f"ws://{served.daemon.address()}/echo", subprotocols=names, proxy=None) as socket:
            assert agreed == socket.subprotocol


def test_an_application_closes_with_its_own_code(served: Served) -> None:
    """And its reason, where the framework passes them on."""
    with connect(f"ws://{served.daemon.address()}/echo", proxy=None) as socket:
        socket.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)

    assert closed.value.rcvd
    assert served.framework.closes == (closed.value.rcvd.code, closed.value.rcvd.reason)


#: What a client sends last, by hand: its close with a code, without one, or nothing; and what that is to ASGI.
LEAVES = {
    "4002": b"\x88\x82\0\0\0\0" + (4002).to_bytes(2),
    "3000": b"\x88\x82\0\0\0\0" + (3000).to_bytes(2),
    "1005": b"\x88\x80\0\0\0\0",
    "1006": b"",
}
UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}


@pytest.mark.parametrize("code", LEAVES)
def test_an_application_learns_how_a_client_left(served: Served, code: str) -> None:
    """Its code; 1005 stands for none, and 1006 for a connection that ended without a close.

    Channels tells of a close of its own as well, and late: here nobody else leaves with any of these codes.
    """
    before = len(gone(served))
    with Client(served.daemon.address()) as client:
        client.send(request("GET", "/echo", UPGRADE | {"Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg=="}))
        assert 101 == client.head().status
        client.send(LEAVES[code])

    expected = code if served.framework.tells_code else "left"
    eventually(lambda: expected in gone(served)[before:])


@pytest.mark.parametrize("served", [name for name in FRAMEWORKS if FRAMEWORKS[name].denial], indirect=True)
def test_a_handshake_may_be_denied(served: Served) -> None:
    """With a status of the application's own where its framework knows of that, else 403. Sanic denies none."""
    with pytest.raises(InvalidStatus) as denied, connect(f"ws://{served.daemon.address()}/denied", proxy=None):
        pass
    answer = denied.value.response

    assert served.framework.denial == (answer.status_code, answer.body if answer.status_code != 403 else b"")


def test_a_stop_closes_what_is_open_with_1012(served: Served) -> None:
    """The code for a server that restarts; the client is to come again. Last of all, for there is nothing after it."""
    with chat(served) as socket:
        served.daemon.signal("TERM")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)

    assert closed.value.rcvd
    assert 1012 == closed.value.rcvd.code


def test_a_stop_waits_for_background_tasks(start: Start, tmp_path: Path) -> None:
    """A task that a framework runs after the response is part of the request: TERM lets it end."""
    timeouts = {"graceful": "5m"}
    daemon = start("in_starlette:application", workers={"count": 1}, app={"env": env(tmp_path)}, timeouts=timeouts)
    assert get(daemon.address(), "/background").body == b"answered"

    daemon.signal("TERM")
    eventually(lambda: daemon.log_events("stopping"))
    (tmp_path / "gate").touch()

    assert daemon.wait() == 0
    assert (tmp_path / "background").exists()


def test_middleware_compresses_files_by_default(start: Start) -> None:
    """It does by default. With `http.sendfile` they go past it."""
    daemon = start("compresses:application", workers={"count": 1})
    with Client(daemon.address()) as client:
        seen = client.get(**{"Accept-Encoding": "gzip"})
    daemon.configure(http={"sendfile": True})
    daemon.reload()
    eventually(lambda: daemon.log_events("worker exited"))  # until then it takes who stood in the queue
    with Client(daemon.address()) as client:
        past = client.get(**{"Accept-Encoding": "gzip"})

    assert seen.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in past.headers
    assert gzip.decompress(seen.body) == past.body == (APPS / "compresses.py").read_bytes()
