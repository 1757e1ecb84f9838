"""A task that runs beside requests, from startup to shutdown: it feeds its listeners, and ends with its worker."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.client import get
from tests.conftest import Start
from tests.daemon import WITHIN_S, Daemon, eventually


@contextmanager
def by_events(daemon: Daemon) -> Iterator[Iterator[int]]:
    with (
        httpx.Client(trust_env=False, timeout=WITHIN_S) as client,
        client.stream("GET", f"{daemon.url}/events") as answer,
    ):
        yield (int(line.removeprefix("data: ")) for line in answer.iter_lines() if line)


@contextmanager
def by_socket(daemon: Daemon) -> Iterator[Iterator[int]]:
    with connect(f"ws://{daemon.address()}/socket", proxy=None) as socket:
        yield numbers_of(socket)


def numbers_of(socket: ClientConnection) -> Iterator[int]:
    while True:
        yield int(socket.recv(timeout=10))


def test_a_task_feeds_all_listeners_and_ends_with_its_worker(start: Start, tmp_path: Path) -> None:
    """Each of two workers has a task. At a stop it is cancelled after the last listener was disconnected."""
    daemon = start("in_background:application", timeouts={"graceful": "1s"}, app={"env": {"MARKS": str(tmp_path)}})
    workers = daemon.workers()
    with ExitStack() as stack:
        feeds = [stack.enter_context(by(daemon)) for by in (by_events, by_socket) for _ in range(4)]
        for feed in feeds:
            first = next(feed)
            assert [first + 1, first + 2] == [next(feed), next(feed)]

        daemon.signal("TERM")
        for feed in feeds:
            with pytest.raises((httpx.RemoteProtocolError, ConnectionClosed)):
                list(feed)

    assert 0 == daemon.wait()
    assert [] == daemon.log_events(level="error")
    assert {str(pid): "cancelled, with 0 listening" for pid in workers} == {
        path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()
    }


def test_a_listener_that_leaves_is_removed(start: Start, tmp_path: Path) -> None:
    """The task stops to feed a listener that has left; otherwise the queue of the listener would grow without limit."""
    daemon = start("in_background:application", workers={"count": 1}, app={"env": {"MARKS": str(tmp_path)}})
    for by in (by_events, by_socket):
        with by(daemon) as feed:
            next(feed)
            assert b"1" == get(daemon.address(), "/listening").body
        eventually(lambda: get(daemon.address(), "/listening").body == b"0")

    assert 0 == daemon.stop()
    assert [] == daemon.log_events(level="error")
