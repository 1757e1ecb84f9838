"""The acceptor of one worker: it opens, closes without losing a client, and opens again."""

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

import pytest
import uvloop

from asgid.assignment import Listener
from asgid.board import ACCEPTING, Row
from asgid.log import Log
from asgid.worker.net.acceptor import Acceptor, ProtocolFactory
from tests.worker.event_loop import turns, until
from tests.worker.parts import is_starting, listening_servers, pending_retry, watches_listeners
from tests.worker.recorder import Recorder


class Listeners(list[socket.socket]):
    """Two listening sockets, as the master has them, and the clients that connected to them."""

    def __init__(self) -> None:
        super().__init__(socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        self.clients: list[socket.socket] = []

    def connect(self) -> None:
        """Connect a client to each; the kernel completes the connection before any accept."""
        self.clients += [socket.create_connection(sock.getsockname(), timeout=5) for sock in self]


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    opened = Listeners()
    for sock in opened:
        sock.setblocking(False)
    yield opened
    for sock in (*opened, *opened.clients):
        sock.close()


class Accepted:
    """Keeps the transports of accepted clients, and closes them at the end."""

    def __init__(self) -> None:
        self.transports: list[asyncio.BaseTransport] = []

    def protocol(self, _listener: Listener) -> asyncio.Protocol:
        guests = self

        class Guest(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                guests.transports.append(transport)

        return Guest()

    async def leave(self) -> None:
        for transport in self.transports:
            transport.close()
        await asyncio.sleep(0)


class _Row(dict[int, int]):
    """A row of the board that keeps the written values."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[int] = []

    def __setitem__(self, cell: int, value: int) -> None:
        assert cell == ACCEPTING
        self.written.append(value)


class _Acceptor(Acceptor):
    """An acceptor that can be resumed or stopped before it was started."""

    def __init__(self, listeners: list[Listener], factory: ProtocolFactory, log: Recorder | None = None) -> None:
        self.row = _Row()
        super().__init__(asyncio.get_running_loop(), listeners, cast("Log", log or Recorder()), cast("Row", self.row))
        self._factory = factory

    async def open(self) -> None:
        await self.start(self._factory)


def acceptor_of(listeners: list[socket.socket], log: Recorder | None = None) -> tuple[_Acceptor, Accepted]:
    guests = Accepted()
    served = [Listener(fd=sock.fileno(), name=str(index), backlog=8) for index, sock in enumerate(listeners)]
    return _Acceptor(served, guests.protocol, log), guests


def holders(sock: socket.socket) -> int:
    """Return how many descriptors of this process refer to `sock`."""
    inode = os.fstat(sock.fileno()).st_ino
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one of the listing
            found += os.fstat(int(fd)).st_ino == inode
    return found


async def test_each_listener_is_served(listeners):
    acceptor, guests = acceptor_of(listeners)
    await acceptor.open()
    listeners.connect()
    await until(lambda: 2 == len(guests.transports))
    acceptor.pause()
    await guests.leave()


async def test_a_closed_acceptor_leaves_clients_in_the_queue(listeners):
    acceptor, guests = acceptor_of(listeners)
    await acceptor.open()
    acceptor.pause()
    listeners.connect()
    await turns(50)
    assert not guests.transports

    acceptor.resume()
    await until(lambda: 2 == len(guests.transports))
    acceptor.pause()
    await guests.leave()


async def test_a_leaving_acceptor_accepts_the_whole_queue(listeners):
    """The kernel has completed these connections. Afterwards the worker's own descriptors are closed, and no others."""
    copies = [sock.dup() for sock in listeners]
    acceptor, guests = acceptor_of(copies)
    listeners.connect()
    listeners.connect()
    for copy in copies:
        copy.detach()  # the acceptor closes it
    await acceptor.stop()
    listeners.connect()  # the master still has it open
    held = [holders(sock) for sock in listeners]
    await guests.leave()

    assert 4 == len(guests.transports)
    assert held == [1, 1]


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_a_leaving_acceptor_waits_for_clients_that_the_loop_has_accepted(listeners, new_loop):
    """The loop reports them a turn or two later; a worker that looked before would count no connection and exit."""

    async def come_in_before_the_end() -> int:
        guests, accepted = Accepted(), asyncio.Event()

        def protocol(listener: Listener) -> asyncio.Protocol:
            accepted.set()
            return guests.protocol(listener)

        fd = os.dup(listeners[0].fileno())
        acceptor = _Acceptor([Listener(fd=fd, name="0", backlog=8)], protocol)
        await acceptor.open()
        listeners.connect()
        await accepted.wait()
        assert not guests.transports, "the loop reports it at once: this test has lost its subject"
        acceptor.pause()
        await acceptor.stop()
        number = len(guests.transports)
        await until(lambda: guests.transports)
        await guests.leave()
        return number

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert 1 == runner.run(come_in_before_the_end())


async def test_the_kernel_refuses_clients_after_the_last_holder_has_left(listeners):
    """They do not wait in a queue without a worker."""
    addresses = [sock.getsockname() for sock in listeners]
    acceptor, _ = acceptor_of(listeners)
    for sock in listeners:
        sock.detach()  # the acceptor closes it
    await acceptor.stop()

    for address in addresses:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)


async def test_an_acceptor_that_is_closed_before_it_has_opened_stays_closed(listeners):
    """A drain may begin in the turn in which it was asked to open."""
    acceptor, guests = acceptor_of(listeners)
    acceptor.resume()
    acceptor.pause()
    listeners.connect()
    await turns(50)

    assert not guests.transports


@contextmanager
def no_descriptors(but: int) -> Iterator[None]:
    """Leave this process only `but` free descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    taken = []
    with suppress(OSError):
        while True:
            taken.append(os.dup(0))
    for fd in taken[:but]:
        os.close(fd)
    try:
        yield
    finally:
        for fd in taken[but:]:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_an_acceptor_without_descriptors_opens_later(listeners, monkeypatch):
    """If one listener of two cannot open, none does. It is logged once, and no client is lost."""
    monkeypatch.setattr("asgid.worker.net.acceptor.PAUSE_S", 0.01)
    log = Recorder()
    acceptor, guests = acceptor_of(listeners, log)
    said = acceptor.row.written
    listeners.connect()
    with no_descriptors(but=1):
        acceptor.resume()
        await until(lambda: len(said) > 2)
        assert listening_servers(acceptor) == []
    await until(lambda: 2 == len(guests.transports))

    assert [False] * (len(said) - 1) + [True] == said
    assert [("accepting pauses", "Too many open files")] == [(line.event, line.fields["reason"]) for line in log.lines]

    acceptor.pause()
    await guests.leave()


async def test_a_close_ends_the_retry_timer(listeners, monkeypatch):
    """A drain may begin while the worker waits for a descriptor."""
    acceptor, _ = acceptor_of(listeners)
    with no_descriptors(but=0):
        acceptor.resume()
        await until(lambda: pending_retry(acceptor) is not None)
        look = pending_retry(acceptor)
        acceptor.pause()

    assert look is not None
    assert look.cancelled()
    assert not is_starting(acceptor)


def test_an_acceptor_that_is_closed_while_it_opens_stays_closed(listeners):
    """asyncio's own loop accepts a turn before it reports it."""

    async def closes_in_between() -> int:
        acceptor, guests = acceptor_of(listeners)
        acceptor.resume()
        await asyncio.sleep(0)
        acceptor.pause()
        listeners.connect()
        await turns(50)
        return len(guests.transports)

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        assert 0 == runner.run(closes_in_between())


async def test_a_worker_that_stepped_back_accepts_if_no_sibling_does(listeners):
    """After a moment, because the sibling may be blocked."""
    acceptor, guests = acceptor_of(listeners)
    await acceptor.open()
    acceptor.yield_to_siblings(lambda: True)
    listeners.connect()
    await until(lambda: 2 == len(guests.transports))
    acceptor.pause()
    await guests.leave()


async def test_a_worker_that_stepped_back_leaves_a_client_to_its_siblings(listeners):
    """If the queue is empty after that moment, it stays back for as long as it has more connections."""
    acceptor, guests = acceptor_of(listeners)
    await acceptor.open()
    looks: list[bool] = []

    def is_ahead() -> bool:
        looks.append(True)
        return True

    acceptor.yield_to_siblings(is_ahead)
    listeners.connect()
    await until(lambda: pending_retry(acceptor) is not None)
    taken = [listener.accept()[0] for listener in listeners]  # by the sibling
    await until(lambda: looks)
    assert (listening_servers(acceptor), is_starting(acceptor), watches_listeners(acceptor)) == ([], False, True)
    assert not guests.transports

    acceptor.pause()
    for sock in taken:
        sock.close()


async def test_a_close_ends_the_watch_of_a_worker_that_stepped_back(listeners):
    """A drain may begin while a client waits in the queue."""
    acceptor, guests = acceptor_of(listeners)
    await acceptor.open()
    acceptor.yield_to_siblings(lambda: True)
    listeners.connect()
    await until(lambda: pending_retry(acceptor) is not None)
    look = pending_retry(acceptor)

    acceptor.pause()

    assert look is not None
    assert look.cancelled()
    assert not watches_listeners(acceptor)
    assert not guests.transports


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["TCP", "a Unix socket"])
async def test_a_leaving_worker_accepts_only_the_clients_in_the_queue(family, tmp_path):
    """New clients may connect as fast as it accepts, and it would never end."""
    address = ("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "socket")
    clients: list[socket.socket] = []
    backlog = 8

    def come() -> None:
        client = socket.socket(family)
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.connect(where)
        clients.append(client)

    class Guest(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            come()
            transport.close()

    with socket.create_server(address, family=family, backlog=backlog) as master:
        master.setblocking(False)
        where = master.getsockname()
        for _ in range(5):
            come()
        listener = Listener(fd=os.dup(master.fileno()), name="0", backlog=backlog)
        acceptor = _Acceptor([listener], lambda _: Guest())
        await asyncio.wait_for(acceptor.stop(), 10)
        taken = len(clients) - 5

        assert taken == 5 if family == socket.AF_INET else 5 <= taken <= backlog + 1
        for client in clients:
            client.close()


async def test_a_cancelled_leave_closes_all_sockets(listeners):
    """The end of the grace cancels it."""
    copies = [sock.dup() for sock in listeners]
    acceptor, guests = acceptor_of(copies)
    listeners.connect()
    for copy in copies:
        copy.detach()  # the acceptor closes it
    leaving = asyncio.ensure_future(acceptor.stop())
    await asyncio.sleep(0)
    leaving.cancel()
    with suppress(asyncio.CancelledError):
        await leaving

    assert [1, 1] == [holders(sock) for sock in listeners]
    await guests.leave()
