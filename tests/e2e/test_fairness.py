"""Clients that send as much as they can, and workers that are stopped for a while, do not harm other clients."""

import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.client import Client, get, request
from tests.conftest import Start
from tests.daemon import Daemon

_FLOODERS = 8
#: The max time of one request on a busy machine; on an idle one it takes 0.05 s. If one turn of the event loop did not
#: limit each connection, eight such clients would delay the request by 4 to 40 s.
_MAX_S = 2.0
_CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
_GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
_FLOODS = {
    "requests": _GET * 20_000,
    "empty lines": b"\r\n" * 4000 + _GET,
    "long query strings": (b"GET /?" + b"%41" * 2600 + b" HTTP/1.1\r\nHost: a\r\n\r\n") * 50,
    "chunks": _CHUNKED + b"1\r\na\r\n" * 40_000 + b"0\r\n\r\n",
    "trailers": (_CHUNKED + b"0\r\n" + b"a:\r\n" * 90 + b"\r\n") * 200,
}


@pytest.fixture(scope="module")
def served(start_shared: Start) -> Daemon:
    return start_shared(
        "hello:application", workers={"count": 1}, log={"access": {"enabled": False}}, timeouts={"heartbeat": "10s"}
    )


@contextmanager
def _flood(daemon: Daemon, data: bytes) -> Iterator[None]:
    """Send `data` repeatedly on each of the connections, and read the responses."""
    is_over = threading.Event()
    host, _, port = daemon.address().rpartition(":")

    def work() -> None:
        with selectors.DefaultSelector() as selector:
            at: dict[socket.socket, int] = {}
            for _ in range(_FLOODERS):
                sock = socket.create_connection((host, int(port)))
                sock.setblocking(False)
                selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
                at[sock] = 0
            view = memoryview(data)
            while not is_over.is_set():
                for key, _ in selector.select(0.1):
                    sock = key.fileobj  # type: ignore[assignment] # only sockets were registered
                    with suppress(BlockingIOError):
                        at[sock] = (at[sock] + sock.send(view[at[sock] :])) % len(data)
                    with suppress(BlockingIOError):
                        sock.recv(1 << 20)
                is_over.wait(0.002)
            for sock in at:
                sock.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize("kind", _FLOODS)
def test_others_are_served_while_clients_send_as_much_as_they_can(served: Daemon, kind: str) -> None:
    """Each kind once delayed others by seconds. With a short heartbeat deadline, the worker was even replaced."""
    worker = served.workers()
    seconds = []
    with _flood(served, _FLOODS[kind]):
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            began = time.monotonic()
            assert b"hello" == get(served.address()).body
            seconds.append(time.monotonic() - began)

    assert max(seconds) < _MAX_S
    assert served.workers() == worker


def test_a_worker_that_was_stopped_for_a_while_ends_no_connection(start: Start) -> None:
    """SIGSTOP stands for a debugger or a migrated machine. Clients that sent in time are answered afterwards."""
    timeouts = dict.fromkeys(("header", "body", "keep_alive"), "1s") | {"heartbeat": "1m"}
    daemon = start("hello:application", workers={"count": 1}, timeouts=timeouts)
    (pid,) = daemon.workers()
    with Client(daemon.address()) as kept, Client(daemon.address()) as first, Client(daemon.address()) as partial:
        partial.send(b"GET / HTTP/1.1\r\n")
        assert b"hello" == kept.get().body
        os.kill(pid, signal.SIGSTOP)
        stopped = time.monotonic()
        kept.send(request("GET"))
        first.send(request("GET"))
        partial.send(b"Host: a\r\n\r\n")
        daemon.eventually(lambda: time.monotonic() > stopped + 2.5)
        os.kill(pid, signal.SIGCONT)

        assert [b"hello"] * 3 == [client.answer().body for client in (kept, first, partial)]
    assert [pid] == [*daemon.workers()]
