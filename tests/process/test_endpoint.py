"""The metrics address answers in a real loop, over real sockets, whatever other clients do."""

import errno
import json
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from asgid import board
from asgid.board import BYTES, Board
from asgid.log import Log
from asgid.master.status import endpoint as endpoint_module
from asgid.master.status.endpoint import MAX_CLIENTS, Endpoint
from asgid.master.status.history import ReloadResult
from asgid.master.status.pages import Pages
from asgid.master.status.snapshot import ListenerBacklog, Snapshot, WorkerStatus
from asgid.master.workers.ledger import Ledger
from tests.daemon import WITHIN_S
from tests.snapshots import SNAPSHOT

_BOARD = Board(bytearray(BYTES))
_BOARD.row(0)[board.HEARTBEAT_NS] = 1
_BOARD.row(0)[board.CONNECTIONS] = 4
_BOARD.row(0)[board.STARTED] = 1
_LEDGER = Ledger(_BOARD, {}, time.monotonic_ns, lambda *_: None)
_SNAPSHOT = replace(
    SNAPSHOT,
    now_ns=500_000_001,
    reloading=True,
    workers=(WorkerStatus(0, 811, 3, "ready", 50.0), WorkerStatus(1, 812, 4, "booting", 0.5)),
    history=replace(SNAPSHOT.history, last_reload=ReloadResult("rolled_back", "no module named x", 2, 1_700_000_001.0)),
    processes={0: SNAPSHOT.processes[0]},
)


class _Server:
    """An endpoint in a loop like the master's, in a thread; a test changes `snapshot` while it runs."""

    def __init__(self, log: Log) -> None:
        self.unready = ""
        self.snapshot: Callable[[], Snapshot] = lambda: _SNAPSHOT
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = self.listening.getsockname()
        self.selector = selectors.DefaultSelector()
        self.turns = 0
        self._wake, self._waker = socket.socketpair()
        self._is_over = False
        self._log = log
        self._thread = threading.Thread(target=self._run)

    def start(self, listening: Any = None) -> None:
        self.selector.register(self._wake, selectors.EVENT_READ, lambda _mask: self._wake.recv(1))
        pages = Pages(lambda: self.unready, self._snapshot, _LEDGER, self._log)
        self.endpoint = Endpoint(listening or self.listening, self.selector, pages.respond, self._log)
        self._thread.start()

    def _snapshot(self) -> Snapshot:
        return self.snapshot()

    def _run(self) -> None:
        while not self._is_over:
            deadline = self.endpoint.next_deadline()
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            for key, mask in self.selector.select(timeout):
                key.data(mask)
            self.endpoint.expire(time.monotonic())
            self.turns += 1

    def stop(self) -> None:
        self._is_over = True
        self._waker.send(b"x")
        self._thread.join(WITHIN_S)
        assert not self._thread.is_alive()
        self.endpoint.close()
        left = [key.fileobj for key in self.selector.get_map().values()]
        assert [self._wake] == left, "close() leaves nothing in the loop"
        for thing in (self.selector, self.listening, self._wake, self._waker):
            thing.close()

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(WITHIN_S)
        sock.connect(self.address)
        return sock

    def send(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers in lower case, and the body to the end of the stream."""
        with self.connect() as sock:
            sock.sendall(request)
            return _answer(sock)

    def get(self, path: str, *lines: str) -> tuple[int, dict[str, str], bytes]:
        return self.send("\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode())


def _answer(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    data = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}, body


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    return tmp_path / "asgid.log"


@pytest.fixture
def idle_server(log_path) -> Iterator[_Server]:
    """A server that the test starts."""
    server = _Server(Log("info", "text", str(log_path)))
    yield server
    server.stop()


@pytest.fixture
def server(idle_server: _Server) -> _Server:
    idle_server.start()
    return idle_server


def _eventually(holds: Callable[[], object], within_s: float = WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "the condition did not become true"
        os.sched_yield()


def test_livez_answers_while_the_loop_runs(server):
    """Every response closes its connection, announces that, and must not be cached."""
    code, headers, body = server.get("/livez")

    assert (code, body) == (200, b"the master is running\n")
    assert {
        "connection": "close",
        "content-length": str(len(body)),
        "cache-control": "no-store",
    }.items() <= headers.items()
    assert headers["date"].endswith(" GMT")


def test_the_probes_take_no_snapshot(server):
    """A snapshot asks the kernel about every worker; a probe comes every second and needs one word."""
    server.snapshot = lambda: pytest.fail("a probe takes a snapshot")

    assert server.get("/livez")[0] == 200
    assert server.get("/readyz")[::2] == (200, b"ready\n")

    server.unready = "a stop has begun"

    assert server.get("/livez")[0] == 200
    assert server.get("/readyz")[::2] == (503, b"a stop has begun\n")


def test_status_has_every_key_of_the_contract(server):
    """A worker without a heartbeat yet, or without a process in the snapshot, has null."""
    code, headers, body = server.get("/status?pretty")
    page = json.loads(body)
    first, second = page["workers"]

    assert (code, headers["content-type"]) == (200, "application/json")
    assert {
        "version": "0.1.0",
        "generation": 3,
        "uptime": 60.0,
        "desired": 2,
        "reloading": True,
    }.items() <= page.items()
    assert page["last_reload"] == {
        "verdict": "rolled_back",
        "reason": "no module named x",
        "generation": 2,
        "at": 1_700_000_001.0,
    }
    assert first == {
        "slot": 0,
        "pid": 811,
        "generation": 3,
        "state": "ready",
        "age": 50.0,
        "connections": 4,
        "requests": 1,
        "memory": 50_000_000,
        "heartbeat_age": 0.5,
    }
    assert (second["pid"], second["state"], second["memory"], second["heartbeat_age"]) == (812, "booting", None, None)


def test_metrics_have_the_requested_format_and_include_the_master(server):
    """`process_*` describe the master."""
    _, text_headers, text = server.get("/metrics")
    _, open_headers, page = server.get("/metrics", "accept: application/openmetrics-text; version=1.0.0")
    text_names = {family.name for family in parse_text(text.decode())}
    open_names = {family.name for family in parse_openmetrics(page.decode())}

    assert text_headers["content-type"].startswith("text/plain; version=0.0.4")
    assert open_headers["content-type"].startswith("application/openmetrics-text")
    assert {"asgid_workers", "asgid_http_requests", "process_resident_memory_bytes", "process_open_fds"} <= text_names
    assert text_names == open_names


def test_head_is_get_without_the_body(server):
    """RFC 9110 section 9.3.2: the same header fields."""
    code, headers, body = server.send(b"HEAD /readyz HTTP/1.1\r\nHost: x\r\n\r\n")

    assert (code, headers["content-length"], body) == (200, "6", b"")


def test_an_unknown_path_gets_404_with_the_four_paths(server):
    code, _, body = server.get("/healthz")

    assert (code, body) == (404, b"the pages are /metrics /livez /readyz /status\n")


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000, 405),
        (b"DELETE /nowhere HTTP/1.0\r\n\r\n", 405),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"get / HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez\r\n\r\n", 400),
        (b"GET livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/2.0\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nx: " + b"y" * 9000 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 9000, 431),
        (b"\r\n" * 4500, 431),
        (b"\r\n" * 4500 + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"\r\n" * 4000 + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /livez HTTP/1.0\n\n", 200),
        (b"\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /status HTTP/1.1\r\n\r\n", 200),
    ],
)
def test_a_request_is_answered_or_refused_at_once(server, request_bytes, code):
    """Bytes that cannot begin a request are refused at once; unread bytes do not reset the connection."""
    found, headers, body = server.send(request_bytes)

    assert code == found
    assert str(len(body)) == headers["content-length"]
    assert ("GET, HEAD" if code == 405 else None) == headers.get("allow")


def test_a_request_may_come_a_byte_at_a_time(server):
    """TCP does not keep the borders of writes."""
    with server.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n":
            sock.send(bytes([byte]))

        assert _answer(sock)[0] == 200


def test_a_client_that_keeps_sending_after_the_response_is_reset(server):
    """Otherwise one client could keep the master busy with reading."""
    with server.connect() as sock:
        sock.sendall(b"GET /livez HTTP/1.1\r\n\r\n")

        with pytest.raises(ConnectionError):
            sock.sendall(b"x" * 2**26)


def test_a_client_that_never_reads_does_not_block_others(server):
    """The page waits in the master; when the client reads at last, the page is complete."""
    listeners = tuple(ListenerBacklog("x" * 100 + str(number), 1, 0) for number in range(3000))
    server.snapshot = lambda: replace(_SNAPSHOT, listeners=listeners)
    server.listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # accepted sockets inherit it
    with server.connect(receive_buffer=4096) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        slow.recv(1, socket.MSG_PEEK)

        assert [server.get("/livez")[0] for _ in range(20)] == [200] * 20

        turns = server.turns
        code, headers, body = _answer(slow)

    assert server.turns > turns + 10, "the response left in many writes"
    assert (200, str(len(body))) == (code, headers["content-length"])
    assert len(body) > 600_000


def test_if_too_many_clients_are_open_the_oldest_idle_one_is_closed(server):
    """A probe is answered while any number of silent clients connect."""
    with ExitStack() as stack:
        silent = [stack.enter_context(server.connect()) for _ in range(MAX_CLIENTS + 10)]

        assert server.get("/readyz")[0] == 200
        assert [sock.recv(1) for sock in silent[:11]] == [b""] * 11

        last = silent[-1]
        last.sendall(b"GET /livez HTTP/1.1\r\n\r\n")

        assert _answer(last)[0] == 200


def test_a_client_that_is_closed_in_the_turn_of_its_request_is_ignored():
    """The selector had returned its event before it was closed."""
    with ExitStack() as stack:
        selector = stack.enter_context(closing(selectors.DefaultSelector()))
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=256))
        pages = Pages(str, lambda: _SNAPSHOT, _LEDGER, Log())
        stack.enter_context(closing(Endpoint(listening, selector, pages.respond, Log())))
        clients: list[socket.socket] = []

        def connect() -> socket.socket:
            clients.append(stack.enter_context(socket.create_connection(listening.getsockname(), 10)))
            return clients[-1]

        def turn() -> int:
            events = selector.select(10)
            for key, mask in events:
                key.data(mask)
            return len(events)

        for _ in range(MAX_CLIENTS):
            connect()
            turn()
        connect()
        clients[0].sendall(b"GET /livez HTTP/1.1\r\n\r\n")

        assert turn() == 2, "both in one turn"

        clients[-1].sendall(b"GET /livez HTTP/1.1\r\n\r\n")
        turn()

        assert clients[-1].recv(12) == b"HTTP/1.1 200"


def test_a_client_past_its_deadline_is_closed_without_polling(idle_server, monkeypatch):
    """For a silent client and for one with half a request; the loop wakes for the deadline only."""
    monkeypatch.setattr(endpoint_module, "DEADLINE_S", 2.0)
    idle_server.start()
    with idle_server.connect() as silent, idle_server.connect() as half:
        half.sendall(b"GET /livez HTTP/1.1\r\n")

        assert (silent.recv(1), half.recv(1)) == (b"", b"")

    assert idle_server.endpoint.next_deadline() is None
    assert idle_server.turns < 20


def test_an_answered_client_that_stays_is_closed_at_its_deadline(idle_server, monkeypatch):
    """FIN is sent at once; the descriptor stays open for a while, to prevent a reset."""
    monkeypatch.setattr(endpoint_module, "DEADLINE_S", 2.0)
    idle_server.start()
    with idle_server.connect() as stays:
        stays.sendall(b"GET /livez HTTP/1.1\r\n\r\n")

        assert _answer(stays)[0] == 200

        _eventually(lambda: not idle_server.endpoint._clients)


class _Failing:
    """A listening socket whose accept fails with `number`, `failures` times; `times` has the time of each call."""

    def __init__(self, listening: socket.socket, number: int, failures: int) -> None:
        self._listening = listening
        self._number = number
        self._failures = failures
        self.times: list[float] = []

    def accept(self) -> tuple[socket.socket, Any]:
        self.times.append(time.monotonic())
        if len(self.times) <= self._failures:
            raise OSError(self._number, os.strerror(self._number))
        return self._listening.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listening, name)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_without_free_descriptors_accepting_pauses_and_resumes(idle_server, log_path, monkeypatch, number):
    """The socket stays readable meanwhile: without the pause the loop would spin."""
    monkeypatch.setattr(endpoint_module, "_PAUSE_S", 0.05)
    exhausted = _Failing(idle_server.listening, number, failures=2)
    idle_server.start(exhausted)

    assert idle_server.get("/livez")[0] == 200

    first, second, third, *_ = exhausted.times

    assert min(second - first, third - second) >= 0.05
    assert log_path.read_text().count("metrics endpoint paused") == 2


def test_a_client_that_leaves_before_it_is_accepted_is_ignored(idle_server):
    """accept(2) returns the error of the new connection as its own."""
    aborted = _Failing(idle_server.listening, errno.ECONNABORTED, failures=2)
    idle_server.start(aborted)

    assert idle_server.get("/livez")[0] == 200


def test_a_page_that_fails_is_logged_and_the_next_one_is_answered(server, log_path):
    """The fault does not end the master. The client gets 500, and the log gets the stack."""
    server.snapshot = lambda: 1 // 0

    assert server.get("/status")[0] == 500
    assert server.get("/livez")[0] == 200
    assert "status page failed" in log_path.read_text()
    assert "ZeroDivisionError" in log_path.read_text()


def test_a_reset_ends_only_its_own_connection(server):
    """Port scanners often leave with RST."""
    for _ in range(20):
        with server.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")

    assert server.get("/readyz")[0] == 200
