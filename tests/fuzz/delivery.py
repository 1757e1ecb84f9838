"""One connection in this process without a socket: bytes are delivered to it, and its behaviour is checked against the
rules.

The transport is a fake and the loop turns until nothing is ready, so a delivery takes some 50 µs and is the same each
time. After each delivery the client leaves, and nothing may be left. It knows neither h11 nor the source of a stream.
"""

import asyncio
import signal
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from math import inf
from random import Random
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from asgid import board, config
from asgid.board import BYTES, CLOSE_CODES, WEBSOCKET_CLOSES, Board
from asgid.worker.asgi import Application, Receive, Send
from asgid.worker.http1.connection import Connection
from asgid.worker.http1.phases import phase_timeouts
from tests.worker import parts
from tests.worker.apps import Scope
from tests.worker.recorder import Recorder

if TYPE_CHECKING:
    from asgid.worker.websocket.protocol import WebSocketProtocol

COMMON = b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\nserver: asgid\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
#: Max turns of the loop for one delivery, and max CPU seconds.
_MOST_TURNS = 100_000
#: Turns, and writes that the client reads, that an endless application gets.
_FEW_TURNS = 5
_MOST_CPU_S = 10.0
#: The text of the one permitted error: an application raises it on purpose.
ON_PURPOSE = "on purpose"


class BrokenRuleError(AssertionError):
    """A rule does not hold for a stream; all streams that break it in the same way have the same `rule`."""

    def __init__(self, rule: str, detail: object = "", stream: bytes = b"") -> None:
        super().__init__(f"{rule}: {detail}" if detail != "" else rule)
        self.rule = rule
        self.stream = stream


class Seen(NamedTuple):
    """One request as the application got it, with its whole body."""

    method: str
    raw_path: bytes
    query: bytes
    version: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(slots=True)
class Outcome:
    """The outcome of a stream. `is_closed`: the server had closed before the client did."""

    seen: list[Seen] = field(default_factory=list)
    told: list[str | bytes] = field(default_factory=list)  #: the messages that the application of a WebSocket received
    end: tuple[int, str] | None = None  #: the code and reason of its close
    closes: tuple[str, ...] = ()  #: of a WebSocket, as the board counts them
    written: bytes = b""
    is_closed: bool = False


class End(Enum):
    """The way in which the client leaves."""

    CLOSE = auto()  # it half-closes, reads the responses, and leaves
    RESET = auto()


# -- applications ------------------------------------------------------------------------------------------------------


async def _reads(turns: int, scope: Scope, receive: Receive, send: Send) -> None:
    """Read the whole body, then respond; return if the client has gone before."""
    body = []
    more = True
    while more:
        for _ in range(turns):
            await asyncio.sleep(0)
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body.append(message["body"])
        more = message["more_body"]
    outcome: Outcome = scope["state"]["outcome"]
    outcome.seen.append(
        Seen(
            scope["method"],
            scope["raw_path"],
            scope["query_string"],
            scope["http_version"],
            tuple(scope["headers"]),
            b"".join(body),
        )
    )
    number = b"%d" % len(outcome.seen)
    for _ in range(turns):
        await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-number", number)]})
    await send({"type": "http.response.body", "body": number})


async def answers_unread(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond in two parts, and read nothing."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * 50, "more_body": True})
    await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"y" * 50})


#: Applications that record their requests for the rules.
READS: Application = partial(_reads, 0)
WAITS: Application = partial(_reads, 1)


# -- the transport -----------------------------------------------------------------------------------------------------


class Transport(asyncio.Transport):
    """Keeps all writes, and permits what asyncio's transports permit.

    `room` bounds the unsent bytes of a client that reads nothing before writing pauses; None is a client that reads
    everything at once.
    """

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop, room: int | None) -> None:
        super().__init__()
        self.protocol: Connection | WebSocketProtocol = connection
        self._loop, self._room = loop, room
        self.taken: list[bytes] = []
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._is_reading = True
        self.is_lost = self.has_ended = self._is_paused = self._is_closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 50000), "sockname": ("127.0.0.1", 8000)}.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = cast("WebSocketProtocol", protocol)

    def is_closing(self) -> bool:
        return self._is_closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.has_ended:
            raise BrokenRuleError("something is written after the end of the stream", bytes(data))
        if self._is_closing:
            raise BrokenRuleError("something is written to a transport that closes", bytes(data))
        if self._room is None:
            self.taken.append(bytes(data))
            return
        self._unsent.append(bytes(data))
        self._unsent_bytes += len(data)
        if self._unsent_bytes > self._room and not self._is_paused:
            self._is_paused = True
            self.protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_ended = True

    def get_write_buffer_size(self) -> int:
        return self._unsent_bytes

    def is_reading(self) -> bool:
        return self._is_reading

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if not self._unsent:
                self._loop.call_soon(self.lose, None)

    def abort(self) -> None:
        self._unsent.clear()
        self._unsent_bytes = 0
        if not self.is_lost:
            self._is_closing = True
            self._loop.call_soon(self.lose, None)

    def lose(self, error: Exception | None) -> None:
        """End the connection."""
        if not self.is_lost:
            self.is_lost = self._is_closing = True
            self._unsent.clear()
            self.protocol.connection_lost(error)

    def take(self) -> bool:
        """Let the client read one write; return whether there was one."""
        if not self._unsent:
            return False
        data = self._unsent.popleft()
        self.taken.append(data)
        self._unsent_bytes -= len(data)
        if self._is_paused and self._unsent_bytes <= (self._room or 0) // 4:
            self._is_paused = False
            self.protocol.resume_writing()
        if not self._unsent and self._is_closing:
            self._loop.call_soon(self.lose, None)
        return True

    @property
    def is_over(self) -> bool:
        """Whether the server has closed its side, or is about to."""
        return self._is_closing or self.has_ended


# -- the world ---------------------------------------------------------------------------------------------------------


class World:
    """A service for streams, delivered one after the other; tables as in the configuration file.

    Without `websocket` each offer of one is ignored, and streams stay HTTP. An application that `is_obliging` receives
    everything, responds only to requests, and ends with its client; another one is cancelled.
    """

    def __init__(
        self,
        app: Application,
        limits: Mapping[str, int] | None = None,
        websocket: Mapping[str, int] | None = None,
        *,
        is_obliging: bool = True,
    ) -> None:
        lines = ['app.target = "app:app"', *(f"limits.{key} = {value}" for key, value in (limits or {}).items())]
        lines += [f"websocket.{key} = {value}" for key, value in (websocket or {}).items()]
        self._app, self._config = app, config.parse("\n".join(lines), "fuzz.toml")
        self._speaks_websocket = websocket is not None
        self._is_obliging = is_obliging
        self.delivered = 0
        self.last: tuple[bytes, Outcome] | None = None  #: the last stream and its outcome
        self._begin()

    def _begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        # Only the queue of the loop shows that nothing is left to do; it has no public name.
        self._ready: deque[object] = cast("Any", self.loop)._ready
        self.unseen: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.unseen.append(context))
        self.row = Board(bytearray(BYTES)).row(0)
        self._log = Recorder()
        self.context = parts.build_context(
            *(self._app, self._config, self.row, self._log), loop=self.loop, serves_websockets=self._speaks_websocket
        )
        self.context.common_lines = COMMON

    def close(self) -> None:
        self.loop.close()

    def deliver(
        self,
        pieces: Sequence[bytes],
        end: End = End.CLOSE,
        room: int | None = None,
        weather: Random | None = None,
        state: Mapping[str, object] | None = None,
    ) -> Outcome:
        """Deliver each piece as one read, then let the client leave. BrokenRuleError if a rule does not hold.

        With `weather` random events happen between the pieces: deadlines pass, the worker drains. `state` is for the
        application.
        """
        self.delivered += 1
        outcome = Outcome()
        self.context.state = {"outcome": outcome, **(state or {})}
        self.context.connections.is_draining = False
        before = signal.signal(signal.SIGVTALRM, _hangs)  # CPU time: pytest-timeout has the other timer
        signal.setitimer(signal.ITIMER_VIRTUAL, _MOST_CPU_S)
        try:
            self.loop.run_until_complete(self._deliver(pieces, end, room, weather, outcome))
        except Exception as error:
            self._end()
            stream = b"".join(pieces)
            if isinstance(error, BrokenRuleError):
                error.stream = error.stream or stream
                raise
            raise BrokenRuleError(f"{type(error).__name__} comes out of the connection", error, stream) from error
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)
        return outcome

    def _end(self) -> None:
        """Start again: the remains of a broken rule would be found after every later stream."""
        if tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks))
        self.loop.close()
        self._begin()

    async def _deliver(
        self, pieces: Sequence[bytes], end: End, room: int | None, weather: Random | None, outcome: Outcome
    ) -> None:
        _, transport = self.connect(room)
        closes = self._closes()
        for number, piece in enumerate(pieces, 1):
            if transport.is_closing() or not transport.is_reading():  # the rest stays in the kernel
                break
            transport.protocol.data_received(piece)
            if end is End.RESET and number == len(pieces):  # it leaves with unread responses on their way
                await self.turn()
                break
            await self._settle(transport)
            if weather is not None:
                self._storm(transport, weather)
                await self._settle(transport)
        outcome.is_closed = transport.is_over
        if end is End.CLOSE and transport.is_reading() and not transport.is_closing():
            if not transport.protocol.eof_received():
                transport.close()
            await self._settle(transport)
        if not transport.is_lost:
            transport.lose(ConnectionResetError() if end is End.RESET else None)
            await self._settle(transport)
        if not self._is_obliging:
            parts.cancel_all(self.context, 500)
        await self.turn()
        outcome.written = b"".join(transport.taken)
        outcome.closes = tuple(
            code
            for code, before, now in zip(CLOSE_CODES, closes, self._closes(), strict=True)
            for _ in range(now - before)
        )
        self._look_around()

    def _closes(self) -> list[int]:
        return list(self.row[WEBSOCKET_CLOSES : WEBSOCKET_CLOSES + len(CLOSE_CODES)])

    def connect(self, room: int | None = None) -> tuple[Connection, Transport]:
        """Return a new connection and its fake transport."""
        connection = Connection(self.context, phase_timeouts(self.context.timeouts))
        transport = Transport(connection, self.loop, room)
        connection.connection_made(transport)
        return connection, transport

    async def turn(self) -> None:
        """Let the loop turn until nothing is ready; only a few times if the application is not obliging."""
        turns = 0
        while self._ready:
            await asyncio.sleep(0)
            turns += 1
            if turns > _FEW_TURNS and not self._is_obliging:
                return
            if turns > _MOST_TURNS:
                raise BrokenRuleError("the loop turns forever")

    async def _settle(self, transport: Transport) -> None:
        """Let the loop turn until nothing changes, and check that an open connection has a deadline."""
        await self.turn()
        taken = 0
        while transport.take():
            await self.turn()
            taken += 1
            if taken > _FEW_TURNS and not self._is_obliging:
                return
        if transport.is_closing() or not self._is_obliging:
            return
        if not transport.is_reading():
            raise BrokenRuleError("reading stays paused forever")
        if transport.protocol.deadline == inf:
            raise BrokenRuleError("an open connection has no deadline")

    def _storm(self, transport: Transport, weather: Random) -> None:
        if transport.is_lost:
            return
        one = transport.protocol
        match weather.randrange(12):
            case 0:
                parts.drain_now(self.context)
            case 1 if one.deadline < inf:
                parts.reach_deadline(one)
            case 2 if transport.is_reading() and not transport.is_over:
                transport.pause_reading()  # resuming must depend on the connection's own state
                transport.resume_reading()
            case 3 if not transport.is_over:
                one.pause_writing()
                one.resume_writing()
            case 4 if one in parts.paused(self.context):
                parts.leave(one, is_reset=bool(weather.randrange(2)))
            case _:
                pass

    def _look_around(self) -> None:
        """Check that nothing is left of a connection."""
        left = parts.still_open(self.context) | {
            "connections on the board": self.row[board.CONNECTIONS],
            "requests in flight on the board": self._in_flight(),
            "WebSockets on the board": self.row[board.WEBSOCKETS],
        }
        if any(left.values()):
            raise BrokenRuleError("something is left of a connection", {what: n for what, n in left.items() if n})
        if self.unseen:
            unseen, self.unseen[:] = list(self.unseen), []
            raise BrokenRuleError("something failed unseen in the loop", unseen)
        lines, self._log.lines = self._log.lines, []
        told = [
            str(line.fields.get("stack", line)) for line in lines if line.level == "error" or self._speaks_websocket
        ]
        if told := [text for text in told if ON_PURPOSE not in text]:
            raise BrokenRuleError("something is logged that a client has done", "\n".join(told))

    def _in_flight(self) -> int:
        """Return the value of board.in_flight(), but also negative ones: an end that was counted twice."""
        row = self.row
        return row[board.STARTED] - row[board.ABANDONED] - sum(board.histogram(row, board.DURATION)[0])


def _hangs(_signum: int, _frame: FrameType | None) -> None:
    raise BrokenRuleError("a stream takes more than ten seconds of the processor")
