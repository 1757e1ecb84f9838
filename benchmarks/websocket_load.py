"""The load over WebSockets: messages, taken only if every one was delivered to all of its audience, byte for byte.

wrk speaks no WebSocket. This is one thread over epoll; frames are made before anything counts, and the usual answer is
one read and one comparison, so that no server waits for its client. It does not know which server answers.
"""

import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks import websocket
from benchmarks.load import Load, LoadError
from benchmarks.scenarios import Scenario
from benchmarks.websocket import Opcode

_PING = bytes((Opcode.PING,))  # after 20 s every server here sends one, before an answer or in one read with it
ANSWER_S = 10  # for a handshake, for any answer to come, for the kernel to take a message


@contextmanager
def client(port: int, scenario: Scenario) -> Iterator[Callable[[float], Load]]:
    """Open the scenario's connections to 127.0.0.1:`port`; give what loads for so many seconds; close them.

    Opening and closing is in no load's time. Raises LoadError, also where a connection cannot be opened.
    """
    with ExitStack() as stack:
        connections: list[socket.socket] = []
        try:
            while len(connections) < scenario.connections:
                connections.append(stack.enter_context(_connected(port, scenario.path)))
            poll = stack.enter_context(select.epoll())
            yield Conversation(connections, poll, scenario).go_on
            for connection in connections:
                websocket.close(connection)
        except OSError as error:
            raise LoadError(f"with {len(connections)} WebSockets open: {error}") from None


def _connected(port: int, path: str) -> socket.socket:
    connection = websocket.connect(port, path, ANSWER_S)
    # From here the kernel keeps the time. Python's own time limit asks it before each read and write whether it may.
    connection.settimeout(None)
    for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, limit, struct.pack("ll", ANSWER_S, 0))
    return connection


def said_by(number: int, body: bytes) -> bytes:
    """Return what the connection of that number says: `body`, begun with the number, so that no two say the same."""
    return b"%d %b" % (number, body[len(b"%d " % number) :])


class Circle:
    """A speaker and its audience, which it is one of. It says the same again when all have heard it."""

    __slots__ = ("_frame", "_size", "_speaker", "answer", "began", "missing")

    def __init__(self, speaker: socket.socket, message: bytes, size: int) -> None:
        self._speaker = speaker
        self._frame = websocket.from_client(Opcode.TEXT, message)
        self._size = size
        self.answer = websocket.from_server(Opcode.TEXT, message)
        self.missing = 0  #: how many have not heard it yet
        self.began = 0.0

    def speak(self, now: float) -> None:
        self.missing = self._size
        self.began = now
        self._speaker.sendall(self._frame)


class Listener:
    """One connection and what it is to hear."""

    __slots__ = ("_answer", "_connection", "_part", "circle")

    def __init__(self, connection: socket.socket, circle: Circle) -> None:
        self.circle = circle
        self._connection = connection
        self._answer = circle.answer
        self._part = b""  #: what has come of the answer so far, or of a ping

    def hears(self) -> bool:
        """Read once, and return whether the answer is complete; raises LoadError where it is another."""
        data = self._connection.recv(len(self._answer) + 1)  # one more than there may be
        if data == self._answer and not self._part:
            return True
        if not data:
            raise LoadError("the server closed a WebSocket")
        part = self._after_ping(self._part + data)
        is_complete = part.startswith(self._answer)
        rest = part[len(self._answer) :] if is_complete else part
        may_go_on = rest[:1] in (b"", _PING) or (not is_complete and self._answer.startswith(rest))
        if not may_go_on:
            raise LoadError(f"{part[:40]!r} ({len(part)} bytes) came instead of {self._answer[:40]!r}")
        self._part = rest
        return is_complete

    def _after_ping(self, part: bytes) -> bytes:
        """Answer the ping that `part` begins with, if it is whole, and return what follows it."""
        if part[:1] == _PING and len(part) > 1 and len(part) >= (end := 2 + part[1]):
            self._connection.sendall(websocket.from_client(Opcode.PONG, part[2:end]))
            return part[end:]
        return part


class Conversation:
    """All connections of a load, in circles of `scenario.audience`; the first of each is its speaker."""

    def __init__(self, connections: Sequence[socket.socket], poll: select.epoll, scenario: Scenario) -> None:
        self._poll = poll
        self._audience = scenario.audience
        self._circles: list[Circle] = []
        self._listeners: dict[int, Listener] = {}
        for number, connection in enumerate(connections):
            if number % scenario.audience == 0:
                self._circles.append(Circle(connection, said_by(number, scenario.body), scenario.audience))
            self._listeners[connection.fileno()] = Listener(connection, self._circles[-1])
            poll.register(connection, select.EPOLLIN)

    def go_on(self, seconds: float) -> Load:
        """Speak for `seconds`, then listen until all is heard; raises LoadError.

        What counts is each message delivered; the latencies are those of the last one of an audience.
        """
        clock = time.perf_counter
        delays: list[float] = []
        began = clock()
        for circle in self._circles:
            circle.speak(clock())
        speaking = len(self._circles)
        while speaking:
            ready = self._poll.poll(ANSWER_S)
            if not ready:
                raise LoadError(f"{speaking} messages were not heard by all within {ANSWER_S} s")
            for descriptor, _ in ready:
                listener = self._listeners[descriptor]
                if not listener.hears():
                    continue
                circle = listener.circle
                circle.missing -= 1
                if circle.missing:
                    continue
                now = clock()
                delays.append(now - circle.began)
                if now - began < seconds:
                    circle.speak(now)
                else:
                    speaking -= 1
        elapsed_s = clock() - began
        delivered = len(delays) * self._audience
        delays.sort()
        p50_ms, p99_ms = (delays[int(len(delays) * share)] * 1e3 for share in (0.50, 0.99))
        return Load(delivered, elapsed_s, delivered * len(self._circles[0].answer), p50_ms, p99_ms, {})
