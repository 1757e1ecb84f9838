"""Real applications with real clients: each framework is tested with each HTTP and WebSocket client."""

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

SendRequest: TypeAlias = Callable[[str, str, bytes | None, str], tuple[int, bytes]]
"""(method, url, body, content type) -> (status, body)."""


def by_httpx(method: str, url: str, body: bytes | None, kind: str) -> tuple[int, bytes]:
    with httpx.Client(trust_env=False, timeout=WITHIN_S) as client:
        answer = client.request(method, url, content=body, headers={"content-type": kind} if kind else {})
        return answer.status_code, answer.content


def by_aiohttp(method: str, url: str, body: bytes | None, kind: str) -> tuple[int, bytes]:
    async def send() -> tuple[int, bytes]:
        headers = {"content-type": kind} if kind else {}
        data = None if body is None else io.BytesIO(body)  # aiohttp warns about large bytes: it cannot split them
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, data=data, headers=headers) as answer,
        ):
            return answer.status, await answer.read()

    return asyncio.run(send())


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


SendMessages: TypeAlias = Callable[[str, list[Data]], list[Data]]
"""(url, messages) -> the reply to each message."""


def socket_by_websockets(url: str, messages: list[Data]) -> list[Data]:
    with connect(url, proxy=None) as socket:
        answers = []
        for message in messages:
            socket.send(message)
            answers.append(socket.recv(timeout=10))
        return answers


def socket_by_aiohttp(url: str, messages: list[Data]) -> list[Data]:
    async def send() -> list[Data]:
        async with aiohttp.ClientSession() as session, session.ws_connect(url, compress=15) as socket:
            answers = []
            for message in messages:
                await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
                answers.append((await socket.receive(timeout=10)).data)
            return answers

    return asyncio.run(send())


SOCKETS = {"websockets": socket_by_websockets, "aiohttp": socket_by_aiohttp}
CLIENTS = {"httpx": by_httpx, "aiohttp": by_aiohttp, "http.client": by_http_client, "curl": by_curl}


@dataclass(frozen=True)
class Framework:
    """The properties of a framework that differ between frameworks."""

    has_lifespan: bool = True
    passes_close_code: bool = True  #: a WebSocket handler receives the close code of the client
    closes: tuple[int, str] = (4001, "bye")  #: code and reason that a client receives after close(4001, "bye")
    quiet: tuple[str, ...] = ("quiet",)  #: routes of streams that have nothing to send, and a task after their end
    denial: tuple[int, bytes] | None = (403, b"")  #: its response to a rejected handshake, None if it cannot reject one


#: One application each, with the same routes: `tests/apps/in_NAME.py`.
FRAMEWORKS = {
    "starlette": Framework(quiet=("quiet", "behind", "sse"), denial=(401, b"who are you?")),
    "fastapi": Framework(denial=(401, b'{"detail":"who are you?"}')),
    "litestar": Framework(),
    "quart": Framework(passes_close_code=False, denial=(401, b"who are you?")),
    # It never waits for a disconnect, and it accepts a WebSocket before the handler runs.
    "sanic": Framework(passes_close_code=False, closes=(1000, ""), quiet=(), denial=None),
    "falcon": Framework(quiet=()),  # it checks for a disconnect between two events, and never waits for one
    "django": Framework(has_lifespan=False),
}


@dataclass(frozen=True)
class Served:
    """A daemon with one worker and one application, and the files that connect the application with the test."""

    framework: Framework
    daemon: Daemon
    gate: Path
    background: Path
    farewell: Path


def env(files: Path) -> dict[str, str]:
    """Return the environment with the paths of the files that an application waits for or creates."""
    return {name: str(files / name.lower()) for name in ("GATE", "BACKGROUND", "FAREWELL")}


@pytest.fixture(scope="module", params=FRAMEWORKS)
def served(request: pytest.FixtureRequest, start_shared: Start, tmp_path_factory) -> Iterator[Served]:
    """Serve one framework after the other. Each stops with 0, runs its shutdown, and logs no error."""
    framework, files = FRAMEWORKS[request.param], tmp_path_factory.mktemp(request.param)
    daemon = start_shared(f"in_{request.param}:application", workers={"count": 1}, app={"env": env(files)})
    served = Served(framework, daemon, files / "gate", files / "background", files / "farewell")
    yield served
    served.gate.touch()

    assert 0 == daemon.stop()
    assert framework.has_lifespan == served.farewell.exists()
    assert [] == daemon.log_events(level="error")


@pytest.mark.parametrize("send_request", CLIENTS.values(), ids=CLIENTS.keys())
def test_every_client_understands_every_framework(served: Served, send_request: SendRequest) -> None:
    """They exchange text, JSON, a form with a file of 1 MiB, a plain body of 1 MiB, and a 404."""
    url = served.daemon.url

    hello = send_request("GET", f"{url}/hello", None, "")
    status, double = send_request("POST", f"{url}/double", b'{"number": 21}', JSON)
    form = send_request("POST", f"{url}/upload", MULTIPART, "multipart/form-data; boundary=edge")
    raw = send_request("POST", f"{url}/raw", MIB, "application/octet-stream")
    missing = send_request("GET", f"{url}/nowhere", None, "")

    assert hello == (200, b"hello")
    assert (status, json.loads(double)) == (200, {"twice": 42})
    assert form == (200, str(len(MIB)).encode())
    assert raw == (200, str(len(MIB)).encode())
    assert missing[0] == 404


def test_pieces_of_a_stream_arrive_as_they_are_sent(served: Served) -> None:
    """The application sends a piece only after the test has received the last one and has requested `/next`."""
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
    """The response is complete while the task still waits for the test. Then the task ends too."""
    with Client(served.daemon.address()) as client:
        answer = client.get("/background")
        assert answer.body == b"answered"
        assert not served.background.exists()
        assert client.get("/hello").body == b"hello"

        served.gate.touch()
        eventually(served.background.exists)


@pytest.mark.parametrize("served", [name for name in FRAMEWORKS if FRAMEWORKS[name].has_lifespan], indirect=True)
def test_each_request_gets_the_state_of_the_startup(served: Served) -> None:
    """A framework may keep it in a place of its own instead of in `state` of the scope."""
    assert b"from startup" == get(served.daemon.address(), "/state").body


def test_server_sent_events_arrive_and_end_with_their_reader(served: Served) -> None:
    """The events of an endless stream arrive one by one. The application notices when the client disconnects."""
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
    """The generator ends, and the framework runs its tasks after the response, although nothing calls `send()`.

    The same is true in Starlette behind a BaseHTTPMiddleware, and with the response class of sse-starlette.
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
    """Yield a WebSocket that is a member of the room: the welcome message has arrived."""
    with connect(f"ws://{served.daemon.address()}/chat", proxy=None) as socket:
        assert "welcome" == socket.recv(timeout=10)
        yield socket


def gone(served: Served) -> list[str]:
    """Return the ends of streams and WebSockets, as the application noticed them: a close code, "left" or a path."""
    return get(served.daemon.address(), "/gone").body.decode().split()


@pytest.mark.parametrize("send_messages", SOCKETS.values(), ids=SOCKETS.keys())
def test_messages_come_back_as_they_were_sent(served: Served, send_messages: SendMessages) -> None:
    """Text comes back as text, bytes as bytes: short, long, in other scripts, compressed if the client offers it."""
    texts: list[Data] = ["hello", "", "grüße, 你好 🙂", "long " * 50_000]
    octets: list[Data] = [b"\0\xff", MIB]

    assert texts == send_messages(f"ws://{served.daemon.address()}/echo", texts)
    assert octets == send_messages(f"ws://{served.daemon.address()}/bytes", octets)


def test_a_chat_message_reaches_all_members(served: Served) -> None:
    """All members receive each message, in the same order. A member that leaves does not delay the others."""
    with chat(served) as first, chat(served) as second:
        first.send("is anybody there?")
        assert ["is anybody there?"] * 2 == [socket.recv(timeout=10) for socket in (first, second)]
        second.send("I am")
        assert ["I am"] * 2 == [socket.recv(timeout=10) for socket in (first, second)]
        with chat(served) as third:
            third.send("only passing")
            assert ["only passing"] * 3 == [socket.recv(timeout=10) for socket in (first, second, third)]
        eventually(lambda: "chat" in gone(served))  # until then it is a member, and a message to it is an error
        first.send("who was that?")

        assert "who was that?" == second.recv(timeout=10)


def test_a_subprotocol_is_negotiated(served: Served) -> None:
    """The application selects one that it supports from the offers of the client, or none."""
    for offered, agreed in {("chat.v1", "chat.v2"): "chat.v2", ("chat.v1",): None}.items():
        names = [Subprotocol(name) for name in offered]
        with connect(f"ws://{served.daemon.address()}/echo", subprotocols=names, proxy=None) as socket:
            assert agreed == socket.subprotocol


def test_an_application_closes_with_its_own_code(served: Served) -> None:
    """The client receives the code and the reason if the framework passes them on."""
    with connect(f"ws://{served.daemon.address()}/echo", proxy=None) as socket:
        socket.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)

    assert closed.value.rcvd
    assert served.framework.closes == (closed.value.rcvd.code, closed.value.rcvd.reason)


#: Close code in ASGI -> the last bytes of a client: a close frame with a code, one without a code, or nothing.
LAST_BYTES = {
    "4002": b"\x88\x82\0\0\0\0" + (4002).to_bytes(2),
    "3000": b"\x88\x82\0\0\0\0" + (3000).to_bytes(2),
    "1005": b"\x88\x80\0\0\0\0",
    "1006": b"",
}
UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}


@pytest.mark.parametrize("code", LAST_BYTES)
def test_an_application_receives_the_close_code_of_a_client(served: Served, code: str) -> None:
    """1005 stands for no code, 1006 for no close frame. Each code is used once: Channels also reports its own close."""
    before = len(gone(served))
    with Client(served.daemon.address()) as client:
        client.send(request("GET", "/echo", UPGRADE | {"Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg=="}))
        assert 101 == client.head().status
        client.send(LAST_BYTES[code])

    expected = code if served.framework.passes_close_code else "left"
    eventually(lambda: expected in gone(served)[before:])


@pytest.mark.parametrize("served", [name for name in FRAMEWORKS if FRAMEWORKS[name].denial], indirect=True)
def test_a_handshake_may_be_denied(served: Served) -> None:
    with pytest.raises(InvalidStatus) as denied, connect(f"ws://{served.daemon.address()}/denied", proxy=None):
        pass
    answer = denied.value.response

    assert served.framework.denial == (answer.status_code, answer.body if answer.status_code != 403 else b"")


def test_a_stop_closes_open_websockets_with_1012(served: Served) -> None:
    """The code 1012 means that the server restarts. This test is the last with the fixture: it stops the daemon."""
    with chat(served) as socket:
        served.daemon.signal("TERM")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)

    assert closed.value.rcvd
    assert 1012 == closed.value.rcvd.code


def test_a_stop_waits_for_background_tasks(start: Start, tmp_path: Path) -> None:
    """A task that a framework runs after the response is part of the request: after TERM it runs to its end."""
    timeouts = {"graceful": "5m"}
    daemon = start("in_starlette:application", workers={"count": 1}, app={"env": env(tmp_path)}, timeouts=timeouts)
    assert get(daemon.address(), "/background").body == b"answered"

    daemon.signal("TERM")
    eventually(lambda: daemon.log_events("stopping"))
    (tmp_path / "gate").touch()

    assert daemon.wait() == 0
    assert (tmp_path / "background").exists()


def test_middleware_compresses_files_by_default(start: Start) -> None:
    """With `http.sendfile` a file is sent without the middleware, and so it is not compressed."""
    daemon = start("compresses:application", workers={"count": 1})
    with Client(daemon.address()) as client:
        seen = client.get(**{"Accept-Encoding": "gzip"})
    daemon.configure(http={"sendfile": True})
    daemon.reload()
    eventually(lambda: daemon.log_events("worker exited"))  # until then the old worker accepts queued connections
    with Client(daemon.address()) as client:
        past = client.get(**{"Accept-Encoding": "gzip"})

    assert seen.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in past.headers
    assert gzip.decompress(seen.body) == past.body == (APPS / "compresses.py").read_bytes()
