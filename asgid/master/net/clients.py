"""Clients of the master's own pages: each sends one request, receives one response, and is closed at its deadline.

No call here waits: a client that does not send, or does not read, costs one descriptor until its deadline. This file
does not know the format of a request or a response.
"""

import socket
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector

_RECEIVE_BYTES = 8192
_MAX_LINGER_BYTES = 2**20  # that a client may send after its request


class Client:
    """One connection: it reads a request, writes the response, then waits until the client closes.

    If close(2) finds unread bytes, the kernel resets the connection. A reset can destroy the response before the client
    has read it (RFC 9112 section 9.6), so the connection is closed after the client. A client that sends more than
    1 MiB gets that reset. `clients` holds each open client.
    """

    def __init__(
        self,
        sock: socket.socket,
        selector: BaseSelector,
        respond: Callable[[bytes], bytes | None],
        clients: "dict[Client, None]",
        deadline: float,
    ) -> None:
        """`respond` returns the response to the bytes received so far; None if it needs more of them."""
        self.deadline = deadline
        self._sock = sock
        self._selector = selector
        self._respond = respond
        self._clients = clients
        self._received = b""
        self._lingering_bytes = 0
        self._unsent = memoryview(b"")
        self._is_answered = False
        sock.settimeout(0)
        selector.register(sock, EVENT_READ, self.read)
        clients[self] = None

    @property
    def is_idle(self) -> bool:
        """Whether no part of a response waits to be sent."""
        return not self._unsent

    def read(self, _mask: int = EVENT_READ) -> None:
        if self not in self._clients:  # closed in this turn of the loop, to free its place
            return
        try:
            data = self._sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        elif not self._is_answered:
            self._received += data
            response = self._respond(self._received)
            if response is not None:
                self._is_answered = True
                self._unsent = memoryview(response)
                self._write()
        else:
            self._lingering_bytes += len(data)
            if self._lingering_bytes > _MAX_LINGER_BYTES:
                self.close()

    def _write(self, _mask: int = EVENT_WRITE) -> None:
        if self not in self._clients:
            return
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
            if self._unsent:
                self._selector.modify(self._sock, EVENT_WRITE, self._write)
            else:
                self._sock.shutdown(socket.SHUT_WR)
                self._selector.modify(self._sock, EVENT_READ, self.read)
        except BlockingIOError:
            self._selector.modify(self._sock, EVENT_WRITE, self._write)
        except OSError:
            self.close()

    def close(self) -> None:
        del self._clients[self]
        self._selector.unregister(self._sock)
        self._sock.close()
