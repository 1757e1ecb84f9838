"""WSGI applications under a real asgid: a plain function, Flask, Django; and requests when all threads are busy."""

import json
import time
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from tests.client import Answer, Client, get, in_thread, request
from tests.conftest import Start
from tests.daemon import WITHIN_S, Daemon, eventually

HELLO = """
def hello_world(environ, start_response):
    data = b"Hello, World!\\n"
    start_response("200 OK", [
        ("Content-Type", "text/plain"),
    ])
    return [data]
"""


@pytest.mark.parametrize("interface", ["auto", "wsgi"])
def test_a_plain_wsgi_function_runs_unchanged(start: Start, tmp_path: Path, interface: str) -> None:
    """Detected or set; the log does not mention the lifespan, which WSGI does not have."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "example.py").write_text(HELLO)
    daemon = start(
        "example:hello_world", workers={"count": 1}, app={"directory": str(tmp_path / "site"), "interface": interface}
    )

    answer = get(daemon.address())

    assert (200, "text/plain", b"Hello, World!\n") == (answer.status, answer.headers["content-type"], answer.body)
    assert daemon.stop() == 0
    assert {"info"} == {event["level"] for event in daemon.log_events(slot=0)}


# -- Flask -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flask(start_shared: Start, tmp_path_factory: pytest.TempPathFactory) -> Daemon:
    gate = tmp_path_factory.mktemp("flask") / "gate"
    return start_shared("in_flask:application", workers={"count": 1}, app={"env": {"GATE": str(gate)}})


def test_flask_takes_forms_with_files(flask: Daemon) -> None:
    """A megabyte, as a browser sends it; and a chunked body, which has no Content-Length."""
    content = bytes(range(256)) * 4096
    with httpx.Client(base_url=flask.url, trust_env=False, timeout=WITHIN_S) as client:
        form = client.post("/upload", data={"title": "café"}, files={"file": ("name", content)})
        raw = client.post("/raw", content=content)
        chunked = client.post("/raw", content=iter([content[:100_000], content[100_000:]]))

    assert {"title": "café", "size": len(content)} == form.json()
    assert [str(len(content))] * 2 == [raw.text, chunked.text]


def test_flask_keeps_its_cookies(flask: Daemon) -> None:
    with httpx.Client(base_url=flask.url, trust_env=False, timeout=WITHIN_S) as client:
        assert ["1", "2", "3"] == [client.get("/visits").text for _ in range(3)]
        assert {"visits": "3", "theme": "dark"} == dict(client.cookies)


def test_flask_receives_path_host_and_client(flask: Daemon) -> None:
    with httpx.Client(base_url=flask.url, trust_env=False, timeout=WITHIN_S) as client:
        answer = client.get("/where/caf%C3%A9%20au/lait")

    assert f"café au/lait  127.0.0.1 http {flask.address()}" == answer.text


def test_an_error_in_flask_ends_one_request(flask: Daemon) -> None:
    with httpx.Client(base_url=flask.url, trust_env=False, timeout=WITHIN_S) as client:
        assert [500, 404, 200] == [client.get(path).status_code for path in ("/fails", "/nowhere", "/hello")]


def test_a_stream_of_flask_is_not_buffered(flask: Daemon) -> None:
    with Client(flask.address()) as client:
        client.send(request("GET", "/stream"))
        client.head()
        assert b"begun\n" == client.chunk()
        assert b"hello" == get(flask.address(), "/hello").body

        Path(flask.settings["app"]["env"]["GATE"]).touch()
        assert [b"ended\n", b""] == [client.chunk(), client.chunk()]


def test_large_bodies_take_no_memory(flask: Daemon) -> None:
    """Neither an upload of 64 MiB, nor a response of 64 MiB to a client that reads it slowly."""
    size = 64 << 20
    (worker,) = flask.workers()
    with Client(flask.address()) as client:
        client.get("/hello")
        before = psutil.Process(worker).memory_info().rss
        client.send(request("POST", "/raw", {"Content-Length": str(size)}))
        for _ in range(64):
            client.send(bytes(1 << 20))
        assert str(size).encode() == client.answer().body
        after_upload = psutil.Process(worker).memory_info().rss

    with Client(flask.address(), receive_buffer=65536) as client:
        client.send(request("GET", "/large/64"))
        client.head()
        total = most = 0
        while chunk := client.chunk():
            total += len(chunk)
            most = max(most, psutil.Process(worker).memory_info().rss)

    assert size == total
    assert after_upload - before < 16 << 20
    assert most - before < 24 << 20


# -- Django ------------------------------------------------------------------------------------------------------------


def test_several_countdowns_run_side_by_side_in_one_worker(start: Start) -> None:
    """Each has its own thread; with one, the page would wait five seconds. A client that leaves ends its countdown."""
    daemon = start("wsgi_countdown:application", workers={"count": 1}, app={"env": {"PACE_S": "0.05"}})
    numbers: list[list[int]] = [[] for _ in range(5)]

    def count(seen: list[int]) -> None:
        with Client(daemon.address()) as client:
            client.send(request("GET", "/sse/"))
            assert client.head().headers["content-type"] == "text/event-stream"
            while len(seen) < 40:
                seen.append(json.loads(client.chunk().partition(b"data: ")[2])["i"])

    threads = [in_thread(partial(count, seen)) for seen in numbers]
    eventually(lambda: all(numbers))
    page_s = []
    with Client(daemon.address()) as client:
        while any(thread.is_alive() for thread in threads):
            asked = time.monotonic()
            assert b"Countdown" in client.get("/").body
            page_s.append(time.monotonic() - asked)

    assert [list(range(100, 60, -1))] * 5 == numbers
    assert len(page_s) > 5
    assert max(page_s) < 2.5
    stdout = daemon.directory / "stdout"
    eventually(lambda: stdout.read_text().count("the stream ended before") == 5)
    assert daemon.metric("asgid_http_client_disconnects_total") == 5


# -- threads -----------------------------------------------------------------------------------------------------------


def gated(
    start: Start, tmp_path: Path, timeouts: dict[str, str] | None = None, **limits: object
) -> tuple[Daemon, Path]:
    """Return a daemon with two threads that the application holds until the gate file exists, and that file's path."""
    gate = tmp_path / "gate"
    return start(
        "wsgi_gate:application",
        workers={"count": 1, "threads": 2},
        app={"env": {"GATE": str(gate)}},
        limits={"queue_timeout": "5m"} | limits,
        timeouts=timeouts or {},
    ), gate


def test_requests_wait_while_all_threads_are_busy(start: Start, tmp_path: Path) -> None:
    daemon, gate = gated(start, tmp_path)
    answers: list[Answer] = []
    clients = [in_thread(lambda: answers.append(get(daemon.address()))) for _ in range(5)]
    daemon.eventually(lambda: daemon.metric("asgid_http_requests_queued") == 3)
    daemon.eventually(lambda: daemon.metric("asgid_http_requests_in_flight") == 2)

    gate.touch()
    for client in clients:
        client.join(WITHIN_S)
    assert [b"held most=2"] * 5 == [answer.body for answer in answers]


@pytest.mark.parametrize(("limits", "waiting"), [({"queue": 1}, 1), ({"requests": 2}, 0), ({"requests": 9}, 0)])
def test_a_request_beyond_the_queue_is_refused(
    start: Start, tmp_path: Path, limits: dict[str, int], waiting: int
) -> None:
    """limits.queue requests wait; with limits.requests and no queue none waits. The threads are a cap as well."""
    daemon, gate = gated(start, tmp_path, None, **limits)
    answers: list[Answer] = []
    clients = [in_thread(lambda: answers.append(get(daemon.address()))) for _ in range(2 + waiting)]
    daemon.eventually(lambda: daemon.metric("asgid_http_requests_in_flight") == 2)
    daemon.eventually(lambda: daemon.metric("asgid_http_requests_queued") == waiting)

    refused = get(daemon.address())

    assert (503, "1") == (refused.status, refused.headers["retry-after"])
    gate.touch()
    for client in clients:
        client.join(WITHIN_S)
    assert [200] * (2 + waiting) == [answer.status for answer in answers]


def test_threads_that_never_return_do_not_delay_a_stop(start: Start, tmp_path: Path) -> None:
    """Threads cannot be cancelled, so the worker exits without them, and no signal is needed to end it."""
    daemon, _ = gated(start, tmp_path, timeouts={"graceful": "300ms", "kill": "40s", "heartbeat": "15s"})
    answers: list[Answer] = []
    clients = [in_thread(lambda: answers.append(get(daemon.address()))) for _ in range(3)]
    daemon.eventually(lambda: daemon.metric("asgid_http_requests_queued") == 1)
    begun = time.monotonic()
    daemon.signal("TERM")

    assert daemon.wait() == 0
    assert time.monotonic() - begun < 12
    for client in clients:
        client.join(WITHIN_S)
    assert [503] * 3 == [answer.status for answer in answers]
    (exited,) = daemon.log_events("worker exited")
    assert ("shutdown", 0) == (exited["reason"], exited["code"])
    assert all(line.startswith("{") for line in daemon.log_text().splitlines())  # Python prints nothing itself


def test_busy_threads_do_not_stop_the_heartbeat(start: Start, tmp_path: Path) -> None:
    """A worker with only busy threads is not stuck: its event loop runs."""
    daemon, gate = gated(start, tmp_path, timeouts={"heartbeat": "4s", "blocked": "3s"})
    worker = daemon.workers()
    answers: list[Answer] = []
    clients = [in_thread(lambda: answers.append(get(daemon.address()))) for _ in range(2)]
    daemon.eventually(lambda: daemon.metric("asgid_http_requests_in_flight") == 2)
    held_since = time.monotonic()
    eventually(lambda: time.monotonic() - held_since > 5)

    assert worker == daemon.workers()
    assert [] == daemon.log_events("event loop blocked")
    gate.touch()
    for client in clients:
        client.join(WITHIN_S)
    assert [200, 200] == [answer.status for answer in answers]
