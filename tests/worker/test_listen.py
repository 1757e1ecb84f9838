"""The doors of one worker: they open, close without losing anybody, and open again."""

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
    """Two listening sockets, as the master holds them."""
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    for sock in socks:
        sock.setblocking(False)
    yield socks
    for sock in socks:
        sock.close()


class Guests:
    """Counts who came in, and sends them away at the end."""

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


def doors_of(listeners: list[socket.socket], log: Recorder | None = None) -> tuple[Doors, Guests]:
    guests = Guests()
    served = [Listener(fd=sock.fileno(), name=str(index), backlog=8) for index, sock in enumerate(listeners)]
    return Doors(asyncio.get_running_loop(), served, guests.protocol, cast("Log", log or Recorder())), guests


def holders(sock: socket.socket) -> int:
    """Return how many descriptors of this process are `sock`."""
    inode = os.fstat(sock.fileno()).st_ino
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one of the listing
            found += os.fstat(int(fd)).st_ino == inode
    return found


def knock(listeners: list[socket.socket]) -> list[socket.socket]:
    """Connect to each; the kernel completes it, whoever accepts."""
    return [socket.create_connection(sock.getsockname(), timeout=5) for sock in listeners]


@on_a_loop
async def test_each_listener_is_served(listeners):
    """All of them, at once."""
    doors, guests = doors_of(listeners)
    await doors.open()
    clients = knock(listeners)
    await until(lambda: 2 == len(guests.transports))
    doors.close()
    await guests.leave()
    for client in clients:
        client.close()


@on_a_loop
async def test_who_knocks_at_closed_doors_waits_in_the_kernel(listeners):
    """Nobody is refused: they are served when the doors open again."""
    doors, guests = doors_of(listeners)
    await doors.open()
    doors.close()
    clients = knock(listeners)
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
async def test_who_leaves_takes_those_who_were_told_that_they_are_connected(listeners):
    """All that the kernel has completed; then the worker's own descriptors are closed, and only those."""
    copies = [sock.dup() for sock in listeners]
    doors, guests = doors_of(copies)
    clients = knock(listeners) + knock(listeners)
    for copy in copies:
        copy.detach()  # it is the doors' to close them
    await doors.leave()
    clients += knock(listeners)  # the master holds them still
    held = [holders(sock) for sock in listeners]
    await guests.leave()

    assert 4 == len(guests.transports)
    assert held == [1, 1]

    for client in clients:
        client.close()


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_who_leaves_waits_for_those_whom_the_loop_had_accepted(listeners, new_loop):
    """It tells of them a turn or two later; a worker that looked before would take itself for empty, and end."""

    async def come_in_before_the_end() -> int:
        guests, accepted = Guests(), asyncio.Event()

        def protocol(listener: Listener) -> asyncio.Protocol:
            accepted.set()
            return guests.protocol(listener)

        fd = os.dup(listeners[0].fileno())
        doors = Doors(
            asyncio.get_running_loop(), [Listener(fd=fd, name="0", backlog=8)], protocol, cast("Log", Recorder())
        )
        await doors.open()
        (client,) = knock(listeners[:1])
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
async def test_when_the_last_holder_leaves_who_comes_is_refused(listeners):
    """And does not wait in a queue that nobody will look at."""
    addresses = [sock.getsockname() for sock in listeners]
    doors, _ = doors_of(listeners)
    for sock in listeners:
        sock.detach()  # it is the doors' to close them
    await doors.leave()

    for address in addresses:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)


@on_a_loop
async def test_doors_that_are_closed_before_they_have_opened_stay_closed(listeners):
    """A drain that begins in the same turn as a reopening has the last word."""
    doors, guests = doors_of(listeners)
    doors.reopen()
    doors.close()
    clients = knock(listeners)
    for _ in range(50):
        await asyncio.sleep(0)

    assert not guests.transports
    for client in clients:
        client.close()


@contextmanager
def no_descriptors(but: int) -> Iterator[None]:
    """Leave this process only so many that are free."""
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
async def test_without_a_descriptor_the_doors_open_later(listeners, monkeypatch):
    """One listener of two is none: what was opened is closed again. It is said once, and nobody is lost."""
    monkeypatch.setattr(acceptor, "PAUSE_S", 0.01)
    log = Recorder()
    said: list[bool] = []
    doors, guests = doors_of(listeners, log)
    report_accepting_to(doors, said.append)
    clients = knock(listeners)
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
async def test_closed_for_good_nobody_tries_to_open_again(listeners, monkeypatch):
    """A drain that begins while a worker waits for a descriptor ends its timer."""
    doors, _ = doors_of(listeners)
    with no_descriptors(but=0):
        doors.reopen()
        await until(lambda: pending_retry(doors) is not None)
        look = pending_retry(doors)
        doors.close()

    assert look is not None
    assert look.cancelled()
    assert not is_opening(doors)


def test_doors_that_are_closed_while_they_open_stay_closed(listeners):
    """asyncio's own loop serves already in the turn before it says so."""

    async def closes_in_between() -> int:
        doors, guests = doors_of(listeners)
        doors.reopen()
        await asyncio.sleep(0)
        doors.close()
        clients = knock(listeners)
        for _ in range(50):
            await asyncio.sleep(0)
        for client in clients:
            client.close()
        return len(guests.transports)

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        assert 0 == runner.run(closes_in_between())


@on_a_loop
async def test_stepped_back_a_worker_takes_who_nobody_else_takes(listeners):
    """After a moment: the sibling that should may be stuck."""
    doors, guests = doors_of(listeners)
    await doors.open()
    doors.step_back(lambda: True)
    clients = knock(listeners)
    await until(lambda: 2 == len(guests.transports))
    doors.close()
    await guests.leave()
    for client in clients:
        client.close()


@on_a_loop
async def test_stepped_back_a_worker_leaves_who_a_sibling_takes(listeners):
    """When it looks and nobody waits any more it stays back, for as long as it is ahead."""
    doors, guests = doors_of(listeners)
    await doors.open()
    looks: list[bool] = []

    def is_ahead() -> bool:
        looks.append(True)
        return True

    doors.step_back(is_ahead)
    clients = knock(listeners)
    await until(lambda: pending_retry(doors) is not None)
    taken = [listener.accept()[0] for listener in listeners]  # by the sibling
    await until(lambda: looks)
    assert (listening_servers(doors), is_opening(doors), watches_listeners(doors)) == ([], False, True)
    assert not guests.transports

    doors.close()
    for sock in (*clients, *taken):
        sock.close()


@on_a_loop
async def test_closed_for_good_nobody_steps_forward(listeners):
    """A drain that begins while somebody waits for a worker that is back ends its watch and its timer."""
    doors, guests = doors_of(listeners)
    await doors.open()
    doors.step_back(lambda: True)
    clients = knock(listeners)
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
async def test_a_worker_that_leaves_takes_no_more_than_stood_in_the_queue(family, tmp_path):
    """For each client that is accepted another one comes: they could be taken for ever."""
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
async def test_a_worker_that_cannot_wait_for_the_queue_lets_go_of_all_sockets(listeners):
    """The end of the grace cancels it."""
    copies = [sock.dup() for sock in listeners]
    doors, guests = doors_of(copies)
    clients = knock(listeners)
    for copy in copies:
        copy.detach()  # it is the doors' to close them
    leaving = asyncio.ensure_future(doors.leave())
    await asyncio.sleep(0)
    leaving.cancel()
    with suppress(asyncio.CancelledError):
        await leaving

    assert [1, 1] == [holders(sock) for sock in listeners]
    await guests.leave()
    for client in clients:
        client.close()
