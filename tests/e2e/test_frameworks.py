"""Applications as people write them, asked by the clients that people use: each framework with each client."""

import asyncio
import http.client
import io
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import aiohttp
import httpx
import pytest

from tests.client import Client, get, request
from tests.conftest import Start
from tests.daemon import Daemon, eventually

MIB = bytes(range(256)) * 4096
MULTIPART = (
    b'--edge\r\nContent-Disposition: form-data; name="file"; filename="bytes"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" + MIB + b"\r\n--edge--\r\n"
)
JSON = "application/json"

Ask: TypeAlias = Callable[[str, str, bytes | None, str], tuple[int, bytes]]
"""(method, url, body, content type) -> (status, body)."""


def by_httpx(method: str, url: str, body: bytes | None, kind: str) -> tuple[int, bytes]:
    with httpx.Client(trust_env=False) as client:
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
    connection = http.client.HTTPConnection(parts.host, parts.port or 80, timeout=10)
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
        timeout=20,
        check=True,
    )
    answer, _, status = done.stdout.rpartition(b"\n")
    return int(status), answer


CLIENTS = {"httpx": by_httpx, "aiohttp": by_aiohttp, "http.client": by_http_client, "curl": by_curl}


@dataclass(frozen=True)
class Framework:
    """What sets a framework apart from most."""

    has_lifespan: bool = True


#: One application each, with the same routes: `tests/apps/in_NAME.py`.
FRAMEWORKS = {
    "starlette": Framework(),
    "fastapi": Framework(),
    "litestar": Framework(),
    "quart": Framework(),
    "sanic": Framework(),
    "falcon": Framework(),
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


def test_what_startup_left_is_there_for_every_request(served: Served) -> None:
    """In the place that the framework has for it, which is not always the scope's `state`."""
    if not served.framework.has_lifespan:
        pytest.skip("it has no lifespan")

    assert b"from startup" == get(served.daemon.address(), "/state").body


def test_server_sent_events_arrive_and_end_with_their_reader(served: Served) -> None:
    """One after the other, of a stream without an end; when the browser's tab is closed the application hears of it."""
    assert b"events" not in get(served.daemon.address(), "/gone").body
    with httpx.Client(trust_env=False) as client, client.stream("GET", f"{served.daemon.url}/events") as answer:
        kind = answer.headers["content-type"]
        lines = (line for line in answer.iter_lines() if line)
        events = [next(lines) for _ in range(3)]

    assert "text/event-stream" == kind.partition(";")[0]
    assert ["data: 0", "data: 1", "data: 2"] == events
    eventually(lambda: b"events" in get(served.daemon.address(), "/gone").body)


def test_a_stop_waits_for_background_tasks(start: Start, tmp_path: Path) -> None:
    """A task that a framework runs after the response is part of the request: TERM lets it end."""
    daemon = start("in_starlette:application", workers={"count": 1}, app={"env": env(tmp_path)})
    assert get(daemon.address(), "/background").body == b"answered"

    daemon.signal("TERM")
    eventually(lambda: daemon.log_events("stopping"))
    (tmp_path / "gate").touch()

    assert daemon.wait() == 0
    assert (tmp_path / "background").exists()
