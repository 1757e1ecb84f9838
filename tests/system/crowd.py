"""Opens thousands of idle WebSockets with one thread, one epoll and raw sockets; each takes a few hundred bytes.

They answer pings and closes, and count both. The module implements only that part of RFC 6455: the server of an idle
WebSocket sends control frames, each unfragmented and shorter than 126 bytes.
"""

import select
import socket
import threading
from collections import Counter
from types import TracebackType
from typing import Self

PING, CLOSE = 0x89, 0x88
PONG = 0x8A
NO_MASK = bytes(4)  # a client must mask its frames; a mask of zeros leaves them unchanged
AT_A_TIME = 500  # handshakes; fewer than the queue of a listener can hold


class Crowd:
    """`number` connections to `address`, open during the `with` block; each offers `extension`."""

    def __init__(self, address: str, number: int, extension: str = "") -> None:
        host, _, port = address.rpartition(":")
        self.target = (host, int(port))
        self.number = number
        self.extension = extension
        self.pings: dict[int, int] = {}  #: descriptor -> the number of pings that it has answered
        self.closes: Counter[int] = Counter()  #: the close codes -> their number
        self.lost = 0  #: the number of connections that ended without a close frame
        self._sockets: dict[int, socket.socket] = {}
        self._unread: dict[int, bytes] = {}
        self._is_closed: set[int] = set()
        self._epoll = select.epoll()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        for begun in range(0, self.number, AT_A_TIME):
            fresh = [self._connect() for _ in range(min(AT_A_TIME, self.number - begun))]
            for one in fresh:
                self._finish_handshake(one)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join(15)
        for one in self._sockets.values():
            one.close()
        self._epoll.close()

    @property
    def open(self) -> int:
        return len(self._sockets)

    def _connect(self) -> socket.socket:
        """Connect and send the handshake of a WebSocket."""
        one = socket.create_connection(self.target, timeout=60)
        self._sockets[one.fileno()] = one
        fields = ["GET / HTTP/1.1", "Host: test.invalid", "Upgrade: websocket", "Connection: Upgrade"]
        fields += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
        fields += [f"Sec-WebSocket-Extensions: {self.extension}"] if self.extension else []
        one.sendall("\r\n".join([*fields, "", ""]).encode())
        return one

    def _finish_handshake(self, one: socket.socket) -> None:
        """Read the answer to the handshake; a ping may come with it."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = one.recv(4096)
            assert piece, f"the handshake ended after {data!r}"
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert (b"permessage-deflate" in head.lower()) == bool(self.extension), head
        number = one.fileno()
        one.setblocking(False)
        self.pings[number] = 0
        self._take(number, rest)
        self._epoll.register(number, select.EPOLLIN)

    def _serve(self) -> None:
        while not self._ends.is_set():
            for number, _ in self._epoll.poll(0.1, 1000):
                try:
                    data = self._sockets[number].recv(4096)
                except OSError:
                    data = b""
                if data:
                    self._take(number, data)
                else:
                    self._end(number)

    def _take(self, number: int, data: bytes) -> None:
        data = self._unread.pop(number, b"") + data
        while len(data) >= 2 and len(data) >= 2 + data[1]:
            kind, payload, data = data[0], data[2 : 2 + data[1]], data[2 + data[1] :]
            if kind == PING:
                self.pings[number] += 1
                self._send(number, PONG, payload)
            else:
                assert kind == CLOSE, f"unexpected frame of {kind:#x}"
                self.closes[int.from_bytes(payload[:2], "big")] += 1
                self._is_closed.add(number)
                self._send(number, CLOSE, payload[:2])
        if data:
            self._unread[number] = data

    def _send(self, number: int, kind: int, payload: bytes) -> None:
        self._sockets[number].send(bytes([kind, 0x80 | len(payload)]) + NO_MASK + payload)

    def _end(self, number: int) -> None:
        self.lost += number not in self._is_closed
        self._epoll.unregister(number)
        self._sockets.pop(number).close()
