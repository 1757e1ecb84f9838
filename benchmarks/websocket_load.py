"""The load over WebSockets: it counts only if every message reached all of its audience, byte for byte.

wrk has no WebSockets. This client is one thread over epoll. It builds frames before the measurement, and needs one read
and one comparison for a usual answer, so that no server waits for it. It does not depend on the server.
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

_PING = bytes((Opcode.PING,))  # every server here sends one after 20 s, before an answer or in the same read
ANSWER_S = 10  # for a handshake, for any answer, and for the kernel to accept a message


@contextmanager
def client(port: int, scenario: Scenario) -> Iterator[Callable[[float], Load]]:
    """Open the scenario's connections to 127.0.0.1:`port`, yield a function of seconds that loads them, and close them.

    The time of a load does not include opening and closing. Raises LoadError, also if a connection cannot be opened.
    """
    with ExitStack() as stack:
        connections: list[socket.socket] = []
        try:
            while len(connections) < scenario.connections:
                connections.append(stack.enter_context(_connected(port, scenario.path)))
            poll = stack.enter_context(select.epoll())
            yield Connections(connections, poll, scenario).run
            for connection in connections:
                websocket.close(connection)
        except OSError as error:
            raise LoadError(f"with {len(connections)} WebSockets open: {error}") from None


def _connected(port: int, path: str) -> socket.socket:
    connection = websocket.connect(port, path, ANSWER_S)
    # From here the kernel checks the timeout. Python's own timeout needs a poll(2) before each read and write.
    connection.settimeout(None)
    for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, limit, struct.pack("ll", ANSWER_S, 0))
    return connection


def message_of(number: int, body: bytes) -> bytes:
    """Return the message of the connection with that number: `body`, with the number at its beginning."""
    return b"%d %b" % (number, body[len(b"%d " % number) :])


class Group:
    """A sender and its audience, which includes it. It sends the same message again when all have received it."""

    __slots__ = ("_frame", "_sender", "_size", "answer", "began", "missing")

    def __init__(self, sender: socket.socket, message: bytes, size: int) -> None:
        self._sender = sender
        self._frame = websocket.from_client(Opcode.TEXT, message)
        self._size = size
        self.answer = websocket.from_server(Opcode.TEXT, message)
        self.missing = 0  #: how many have not received it yet
        self.began = 0.0

    def send(self, now: float) -> None:
        self.missing = self._size
        self.began = now
        self._sender.sendall(self._frame)


class Receiver:
    """One connection and the message that it expects."""

    __slots__ = ("_answer", "_connection", "_part", "group")

    def __init__(self, connection: socket.socket, group: Group) -> None:
        self.group = group
        self._connection = connection
        self._answer = group.answer
        self._part = b""  #: the received part of the answer, or of a ping

    def read(self) -> bool:
        """Read once, and return whether the answer is complete. Raises LoadError if it is another answer."""
        data = self._connection.recv(len(self._answer) + 1)  # one byte more than expected
        if data == self._answer and not self._part:
            return True
        if not data:
            raise LoadError("the server closed a WebSocket")
        part = self._after_ping(self._part + data)
        is_complete = part.startswith(self._answer)
        rest = part[len(self._answer) :] if is_complete else part
        may_run = rest[:1] in (b"", _PING) or (not is_complete and self._answer.startswith(rest))
        if not may_run:
            raise LoadError(f"{part[:40]!r} ({len(part)} bytes) came instead of {self._answer[:40]!r}")
        self._part = rest
        return is_complete

    def _after_ping(self, part: bytes) -> bytes:
        """Answer a complete ping at the beginning of `part`, and return the rest."""
        if part[:1] == _PING and len(part) > 1 and len(part) >= (end := 2 + part[1]):
            self._connection.sendall(websocket.from_client(Opcode.PONG, part[2:end]))
            return part[end:]
        return part


class Connections:
    """All connections of a load, in groups of `scenario.audience`; the first of each is its sender."""

    def __init__(self, connections: Sequence[socket.socket], poll: select.epoll, scenario: Scenario) -> None:
        self._poll = poll
        self._audience = scenario.audience
        self._groups: list[Group] = []
        self._receivers: dict[int, Receiver] = {}
        for number, connection in enumerate(connections):
            if number % scenario.audience == 0:
                self._groups.append(Group(connection, message_of(number, scenario.body), scenario.audience))
            self._receivers[connection.fileno()] = Receiver(connection, self._groups[-1])
            poll.register(connection, select.EPOLLIN)

    def run(self, seconds: float) -> Load:
        """Send for `seconds`, then read until all messages have arrived. Raises LoadError.

        Each delivered message counts; the latencies are those of the last receiver of an audience.
        """
        clock = time.perf_counter
        delays: list[float] = []
        began = clock()
        for group in self._groups:
            group.send(clock())
        sending = len(self._groups)
        while sending:
            ready = self._poll.poll(ANSWER_S)
            if not ready:
                raise LoadError(f"{sending} messages did not reach all receivers within {ANSWER_S} s")
            for descriptor, _ in ready:
                receiver = self._receivers[descriptor]
                if not receiver.read():
                    continue
                group = receiver.group
                group.missing -= 1
                if group.missing:
                    continue
                now = clock()
                delays.append(now - group.began)
                if now - began < seconds:
                    group.send(now)
                else:
                    sending -= 1
        elapsed_s = clock() - began
        delivered = len(delays) * self._audience
        delays.sort()
        p50_ms, p99_ms = (delays[int(len(delays) * share)] * 1e3 for share in (0.50, 0.99))
        return Load(delivered, elapsed_s, delivered * len(self._groups[0].answer), p50_ms, p99_ms, {})
