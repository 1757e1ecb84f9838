"""Socket.IO with its own client: long-polling, WebSockets, and the upgrade from one to the other."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from socket import SHUT_RDWR
from typing import Any

import aiohttp
import pytest
import socketio  # type: ignore[import-untyped] # it has no types
from websockets.sync.client import connect

from tests.conftest import Start
from tests.daemon import WITHIN_S, Daemon

#: The transport that a client ends up with -> the transports that it offers.
TRANSPORTS = {"polling": ["polling"], "websocket": ["websocket"], "upgraded": ["polling", "websocket"]}


@pytest.fixture(scope="module")
def served(start_shared: Start) -> Iterator[Daemon]:
    """One worker: with more, a balancer in front would have to send a long-polling client to the same one each time."""
    daemon = start_shared("in_socketio:application", workers={"count": 1}, timeouts={"graceful": "1s"})
    yield daemon

    assert 0 == daemon.stop()
    assert [] == daemon.log_events(level="error")


class Guest:
    """A client, whether the server has accepted it or not, and the messages that it has received."""

    def __init__(self, client: socketio.AsyncClient) -> None:
        self.client = client
        self.received: asyncio.Queue[Any] = asyncio.Queue()
        self.is_disconnected = asyncio.Event()
        client.on("connect", lambda: self.received.put_nowait("welcome"))
        client.on("connect_error", lambda refusal: self.received.put_nowait(refusal["message"]))
        client.on("said", self.received.put)
        client.on("disconnect", self._leave)

    def _leave(self, reason: str) -> None:
        self.is_disconnected.set()

    async def receive(self) -> Any:
        return await asyncio.wait_for(self.received.get(), WITHIN_S)

    async def ask(self, event: str, *data: Any) -> Any:
        """Return the answer of the server to `event`."""
        return await self.client.call(event, data, timeout=WITHIN_S)


@asynccontextmanager
async def guest(
    daemon: Daemon, transports: list[str], word: str = "friend", answer: str = "welcome"
) -> AsyncIterator[Guest]:
    """Connect a client, and cut its connections at the end: a normal close would wait for the end of its last poll."""
    async with aiohttp.ClientSession() as session:
        visitor = Guest(socketio.AsyncClient(reconnection=False, http_session=session))
        await visitor.client.connect(daemon.url, auth={"word": word}, transports=transports, wait=False)
        assert answer == await visitor.receive()
        yield visitor
        await session.close()
        await visitor.client.eio.wait()
        if not visitor.client.eio.http.closed:  # it has opened a session of its own for its close
            await visitor.client.eio.http.close()


async def until(predicate: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `predicate` returns True."""
    async with asyncio.timeout(WITHIN_S):
        while not await predicate():  # noqa: ASYNC110 - the server sends no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS.keys())
def test_events_are_answered_over_every_transport(served: Daemon, transports: list[str]) -> None:
    """Text, numbers and bytes, small and large; a client that offers a WebSocket upgrades to it."""

    async def converse() -> tuple[str, list[Any]]:
        async with guest(served, transports) as one:
            answers = [await one.ask("double", data) for data in ("grüße ", 21, b"\0\xff", "long " * 20_000)]
            return one.client.transport(), answers

    transport, answers = asyncio.run(converse())

    assert transports[-1] == transport
    assert ["grüße grüße ", 42, b"\0\xff\0\xff", "long " * 40_000] == answers


def test_a_message_to_a_room_reaches_each_client_in_it(served: Daemon) -> None:
    async def converse() -> list[str]:
        async with AsyncExitStack() as stack:
            guests = [await stack.enter_async_context(guest(served, names)) for names in TRANSPORTS.values()]
            outside = await stack.enter_async_context(guest(served, ["websocket"]))
            for one in guests:
                await one.ask("enter", "kitchen")
            await outside.ask("enter", "garden")
            await guests[0].ask("say", "kitchen", "is anybody there?")
            messages = [await one.receive() for one in guests]
            assert outside.received.empty()
            return messages

    assert ["is anybody there?"] * 3 == asyncio.run(converse())


@pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS.keys())
def test_a_client_without_the_right_word_is_refused(served: Daemon, transports: list[str]) -> None:
    async def is_connected() -> bool:
        async with guest(served, transports, word="foe", answer="who are you?") as outside:
            return bool(outside.client.connected)

    assert not asyncio.run(is_connected())


def test_either_side_can_end_a_connection(served: Daemon) -> None:
    """The server disconnects one client, another leaves by itself: the other side is notified of both."""

    async def part() -> None:
        async with guest(served, ["websocket"]) as witness:
            async with guest(served, ["polling"]) as dropped:
                first = dropped.client.get_sid()
                await dropped.client.emit("leave")
                await asyncio.wait_for(dropped.is_disconnected.wait(), WITHIN_S)
            async with guest(served, ["websocket"]) as leaves:
                second = leaves.client.get_sid()
                await leaves.client.disconnect()

            async def have_both_left() -> bool:
                left = [await witness.ask("why_left", sid) for sid in (first, second)]
                # On Python 3.11 the client has closed before it can send that it leaves.
                return left in (["server disconnect", by] for by in ("client disconnect", "transport close"))

            await until(have_both_left)

    asyncio.run(part())


def test_a_client_that_vanishes_counts_as_disconnected(served: Daemon) -> None:
    """Its WebSocket ends without a close frame, and its session ends with it, long before a ping would time out."""

    async def watch() -> None:
        async with guest(served, ["websocket"]) as witness:
            vanished = await asyncio.to_thread(vanish)

            async def has_left() -> bool:
                return bool(await witness.ask("why_left", vanished) == "transport close")

            await until(has_left)

    def vanish() -> str:
        address = served.address()
        with connect(f"ws://{address}/socket.io/?EIO=4&transport=websocket", proxy=None) as socket:
            assert "0{" == str(socket.recv(timeout=10))[:2]
            socket.send('40{"word":"friend"}')
            packet = str(socket.recv(timeout=10))
            assert "40{" == packet[:3]
            socket.socket.shutdown(SHUT_RDWR)
            return str(json.loads(packet[2:])["sid"])

    asyncio.run(watch())


def test_clients_that_begin_with_a_websocket_need_no_affinity(start: Start) -> None:
    """Every client stays with one of the two workers, and a stop disconnects it."""
    daemon = start("in_socketio:application", workers={"count": 2})

    async def converse() -> list[int]:
        async with AsyncExitStack() as stack:
            guests = [await stack.enter_async_context(guest(daemon, ["websocket"])) for _ in range(6)]
            answers = [await one.ask("double", number) for number, one in enumerate(guests)]
            daemon.signal("TERM")
            async with asyncio.timeout(WITHIN_S):
                for one in guests:
                    await one.is_disconnected.wait()
            return answers

    assert [0, 2, 4, 6, 8, 10] == asyncio.run(converse())
    assert 0 == daemon.wait()
    assert [] == daemon.log_events(level="error")
