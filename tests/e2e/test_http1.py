"""HTTP/1.1 under a whole asgid: memory, real time and real queues, which a worker in the test's process cannot show."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil

from tests.client import Answer, Client, Load, get, in_thread, request
from tests.conftest import Start
from tests.daemon import WITHIN_S, eventually

ONE = {"count": 1}
MIB = 1 << 20


def stalled(progress: Callable[[], int]) -> int:
    """Return the value of `progress` when it is above zero and has been the same in the last twenty calls."""
    seen: list[int] = []

    def is_constant() -> int:
        seen.append(progress())
        last = seen[-20:]
        return last[0] if len(last) == 20 and set(last) == {last[0]} else 0

    return eventually(is_constant)


# Back-pressure


def test_a_slow_reader_does_not_grow_the_worker(start: Start) -> None:
    """A stream of 64 MiB stops after a few MiB if its client does not read, and arrives whole when the client reads."""
    daemon = start("flood:application", workers=ONE)
    worker = psutil.Process(daemon.workers()[0])
    before = worker.memory_info().rss

    with Client(daemon.address(), receive_buffer=1 << 16) as slow, Client(daemon.address()) as other:
        slow.send(request("GET", "/"))
        assert slow.head().status == 200
        sent = stalled(lambda: int(other.get("/sent").body))
        grown = worker.memory_info().rss - before
        received = sum(len(chunk) for chunk in iter(slow.chunk, b""))

    assert sent < 16 * MIB
    assert grown < 24 * MIB
    assert received == 64 * MIB


def test_an_application_that_does_not_read_stops_the_sender(start: Start, tmp_path: Path) -> None:
    """A body of 64 MiB that the application does not read fills kernel buffers, not the memory of the worker."""
    gate = tmp_path / "gate"
    daemon = start("hoard:application", workers=ONE, app={"env": {"GATE": str(gate)}})
    worker = psutil.Process(daemon.workers()[0])
    before = worker.memory_info().rss
    sent = 0

    with Client(daemon.address()) as sender, Client(daemon.address()) as other:

        def send() -> None:
            nonlocal sent
            sender.send(request("POST", "/", {"Content-Length": str(64 * MIB)}))
            for _ in range(1024):
                sender.send(bytes(1 << 16))
                sent += 1 << 16

        def progress() -> int:
            assert other.get("/alive").status == 200
            return sent

        thread = in_thread(send)
        stopped_at = stalled(progress)
        grown = worker.memory_info().rss - before
        gate.touch()
        answer = sender.answer()
        thread.join(WITHIN_S)

    assert stopped_at < 32 * MIB  # the kernel's two buffers on loopback hold some of it
    assert grown < 16 * MIB
    assert answer.body == str(64 * MIB).encode()


# Deadlines


def test_a_client_that_never_sends_is_disconnected(start: Start) -> None:
    """timeouts.header ends silence and half a header, timeouts.keep_alive an idle connection; no other client waits."""
    daemon = start("hello:application", workers=ONE, timeouts={"header": "1s", "keep_alive": "6s"})
    last_bytes: dict[str, bytes] = {}
    lasted: dict[str, float] = {}
    begun = time.monotonic()

    def watch(name: str, client: Client) -> None:
        last_bytes[name] = client.rest()
        lasted[name] = time.monotonic() - begun

    with (
        Load(daemon.address(), connections=1) as load,
        Client(daemon.address()) as silent,
        Client(daemon.address()) as half,
        Client(daemon.address()) as idle,
    ):
        half.send(b"GET / HTTP/1.1\r\nHost:")
        assert idle.get().body == b"hello"
        clients = {"silent": silent, "half": half, "idle": idle}
        for thread in [in_thread(partial(watch, name, client)) for name, client in clients.items()]:
            thread.join(WITHIN_S)

    assert last_bytes["silent"] in (b"", last_bytes["half"])  # a silent client may receive 408 or nothing
    assert last_bytes["idle"] == b""
    assert 1 <= lasted["silent"] < 6 <= lasted["idle"]  # deadlines are checked once a second
    assert 1 <= lasted["half"] < 6
    assert load.failures == []
    assert max(load.seconds) < 4
    assert daemon.metric("asgid_http_timeouts_total", phase="header") == 2
    assert daemon.metric("asgid_http_timeouts_total", phase="keep_alive") == 1


# Limits on connections


def test_a_worker_at_its_connection_limit_stops_accepting_and_rejects_no_client(start: Start, tmp_path: Path) -> None:
    """With limits.connections = 2, a worker serves eight clients, two at a time, and rejects none."""
    gate = tmp_path / "gate"
    daemon = start("gate:application", workers=ONE, limits={"connections": 2}, app={"env": {"GATE": str(gate)}})
    answers: list[Answer] = []
    clients = [in_thread(lambda: answers.append(get(daemon.address()))) for _ in range(8)]

    daemon.eventually(lambda: daemon.metric("asgid_http_requests_in_flight") == 2)
    daemon.eventually(lambda: daemon.metric("asgid_connection_limit_reached_total") >= 1)
    daemon.eventually(lambda: daemon.metric("asgid_listener_backlog_connections") == 6)
    gate.touch()
    for client in clients:
        client.join(WITHIN_S)

    assert [answer.status for answer in answers] == [200] * 8
    assert {b"held most=1", b"held most=2"} >= {answer.body for answer in answers}


# Lifespan


def test_the_state_of_lifespan_reaches_requests_and_shutdown_runs(start: Start, tmp_path: Path) -> None:
    farewell = tmp_path / "farewell"
    daemon = start("lifespan:application", workers=ONE, app={"env": {"FAREWELL": str(farewell)}})

    assert get(daemon.address()).body == b"from startup"
    assert daemon.stop() == 0
    assert farewell.exists()
