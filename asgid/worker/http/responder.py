"""The border between an exchange and the version of HTTP that carries it.

An exchange (scope, request body, `receive()`, the application's task, its errors, the counters) does not depend on the
version. The responder does: the application's `send` is a method of it, so no call stands between the application and
the code that writes. Each version has its own class with these members; none inherits this one. The Protocol is for
type checkers.
"""

import asyncio
from collections.abc import Iterable
from typing import Protocol

from asgid.worker.asgi import Message
from asgid.worker.http.fields import Field
from asgid.worker.http.response import State, WebSocketAnswer
from asgid.worker.net.file_range import FileRange


class Responder(Protocol):
    """Sends the response of one exchange: on HTTP/1.1 in its turn on the connection, later in a stream of HTTP/2."""

    state: State
    status: int  #: 0 before http.response.start
    body_bytes: int  #: of the response, passed to the transport
    is_head: bool  #: the request's method is HEAD
    is_bodiless: bool  #: HEAD, 204, 205, 304
    expects_continue: bool  #: the client waits for 100 before it sends the body
    is_disconnected: bool  #: the client receives nothing more: `send` drops messages
    drops_until: float  #: time.monotonic(), from which on `send` raises for a client that is gone; 0.0: not dropping

    @property
    def ends_with_connection(self) -> bool:
        """Whether the end of the body is the end of the connection (RFC 9112 section 6.3)."""

    async def send(self, message: Message) -> None:
        """The application's `send()`. Returns when the client can take more.

        Raises AppError for a message that the specification does not allow, and ClientDisconnectedError.
        """

    async def send_range(self, part: FileRange, *, more: bool) -> None:
        """Send a part of a file as a part of the body."""

    def run_exchange(self) -> None:
        """Run the exchange, which has waited for its place."""

    def send_continue(self) -> None:
        """Send 100 (Continue): the application asks for the body."""

    def body_consumed(self) -> None:
        """The application has taken the buffered body: receive more."""

    def send_error(self, status: int, text: str, fields: Iterable[Field] = ()) -> None:
        """Send a whole response of asgid's own, in the state WAITING or HEAD_PENDING."""

    def finish(self) -> None:
        """End the connection or the stream in order: its response is complete for the client."""

    def abort(self) -> None:
        """End the connection or the stream so that the client sees that the response is not complete."""

    def is_closing(self) -> bool:
        """Return whether bytes that are sent now would not arrive."""

    def accept_websocket(self, answer: WebSocketAnswer) -> tuple[asyncio.Transport, bytes]:
        """Accept a WebSocket; return its transport, and the bytes that came after the handshake."""

    def release(self) -> None:
        """Drop the reference to the exchange: nothing more is sent for it."""
