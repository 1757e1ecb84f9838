"""ASGI response messages -> bytes: order, framing, and the keep-alive decision; one object a response.

The framing is ours alone (RFC 9112 section 6.3): exactly one of a length, chunks, or the end of the connection says
where a body ends, and the application is held to what it promised. The head leaves with the first part of the body,
because only then is it known whether the length can still be told. AppError for what the specification does not allow,
with the state in its message. Of a file only the length is known here; its bytes go past this module.
"""

from collections.abc import MutableMapping
from enum import IntEnum
from typing import Any, TypeAlias

from asgid.errors import AppError
from asgid.worker.http1.response_head import HEADS, STATUS_LINES, checked, early_hint, trailer_lines, without_length

Message: TypeAlias = MutableMapping[str, Any]  # ASGI's own type


class State(IntEnum):
    """Where a response stands."""

    WAITING = 0  # for http.response.start
    HELD = 1  # start came; the head waits for the first body message
    STREAMING = 2  # the head has left
    SENDING = 3  # bytes of a file are on their way
    TRAILING = 4  # the body has ended; the trailers that were announced have not come
    COMPLETE = 5


# A name of the module costs less than an attribute of a class.
WAITING, HELD, STREAMING, SENDING, TRAILING, COMPLETE = State


class Response:
    """The answer to one request. `start`, `body`, `trailers` and `early_hint` take the messages, and return what to
    write; `announce`, `file` and `file_sent` accompany the bytes of a file.

    `keep_alive` says, once the head has left, whether another request may follow on the connection.
    """

    __slots__ = (
        "_after_body",
        "_is_chunked",
        "_left",
        "_lines",
        "_mine",
        "_minor",
        "_trailers",
        "is_bodiless",
        "is_head",
        "keep_alive",
        "state",
        "status",
    )

    def __init__(self, is_head: bool, minor: int, keep_alive: bool) -> None:
        self.is_head = is_head  # a request with HEAD: no body, whatever the application sends
        self._minor = minor  # of the request's HTTP version: a 1.0 client knows no chunks
        self.keep_alive = keep_alive
        self.state = WAITING
        self.status = 0
        self._lines = b""  # of the head, while it is held
        self._left: int | None = None  # bytes of the body still to come, where a length was promised
        self.is_bodiless = self._is_chunked = False  # bodiless: nothing of the body is written
        self._after_body = COMPLETE
        self._mine: tuple[bytes, ...] = ()  # of the common lines those that the application sends itself

    def start(self, message: Message) -> None:
        """Take http.response.start."""
        if self.state is not WAITING:
            raise AppError(f"http.response.start came again; the response is {self.state.name.lower()}")
        status, headers = message.get("status"), tuple(message.get("headers", ()))
        if type(status) is not int and not isinstance(status, int):  # 200.0 would be found: it is the same key as 200
            raise AppError(f"status {status!r} is not a final status from 200 to 999; the response is waiting")
        try:
            self._lines, self._left, closes, self._mine, self.is_bodiless = HEADS[status, headers]
        except TypeError:  # lists are allowed, and are no keys
            self._lines, self._left, closes, self._mine, self.is_bodiless = checked(status, headers)
        self.status = status
        if closes:
            self.keep_alive = False
        if self.is_head or self.is_bodiless:
            self.is_bodiless, self._left = True, None
        if message.get("trailers"):
            self._expect_trailers()
        self.state = HELD

    def body(self, message: Message, common: bytes, is_last: bool) -> tuple[bytes, bytes, bytes]:
        """Take http.response.body; return what goes before the payload, the payload, and what goes after it.

        `common` is the Date and Server lines; `is_last` is true where no further request is wanted on this connection.
        """
        payload = message.get("body", b"")
        if type(payload) is not bytes:
            payload = _bytes(payload)
        more = message.get("more_body", False)
        if self._left is not None:  # looked at first: as long as the head is held, there can be a 500 instead
            left = self._left - len(payload)
            if left < 0 or (left and not more):
                raise _broken_promise(left)
        before = self._first(len(payload), common, more, is_last) if self.state is HELD else self._further()
        if self._left is not None:  # not before: what comes while a file is sent is refused, and counts for nothing
            self._left -= len(payload)
        after = b""
        if self._is_chunked:
            if payload:
                before += b"%x\r\n" % len(payload)
                after = b"\r\n"
            if not more and self._after_body is COMPLETE:
                after += b"0\r\n\r\n"
        elif self.is_bodiless:
            payload = b""
        if not more:
            self.state = self._after_body
        return before, payload, after

    def trailers(self, message: Message, is_wanted: bool) -> bytes:
        """Take http.response.trailers. They leave with the last of them, and only where the client wants any and the
        body ended in a way that lets something follow; elsewhere they are looked at and dropped.
        """
        if self.state is not TRAILING:
            raise AppError(
                f"http.response.trailers came while the response is {self.state.name.lower()}; it follows a body "
                "whose start said `trailers`"
            )
        self._trailers += trailer_lines(message.get("headers", ()))
        if message.get("more_trailers", False):
            return b""
        self.state = COMPLETE
        if not self._is_chunked:
            return b""
        return b"".join((b"0\r\n", *(self._trailers if is_wanted else ()), b"\r\n"))

    def early_hint(self, message: Message) -> bytes:
        """Take http.response.early_hint. Once the head has left there is no place for it, and it is dropped."""
        if self.state is COMPLETE:
            raise AppError(f"http.response.early_hint came while the response is {self.state.name.lower()}")
        links = message.get("links")
        if links is None or isinstance(links, str | bytes):
            raise AppError(f"http.response.early_hint: links {links!r} is not an iterable of bytes")
        hint = early_hint(links)
        # A 1.0 client knows no informational answer (RFC 9110 section 15.2).
        return hint if self._minor and self.state <= HELD else b""

    def announce(self, length: int, more: bool) -> None:
        """Say that `length` bytes of a file come next, before anything of this is written: a promise that they would
        break is still a 500, and where they are the whole body the head tells their length.
        """
        if self._left is not None:
            left = self._left - length
            if left < 0 or (left and not more):
                raise _broken_promise(left)
        elif self.state is HELD and not more:
            if self._lacks_length:
                self._lines += b"content-length: %d\r\n" % length
            elif not (self.is_bodiless or self._is_chunked):
                self._left = length
                self._lines += b"content-length: %d\r\n" % length

    def file(self, length: int, more: bool) -> tuple[bytes, int, bytes]:
        """Begin with `length` bytes of a file, after the head; return what goes before them, how many of them go, and
        what goes after them. Until `file_sent` nothing else may come.
        """
        if self.state is not STREAMING:
            raise AppError(f"a file came while the response is {self.state.name.lower()}")
        before = after = b""
        if self._left is not None:
            self._left -= length
        if self._is_chunked:
            if length:
                before, after = b"%x\r\n" % length, b"\r\n"
            if not more and self._after_body is COMPLETE:
                after += b"0\r\n\r\n"
        self.state = SENDING
        return before, 0 if self.is_bodiless else length, after

    def file_sent(self, more: bool) -> None:
        self.state = STREAMING if more else self._after_body

    @property
    def is_open_ended(self) -> bool:
        """Whether the body has no other end than the connection's, as far as is known."""
        return self.state > HELD and self._left is None and not (self._is_chunked or self.is_bodiless)

    @property
    def _lacks_length(self) -> bool:
        """Whether this answers HEAD, and the answer to GET would have a length (RFC 9110 section 8.6)."""
        return (
            self.is_head
            and self.status not in (204, 205, 304)
            and self._after_body is COMPLETE
            and b"\r\ncontent-length:" not in self._lines.lower()
        )

    def _expect_trailers(self) -> None:
        """Let trailers follow the body. Only chunks have a place for them: a promised length is held, but not told."""
        self._after_body, self._trailers = TRAILING, list[bytes]()
        if self._minor and not self.is_bodiless:
            self._is_chunked = True
            self._lines = without_length(self._lines) + b"transfer-encoding: chunked\r\n"

    def _first(self, length: int, common: bytes, more: bool, is_last: bool) -> bytes:
        """Return the head, with the framing: (1) no body at all, (2) a promised length, or chunks for trailers, (3) a
        known length, (4) chunks, (5) until the connection closes.
        """
        framing = b""
        if self._left is not None or self._is_chunked:  # 2
            pass
        elif self.is_bodiless:  # 1
            # An empty body may be that of HEAD only: the length of GET is not known then, and must not be a wrong one.
            if length and not more and self._lacks_length:
                framing = b"content-length: %d\r\n" % length
        elif not more:  # 3
            framing = b"content-length: %d\r\n" % length
        elif self._minor:  # 4
            self._is_chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        else:  # 5
            self.keep_alive = False
        if is_last:
            self.keep_alive = False
        if not self.keep_alive:
            framing += b"connection: close\r\n"
        elif not self._minor:
            framing += b"connection: keep-alive\r\n"
        self.state = STREAMING
        return self._lines + framing + (self._without_mine(common) if self._mine else common) + b"\r\n"

    def _further(self) -> bytes:
        if self.state is not STREAMING:
            raise AppError(f"http.response.body came while the response is {self.state.name.lower()}")
        return b""

    def _without_mine(self, common: bytes) -> bytes:
        return b"".join(line for line in common.splitlines(keepends=True) if not line.startswith(self._mine))


def _broken_promise(left: int) -> AppError:
    if left < 0:
        return AppError(f"the body is {-left} bytes longer than its content-length")
    return AppError(f"the body ended {left} bytes short of its content-length")


def error_response(status: int, text: str, common: bytes, *, is_head: bool = False) -> tuple[bytes, bytes]:
    """Return head and body of a response of our own, after which the connection closes."""
    body = text.encode() + b"\n"
    head = b"%scontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n%s\r\n" % (
        STATUS_LINES[status],
        len(body),
        common,
    )
    return head, b"" if is_head else body


def _bytes(payload: object) -> bytes:
    # A copy: what is queued in the transport must not change under it.
    if isinstance(payload, bytearray | memoryview | bytes):
        return bytes(payload)
    raise AppError(f"http.response.body: the body is bytes, not {type(payload).__name__}")
