"""The endpoint answers in a real loop, over real sockets, whatever the clients beside it do."""

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
from asgid.master.status.snapshot import ListenerBacklog, ProcessUsage, ReloadResult, Snapshot, WorkerStatus
from asgid.master.workers.ledger import Ledger
from tests.daemon import WITHIN_S

_BOARD = Board(bytearray(BYTES))
_BOARD.row(0)[board.HEARTBEAT_NS] = 1
_BOARD.row(0)[board.CONNECTIONS] = 4
_BOARD.row(0)[board.STARTED] = 1
_LEDGER = Ledger(_BOARD, {}, time.monotonic_ns, lambda *_: None)
_SNAPSHOT = Snapshot(
    now_ns=500_000_001,
    started_at=1_699_999_940.0,
    uptime_s=60.0,
    generation=3,
    desired=2,
    backing_off=0,
    is_ready=True,
    stopping=False,
    reloading=True,
    workers=(WorkerStatus(0, 811, 3, "ready", 50.0), WorkerStatus(1, 812, 4, "booting", 0.5)),
    listeners=(ListenerBacklog("web", 2048, 5),),
    slots=(0, 1),
    starts={"initial": 2},
    exits={"crash": 0},
    reloads={"committed": 1},
    last_reload=ReloadResult("rolled_back", "no module named x", 2, 1_700_000_001.0),
    last_success=1_700_000_000.0,
    boots=(0,) * 10,
    boots_sum_s=0.0,
    master=ProcessUsage(0.5, 1, 80_000_000, 30_000_000, 10),
    max_fds=65536,
    processes={0: ProcessUsage(1.5, 3, 90_000_000, 50_000_000, 20)},
    cpu_s={0: 1.5},
    loop="uvloop",
)


class _House:
    """An endpoint in a loop as the master's, in a thread; a test changes `snapshot` under it."""

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
        self.endpoint = Endpoint(
            listening or self.listening, self.selector, lambda: self.unready, self._snapshot, _LEDGER, self._log
        )
        self._thread.start()

    def _snapshot(self) -> Snapshot:
        return self.snapshot()

    def _run(self) -> None:
        while not self._is_over:
            deadline = self.endpoint.next_deadline()
            patience = None if deadline is None else max(0.0, deadline - time.monotonic())
            for key, mask in self.selector.select(patience):
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

    def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers in lower case, and the body to the end of the stream."""
        with self.connect() as sock:
            sock.sendall(request)
            return _answer(sock)

    def get(self, path: str, *lines: str) -> tuple[int, dict[str, str], bytes]:
        return self.ask("\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode())


def _answer(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    data = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}, body


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    return tmp_path / "asgid.log"


@pytest.fixture
def idle_house(log_path) -> Iterator[_House]:
    """A house that the test starts itself."""
    house = _House(Log("info", "text", str(log_path)))
    yield house
    house.stop()


@pytest.fixture
def house(idle_house: _House) -> _House:
    idle_house.start()
    return idle_house


def _eventually(holds: Callable[[], object], within_s: float = WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        os.sched_yield()


def test_livez_answers_while_the_loop_turns(house):
    """Every answer ends its connection and says so, and none may be cached."""
    code, headers, body = house.get("/livez")

    assert (code, body) == (200, b"the master's loop turns\n")
    assert {
        "connection": "close",
        "content-length": str(len(body)),
        "cache-control": "no-store",
    }.items() <= headers.items()
    assert headers["date"].endswith(" GMT")


def test_the_probes_take_no_snapshot(house):
    """One asks the kernel about every worker; a probe asks for one word, and comes every second."""
    house.snapshot = lambda: pytest.fail("a probe takes a snapshot")

    assert house.get("/livez")[0] == 200
    assert house.get("/readyz")[::2] == (200, b"ready\n")

    house.unready = "a stop has begun"

    assert house.get("/livez")[0] == 200
    assert house.get("/readyz")[::2] == (503, b"a stop has begun\n")


def test_status_says_what_an_operator_asks(house):
    """The contract's keys; a worker that has not beaten yet, or was not looked at yet, has null there."""
    code, headers, body = house.get("/status?pretty")
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


def test_metrics_come_in_the_format_asked_for_with_those_of_the_master(house):
    """`process_*` are the master's own."""
    _, text_headers, text = house.get("/metrics")
    _, open_headers, page = house.get("/metrics", "accept: application/openmetrics-text; version=1.0.0")
    text_names = {family.name for family in parse_text(text.decode())}
    open_names = {family.name for family in parse_openmetrics(page.decode())}

    assert text_headers["content-type"].startswith("text/plain; version=0.0.4")
    assert open_headers["content-type"].startswith("application/openmetrics-text")
    assert {"asgid_workers", "asgid_http_requests", "process_resident_memory_bytes", "process_open_fds"} <= text_names
    assert text_names == open_names


def test_head_is_get_without_the_body(house):
    """RFC 9110 section 9.3.2: the same header fields."""
    code, headers, body = house.ask(b"HEAD /readyz HTTP/1.1\r\nHost: x\r\n\r\n")

    assert (code, headers["content-length"], body) == (200, "6", b"")


def test_what_is_not_there_is_answered_with_what_is(house):
    """A 404 names the four paths."""
    code, _, body = house.get("/healthz")

    assert (code, body) == (404, b"there is /metrics /livez /readyz /status\n")


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
def test_a_request_is_answered_or_refused_at_once(house, request_bytes, code):
    """What can be no request gets its answer without a wait; unread bytes do not reset the connection."""
    found, headers, body = house.ask(request_bytes)

    assert code == found
    assert str(len(body)) == headers["content-length"]
    assert ("GET, HEAD" if code == 405 else None) == headers.get("allow")


def test_a_request_may_come_a_byte_at_a_time(house):
    """TCP keeps no borders."""
    with house.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n":
            sock.send(bytes([byte]))

        assert _answer(sock)[0] == 200


def test_who_goes_on_sending_behind_an_answer_is_cut_off(house):
    """The master has better things to do than to read what nobody will answer."""
    with house.connect() as sock:
        sock.sendall(b"GET /livez HTTP/1.1\r\n\r\n")

        with pytest.raises(ConnectionError):
            sock.sendall(b"x" * 2**26)


def test_a_client_that_never_reads_blocks_nobody(house):
    """The page waits in the master until the client takes it; then it is whole."""
    listeners = tuple(ListenerBacklog("x" * 100 + str(number), 1, 0) for number in range(3000))
    house.snapshot = lambda: replace(_SNAPSHOT, listeners=listeners)
    house.listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # accepted sockets inherit it
    with house.connect(receive_buffer=4096) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        slow.recv(1, socket.MSG_PEEK)

        assert [house.get("/livez")[0] for _ in range(20)] == [200] * 20

        turns = house.turns
        code, headers, body = _answer(slow)

    assert house.turns > turns + 10, "it went out in many pieces"
    assert (200, str(len(body))) == (code, headers["content-length"])
    assert len(body) > 600_000


def test_silent_clients_make_room_the_oldest_first(house):
    """However many connect and say nothing, a probe is answered."""
    with ExitStack() as stack:
        silent = [stack.enter_context(house.connect()) for _ in range(MAX_CLIENTS + 10)]

        assert house.get("/readyz")[0] == 200
        assert [sock.recv(1) for sock in silent[:11]] == [b""] * 11

        last = silent[-1]
        last.sendall(b"GET /livez HTTP/1.1\r\n\r\n")

        assert _answer(last)[0] == 200


def test_a_client_that_makes_room_in_the_turn_in_which_it_speaks_harms_nobody():
    """Its event was already read when it was closed."""
    with ExitStack() as stack:
        selector = stack.enter_context(closing(selectors.DefaultSelector()))
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=256))
        stack.enter_context(closing(Endpoint(listening, selector, str, lambda: _SNAPSHOT, _LEDGER, Log())))
        clients = []

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


def test_a_client_past_its_deadline_is_closed_and_the_loop_rests(idle_house, monkeypatch):
    """Silent, half a request, or an answer that is never taken: the end comes by the clock, not by polling."""
    monkeypatch.setattr(endpoint_module, "DEADLINE_S", 2.0)
    idle_house.start()
    with idle_house.connect() as silent, idle_house.connect() as half:
        half.sendall(b"GET /livez HTTP/1.1\r\n")

        assert (silent.recv(1), half.recv(1)) == (b"", b"")

    assert idle_house.endpoint.next_deadline() is None
    assert idle_house.turns < 20


def test_an_answered_client_that_stays_is_let_go_at_its_deadline(idle_house, monkeypatch):
    """The end of the stream is sent at once; the descriptor is kept for a while so that nothing is reset."""
    monkeypatch.setattr(endpoint_module, "DEADLINE_S", 2.0)
    idle_house.start()
    with idle_house.connect() as stays:
        stays.sendall(b"GET /livez HTTP/1.1\r\n\r\n")

        assert _answer(stays)[0] == 200

        _eventually(lambda: not idle_house.endpoint._clients)


class _Failing:
    """A listening socket whose accept fails with `number`, `failures` times; `times` is when it was tried."""

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
def test_a_master_without_descriptors_pauses_and_comes_back(idle_house, log_path, monkeypatch, number):
    """The queue stays readable all the while: without the pause the loop would spin."""
    monkeypatch.setattr(endpoint_module, "_PAUSE_S", 0.05)
    exhausted = _Failing(idle_house.listening, number, failures=2)
    idle_house.start(exhausted)

    assert idle_house.get("/livez")[0] == 200

    first, second, third, *_ = exhausted.times

    assert min(second - first, third - second) >= 0.05
    assert log_path.read_text().count("endpoint pauses") == 2


def test_a_client_that_is_gone_before_it_is_accepted_changes_nothing(idle_house):
    """accept(2): errors of the new connection are reported as accept's own."""
    aborted = _Failing(idle_house.listening, errno.ECONNABORTED, failures=2)
    idle_house.start(aborted)

    assert idle_house.get("/livez")[0] == 200


def test_a_page_that_fails_says_so_and_the_next_one_is_answered(house, log_path):
    """A fault in a page must not end the master, and must not be silent."""
    house.snapshot = lambda: 1 // 0

    assert house.get("/status")[0] == 500
    assert house.get("/livez")[0] == 200
    assert "ZeroDivisionError" in log_path.read_text()


def test_resets_end_only_their_own_connection(house):
    """A port scanner that leaves with RST is an everyday guest."""
    for _ in range(20):
        with house.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")

    assert house.get("/readyz")[0] == 200
