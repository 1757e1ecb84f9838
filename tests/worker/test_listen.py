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
from asgid.log import Log
from asgid.worker.net import acceptor
from asgid.worker.net.acceptor import Doors
from tests.worker.harness import (
    Recorder,
    is_opening,
    listening_servers,
    on_a_loop,
    pending_retry,
    report_accepting_to,
    until,
    watches_listeners,
)


@pytest.fixture
def listeners() -> Iterator[list[socket.socket]]:
    """Two listening sockets, as the master has them."""
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    for sock in socks:
        sock.setblocking(False)
    yield socks
    for sock in socks:
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


def doors_of(listeners: list[socket.socket], log: Recorder | None = None) -> tuple[Doors, Accepted]:
    guests = Accepted()
    served = [Listener(fd=sock.fileno(), name=str(index), backlog=8) for index, sock in enumerate(listeners)]
    return Doors(asyncio.get_running_loop(), served, guests.protocol, cast("Log", log or Recorder())), guests


def holders(sock: socket.socket) -> int:
    """Return how many descriptors of this process refer to `sock`."""
    inode = os.fstat(sock.fileno()).st_ino
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one of the listing
            found += os.fstat(int(fd)).st_ino == inode
    return found


def connect_to_each(listeners: list[socket.socket]) -> list[socket.socket]:
    """Return a client of each listener; the kernel completes the connection before any accept."""
    return [socket.create_connection(sock.getsockname(), timeout=5) for sock in listeners]


@on_a_loop
async def test_each_listener_is_served(listeners):
    """All of them at once."""
    doors, guests = doors_of(listeners)
    await doors.open()
    clients = connect_to_each(listeners)
    await until(lambda: 2 == len(guests.transports))
    doors.close()
    await guests.leave()
    for client in clients:
        client.close()


@on_a_loop
async def test_a_closed_acceptor_leaves_clients_in_the_queue(listeners):
    """They are served when it opens again."""
    doors, guests = doors_of(listeners)
    await doors.open()
    doors.close()
    clients = connect_to_each(listeners)
    for _ in range(50):
        await asyncio.sleep(0)
    assert not guests.transports

    doors.reopen()
    await until(lambda: 2 == len(guests.transports))
    doors.close()
    await guests.leave()
    for client in clients:
        client.close()


@on_a_loop
async def test_a_leaving_acceptor_accepts_the_whole_queue(listeners):
    """The kernel has completed these connections. Afterwards the worker's own descriptors are closed, and no others."""
    copies = [sock.dup() for sock in listeners]
    doors, guests = doors_of(copies)
    clients = connect_to_each(listeners) + connect_to_each(listeners)
    for copy in copies:
        copy.detach()  # the acceptor closes it
    await doors.leave()
    clients += connect_to_each(listeners)  # the master still has it open
    held = [holders(sock) for sock in listeners]
    await guests.leave()

    assert 4 == len(guests.transports)
    assert held == [1, 1]

    for client in clients:
        client.close()


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_a_leaving_acceptor_waits_for_clients_that_the_loop_has_accepted(listeners, new_loop):
    """The loop reports them a turn or two later; a worker that looked before would count no connection and exit."""

    async def come_in_before_the_end() -> int:
        guests, accepted = Accepted(), asyncio.Event()

        def protocol(listener: Listener) -> asyncio.Protocol:
            accepted.set()
            return guests.protocol(listener)

        fd = os.dup(listeners[0].fileno())
        doors = Doors(
            asyncio.get_running_loop(), [Listener(fd=fd, name="0", backlog=8)], protocol, cast("Log", Recorder())
        )
        await doors.open()
        (client,) = connect_to_each(listeners[:1])
        await accepted.wait()
        assert not guests.transports, "the loop tells of it at once: this test is about nothing any more"
        doors.close()
        await doors.leave()
        number = len(guests.transports)
        await until(lambda: guests.transports)
        await guests.leave()
        client.close()
        return number

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert 1 == runner.run(come_in_before_the_end())


@on_a_loop
async def test_the_kernel_refuses_clients_after_the_last_holder_has_left(listeners):
    """They do not wait in a queue without a worker."""
    addresses = [sock.getsockname() for sock in listeners]
    doors, _ = doors_of(listeners)
    for sock in listeners:
        sock.detach()  # the acceptor closes it
    await doors.leave()

    for address in addresses:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)


@on_a_loop
async def test_an_acceptor_that_is_closed_before_it_has_opened_stays_closed(listeners):
    """A drain may begin in the turn in which it was asked to open."""
    doors, guests = doors_of(listeners)
    doors.reopen()
    doors.close()
    clients = connect_to_each(listeners)
    for _ in range(50):
        await asyncio.sleep(0)

    assert not guests.transports
    for client in clients:
        client.close()


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


@on_a_loop
async def test_an_acceptor_without_descriptors_opens_later(listeners, monkeypatch):
    """If one listener of two cannot open, none does. It is logged once, and no client is lost."""
    monkeypatch.setattr(acceptor, "PAUSE_S", 0.01)
    log = Recorder()
    said: list[bool] = []
    doors, guests = doors_of(listeners, log)
    report_accepting_to(doors, said.append)
    clients = connect_to_each(listeners)
    with no_descriptors(but=1):
        doors.reopen()
        await until(lambda: len(said) > 2)
        assert listening_servers(doors) == []
    await until(lambda: 2 == len(guests.transports))

    assert [False] * (len(said) - 1) + [True] == said
    assert [("accepting pauses", "Too many open files")] == [(line.event, line.fields["reason"]) for line in log.lines]

    doors.close()
    await guests.leave()
    for client in clients:
        client.close()


@on_a_loop
async def test_a_close_ends_the_retry_timer(listeners, monkeypatch):
    """A drain may begin while the worker waits for a descriptor."""
    doors, _ = doors_of(listeners)
    with no_descriptors(but=0):
        doors.reopen()
        await until(lambda: pending_retry(doors) is not None)
        look = pending_retry(doors)
        doors.close()

    assert look is not None
    assert look.cancelled()
    assert not is_opening(doors)


def test_an_acceptor_that_is_closed_while_it_opens_stays_closed(listeners):
    """asyncio's own loop accepts a turn before it reports it."""

    async def closes_in_between() -> int:
        doors, guests = doors_of(listeners)
        doors.reopen()
        await asyncio.sleep(0)
        doors.close()
        clients = connect_to_each(listeners)
        for _ in range(50):
            await asyncio.sleep(0)
        for client in clients:
            client.close()
        return len(guests.transports)

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        assert 0 == runner.run(closes_in_between())


@on_a_loop
async def test_a_worker_that_stepped_back_accepts_if_no_sibling_does(listeners):
    """After a moment, because the sibling may be blocked."""
    doors, guests = doors_of(listeners)
    await doors.open()
    doors.step_back(lambda: True)
    clients = connect_to_each(listeners)
    await until(lambda: 2 == len(guests.transports))
    doors.close()
    await guests.leave()
    for client in clients:
        client.close()


@on_a_loop
async def test_a_worker_that_stepped_back_leaves_a_client_to_its_siblings(listeners):
    """If the queue is empty after that moment, it stays back for as long as it has more connections."""
    doors, guests = doors_of(listeners)
    await doors.open()
    looks: list[bool] = []

    def is_ahead() -> bool:
        looks.append(True)
        return True

    doors.step_back(is_ahead)
    clients = connect_to_each(listeners)
    await until(lambda: pending_retry(doors) is not None)
    taken = [listener.accept()[0] for listener in listeners]  # by the sibling
    await until(lambda: looks)
    assert (listening_servers(doors), is_opening(doors), watches_listeners(doors)) == ([], False, True)
    assert not guests.transports

    doors.close()
    for sock in (*clients, *taken):
        sock.close()


@on_a_loop
async def test_a_close_ends_the_watch_of_a_worker_that_stepped_back(listeners):
    """A drain may begin while a client waits in the queue."""
    doors, guests = doors_of(listeners)
    await doors.open()
    doors.step_back(lambda: True)
    clients = connect_to_each(listeners)
    await until(lambda: pending_retry(doors) is not None)
    look = pending_retry(doors)

    doors.close()

    assert look is not None
    assert look.cancelled()
    assert not watches_listeners(doors)
    assert not guests.transports
    for client in clients:
        client.close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["TCP", "a Unix socket"])
@on_a_loop
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
        doors = Doors(asyncio.get_running_loop(), [listener], lambda _: Guest(), cast("Log", Recorder()))
        await asyncio.wait_for(doors.leave(), 10)
        taken = len(clients) - 5

        assert taken == 5 if family == socket.AF_INET else 5 <= taken <= backlog + 1
        for client in clients:
            client.close()


@on_a_loop
async def test_a_cancelled_leave_closes_all_sockets(listeners):
    """The end of the grace cancels it."""
    copies = [sock.dup() for sock in listeners]
    doors, guests = doors_of(copies)
    clients = connect_to_each(listeners)
    for copy in copies:
        copy.detach()  # the acceptor closes it
    leaving = asyncio.ensure_future(doors.leave())
    await asyncio.sleep(0)
    leaving.cancel()
    with suppress(asyncio.CancelledError):
        await leaving

    assert [1, 1] == [holders(sock) for sock in listeners]
    await guests.leave()
    for client in clients:
        client.close()
