"""WebSockets of a real client through a whole server: messages, counters, and closes at a reload or a stop."""

import json
import os
import signal
import socket as sockets
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.conftest import Start
from tests.daemon import APPS, WITHIN_S, Daemon, is_alive

_GONE = 1012


@pytest.fixture
def served(start: Start) -> Daemon:
    """One worker with an application that echoes."""
    return start("echoes:application", workers={"count": 1})


def _socket(daemon: Daemon, path: str = "/", **options: Any) -> ClientConnection:
    socket: ClientConnection = connect(
        f"ws://{daemon.address()}{path}", open_timeout=WITHIN_S, close_timeout=WITHIN_S, **options
    )
    return socket


def _state(daemon: Daemon) -> dict[str, Any]:
    """Return the worker's pid and the close codes that the application has received, in the one worker."""
    with urllib.request.urlopen(daemon.url, timeout=WITHIN_S) as answer:
        state: dict[str, Any] = json.load(answer)
        return state


def _closed(socket: ClientConnection) -> tuple[int, str]:
    """Return the code and reason of the server's close, once it comes; 1006 if the server sent none."""
    try:
        while True:
            socket.recv(timeout=10)
    except ConnectionClosed as closed:
        return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")


@pytest.mark.parametrize("compression", ["deflate", None])
def test_a_real_client_receives_its_messages_back(served: Daemon, compression: str | None) -> None:
    """The echo works for text, bytes, fragments and large messages, one by one and many at once, and for the close."""
    messages: list[str | bytes] = ["text", b"bytes", "ü" * 100_000, os.urandom(1_000_000), "", b""]
    with _socket(served, compression=compression, max_size=None) as socket:
        for message in messages:
            socket.send(message)

            assert message == socket.recv(timeout=10)
        socket.send(["in ", "three ", "parts"])
        assert "in three parts" == socket.recv(timeout=10)
        for number in range(500):
            socket.send(str(number))
        assert [str(number) for number in range(500)] == [socket.recv(timeout=10) for _ in range(500)]
        socket.close(4321, "enough")
    served.eventually(lambda: _state(served)["codes"] == [4321])


def test_the_board_counts_open_websockets_their_messages_and_their_closes(served: Daemon) -> None:
    """Open WebSockets count neither as idle nor as active, and a handshake counts as an answer with 101."""
    with _socket(served) as socket:
        for _ in range(3):
            socket.send("x")
            socket.recv(timeout=10)
        states = {
            state: served.metric("asgid_connections", worker="0", state=state)
            for state in ("active", "idle", "websocket")
        }

        assert {"active": 0, "idle": 0, "websocket": 1} == states
        assert 1 == served.metric("asgid_http_requests_total", method="GET", code="101")
        assert 0 == served.metric("asgid_http_requests_in_flight", worker="0")
        directions = ("received", "sent")
        assert [3, 3] == [served.metric("asgid_websocket_messages_total", direction=each) for each in directions]
    served.eventually(lambda: served.metric("asgid_websocket_closes_total", code="1000") == 1)
    served.eventually(lambda: served.metric("asgid_connections", worker="0", state="websocket") == 0)


@pytest.mark.parametrize("act", [Daemon.reload, lambda daemon: daemon.signal("TERM")], ids=["HUP", "TERM"])
def test_a_drain_closes_both_ends_with_1012(start: Start, act: Callable[[Daemon], object]) -> None:
    """At once, not at the end of the grace; each application ends by itself, and none is cancelled."""
    daemon = start("echoes:application", workers={"count": 2}, timeouts={"graceful": "5m"})
    with ExitStack() as stack:
        sockets = [stack.enter_context(_socket(daemon)) for _ in range(20)]
        begun = monotonic()
        act(daemon)

        assert [(_GONE, "service restart")] * 20 == [_closed(socket) for socket in sockets]
        assert monotonic() - begun < 30
    stdout = daemon.directory / "stdout"
    daemon.eventually(lambda: stdout.read_text().count(f"told {_GONE}") == 20)
    daemon.eventually(lambda: stdout.read_text().count('" 101 ') == 20)
    assert not daemon.log_events("applications did not end when cancelled")


def test_a_client_that_connects_again_after_a_reload_reaches_a_new_worker(served: Daemon) -> None:
    """A page does so if it opens its WebSocket again after a close."""
    with _socket(served) as old:
        assert old.response is not None
        before = old.response.headers["x-pid"]
        served.reload()
        assert _GONE == _closed(old)[0]
    with _socket(served) as new:
        new.send("again")

        assert "again" == new.recv(timeout=10)
        assert new.response is not None
        assert before != new.response.headers["x-pid"]


def test_an_application_that_outlives_its_client_is_cancelled_at_the_end_of_the_grace(start: Start) -> None:
    """Its client has received the 1012 long before."""
    daemon = start("echoes:application", workers={"count": 1}, timeouts={"graceful": "1s"})
    with _socket(daemon, "/deaf") as socket:
        daemon.signal("TERM")

        assert _GONE == _closed(socket)[0]
    assert 0 == daemon.wait()


def test_a_drain_without_a_grace_still_sends_1012(start: Start) -> None:
    """`timeouts.graceful = 0` cuts off requests, and a WebSocket has nothing to finish."""
    daemon = start("echoes:application", workers={"count": 1}, timeouts={"graceful": 0})
    with _socket(daemon) as socket:
        daemon.signal("TERM")

        assert _GONE == _closed(socket)[0]
    assert 0 == daemon.wait()


def test_a_worker_that_dies_ends_only_its_own_connections(start: Start) -> None:
    daemon = start("echoes:application", workers={"count": 2})
    with ExitStack() as stack:
        sockets = [stack.enter_context(_socket(daemon)) for _ in range(20)]
        pids = [int(socket.response.headers["x-pid"]) for socket in sockets if socket.response]
        victim = pids[0]
        os.kill(victim, signal.SIGKILL)
        daemon.eventually(lambda: not is_alive(victim))

        for socket, pid in zip(sockets, pids, strict=True):
            if pid == victim:
                assert 1006 == _closed(socket)[0]
            else:
                socket.send("still here")
                assert "still here" == socket.recv(timeout=10)
    daemon.eventually(
        lambda: sum(daemon.metric("asgid_connections", worker=slot, state="websocket") for slot in ("0", "1")) == 0
    )


def test_garbage_after_a_handshake_ends_only_its_own_connection(served: Daemon) -> None:
    host, _, port = served.address().rpartition(":")
    pid = _state(served)["pid"]
    handshake = (
        f"GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()
    for _ in range(50):
        with sockets.create_connection((host, int(port)), timeout=WITHIN_S) as client:
            client.sendall(handshake)
            assert client.recv(65536).startswith(b"HTTP/1.1 101 ")
            client.sendall(os.urandom(1000).replace(b"\x81", b"\xff"))
            client.shutdown(sockets.SHUT_WR)  # one in 650 begins a frame, and the server would wait for its rest
            while client.recv(65536):
                pass

    assert pid == _state(served)["pid"]
    served.eventually(lambda: served.metric("asgid_connections", worker="0", state="websocket") == 0)
    closed = ("1002", "1009", "1007", "1006")
    assert 50 == sum(served.metric("asgid_websocket_closes_total", code=code) for code in closed)


def test_timeouts_below_a_second_are_checked_in_time(start: Start) -> None:
    """A client that answers no ping is closed after 0.2 s, and an idle one after 0.1 s, not after a second."""
    daemon = start(
        "echoes:application",
        workers={"count": 1},
        timeouts={"keep_alive": "0.1s"},
        websocket={"ping_interval": "0.1s", "ping_timeout": "0.1s"},
    )
    handshake = (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    for sent in (handshake, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
        assert min(_seconds_to_the_end(daemon, sent) for _ in range(5)) < 0.6, sent


def _seconds_to_the_end(daemon: Daemon, sent: bytes) -> float:
    """Return the seconds after which the server closes a client that sends `sent` and then nothing."""
    host, _, port = daemon.address().rpartition(":")
    with sockets.create_connection((host, int(port)), timeout=WITHIN_S) as client:
        client.sendall(sent)
        client.recv(65536)
        begun = monotonic()
        while client.recv(65536):
            pass
        return monotonic() - begun


def test_a_module_of_the_application_may_have_the_name_of_a_library(start: Start, tmp_path: Path) -> None:
    """asgid imports no library for WebSockets, so an application may use any version of one, or a module like this."""
    (tmp_path / "websockets.py").write_text("raise RuntimeError('this is no library')\n")
    (tmp_path / "mine.py").write_text((APPS / "echoes.py").read_text())
    daemon = start("mine:application", app={"directory": str(tmp_path)}, workers={"count": 1})
    with _socket(daemon) as socket:
        socket.send("x")

        assert "x" == socket.recv(timeout=10)
