"""ASGI response messages -> bytes: order, framing, and the keep-alive decision; one object a response.

The framing is ours alone (RFC 9112 section 6.3): exactly one of a length, chunks, or the end of the connection says
where a body ends, and the application is held to what it promised. The head leaves with the first part of the body,
because only then is it known whether the length can still be told. AppError for what the specification does not allow,
with the state in its message.
"""

import re
from collections.abc import MutableMapping
from enum import IntEnum
from http import HTTPStatus
from typing import Any, TypeAlias

from asgid.errors import AppError

Message: TypeAlias = MutableMapping[str, Any]  # ASGI's own type

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")  # RFC 9110 section 5.5: no control but the tab
_DIGITS = re.compile(rb"[0-9]+")
_STATUS_LINES = {
    int(status): b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode())
    for status in HTTPStatus
    if status >= HTTPStatus.OK
}


class _Role(IntEnum):
    """What a response header means to the framing."""

    PLAIN = 0
    LENGTH = 1
    OURS = 2  # transfer-encoding, keep-alive: the application cannot know what the connection needs
    CONNECTION = 3
    DATE = 4
    SERVER = 5


_LENGTH = _Role.LENGTH
_ROLES = {
    b"content-length": _Role.LENGTH,
    b"transfer-encoding": _Role.OURS,
    b"keep-alive": _Role.OURS,
    b"connection": _Role.CONNECTION,
    b"date": _Role.DATE,
    b"server": _Role.SERVER,
}
# Applications send the same few header lines for ever: each is checked and written once. The bounds keep lines that
# never come again (cookies, ETags) from filling the memory.
_LINES: dict[tuple[bytes, bytes], tuple[bytes, _Role, int]] = {}
_MOST_LINES, _LONGEST_LINE = 2048, 256


class State(IntEnum):
    """Where a response stands."""

    WAITING = 0  # for http.response.start
    HELD = 1  # start came; the head waits for the first body message
    STREAMING = 2  # the head has left
    COMPLETE = 3


_NO_HEAD: list[bytes] = []  # shared by all that have not started; never changed
WAITING, HELD, STREAMING, COMPLETE = State  # a name of the module costs less than an attribute of a class


class Response:
    """The answer to one request. `start` and `body` take the messages; `body` returns what to write.

    `keep_alive` says, once the head has left, whether another request may follow on the connection.
    """

    __slots__ = (
        "_head",
        "_is_bodiless",
        "_is_chunked",
        "_is_head",
        "_left",
        "_mine",
        "_minor",
        "keep_alive",
        "state",
        "status",
    )

    def __init__(self, is_head: bool, minor: int, keep_alive: bool) -> None:
        self._is_head = is_head  # a request with HEAD: no body, whatever the application sends
        self._minor = minor  # of the request's HTTP version: a 1.0 client knows no chunks
        self.keep_alive = keep_alive
        self.state = WAITING
        self.status = 0
        self._head = _NO_HEAD
        self._left: int | None = None  # bytes of the body still to come, where a length was promised
        self._is_bodiless = self._is_chunked = False
        self._mine: tuple[bytes, ...] = ()  # of the common lines those that the application sends itself

    def start(self, message: Message) -> None:
        """Take http.response.start."""
        if self.state is not WAITING:
            raise AppError(f"http.response.start came again; the response is {self.state.name.lower()}")
        self.status = status = message["status"]
        self._left = None  # where a first attempt was refused
        head = [_STATUS_LINES.get(status) or _status_line(status)]
        for pair in message.get("headers", ()):
            header = pair if type(pair) is tuple else tuple(pair)  # lists are allowed, and are no keys
            try:
                line, role, promised = _LINES.get(header) or _line(*header)
            except TypeError:
                raise AppError(f"header {pair!r}: a name and a value, both bytes") from None
            if not role:
                head.append(line)
            elif role is _LENGTH and self._left is None and status != 204:
                self._left = promised
                head.append(line)
            else:
                self._note(role, line, header[1], head)
        if self._is_head or status in (204, 304):
            self._is_bodiless, self._left = True, None
        self._head = head
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
            self._left = left
        before = self._first(len(payload), common, more, is_last) if self.state is HELD else self._further()
        after = b""
        if self._is_chunked:
            if payload:
                before += b"%x\r\n" % len(payload)
                after = b"\r\n"
            if not more:
                after += b"0\r\n\r\n"
        elif self._is_bodiless:
            payload = b""
        if not more:
            self.state = COMPLETE
        return before, payload, after

    def _first(self, length: int, common: bytes, more: bool, is_last: bool) -> bytes:
        """Return the head, with the framing: (1) no body at all, (2) a promised length, (3) a known one, (4) chunks,
        (5) until the connection closes.
        """
        head = self._head
        if self._is_bodiless or self._left is not None:  # 1, 2
            pass
        elif not more:  # 3
            head.append(b"content-length: %d\r\n" % length)
        elif self._minor:  # 4
            self._is_chunked = True
            head.append(b"transfer-encoding: chunked\r\n")
        else:  # 5
            self.keep_alive = False
        if is_last:
            self.keep_alive = False
        if not self.keep_alive:
            head.append(b"connection: close\r\n")
        elif not self._minor:
            head.append(b"connection: keep-alive\r\n")
        head.append(self._without_mine(common) if self._mine else common)
        head.append(b"\r\n")
        self.state = STREAMING
        return b"".join(head)

    def _further(self) -> bytes:
        if self.state is not STREAMING:
            raise AppError(f"http.response.body came while the response is {self.state.name.lower()}")
        return b""

    def _note(self, role: _Role, line: bytes, value: bytes, head: list[bytes]) -> None:
        """Take a header that means something to the framing."""
        if role is _LENGTH:  # said twice, or of a body that may not be
            if self._left not in (None, int(value)):
                raise AppError(f"content-length {value!r} is not the one that was promised before")
        elif role is _Role.CONNECTION:
            if b"close" in value.lower():
                self.keep_alive = False
        elif role is not _Role.OURS:
            head.append(line)
            self._mine += (b"date:" if role is _Role.DATE else b"server:",)

    def _without_mine(self, common: bytes) -> bytes:
        return b"".join(line for line in common.splitlines(keepends=True) if not line.startswith(self._mine))


def _broken_promise(left: int) -> AppError:
    if left < 0:
        return AppError(f"the body is {-left} bytes longer than its content-length")
    return AppError(f"the body ended {left} bytes short of its content-length")


def error_response(status: int, text: str, common: bytes, *, is_head: bool = False) -> bytes:
    """Return a whole response of our own, after which the connection closes."""
    body = text.encode() + b"\n"
    return b"%scontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n%s\r\n%s" % (
        _STATUS_LINES[status],
        len(body),
        common,
        b"" if is_head else body,
    )


def _status_line(status: object) -> bytes:
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise AppError(f"status {status!r} is not a final status from 200 to 999")
    return b"HTTP/1.1 %d \r\n" % status  # the phrase may be empty (RFC 9112 section 4)


def _line(name: bytes, value: bytes) -> tuple[bytes, _Role, int]:
    """Return a header's line, its role, and the length that it promises.

    What would let an application's data become our framing is refused.
    """
    if not _TOKEN.fullmatch(name):
        raise AppError(f"header name {name!r} is not a token (RFC 9110 section 5.1)")
    if not _VALUE.fullmatch(value):
        raise AppError(f"header {name!r} has a control character in its value {value!r}")
    role = _ROLES.get(name.lower(), _Role.PLAIN)
    if role is _LENGTH and not _DIGITS.fullmatch(value):
        raise AppError(f"content-length {value!r} is not a number")
    entry = b"%s: %s\r\n" % (name, value.strip(b" \t")), role, int(value) if role is _LENGTH else 0
    if len(entry[0]) <= _LONGEST_LINE:
        if len(_LINES) >= _MOST_LINES:
            _LINES.clear()
        _LINES[name, value] = entry
    return entry


def _bytes(payload: object) -> bytes:
    # A copy: what is queued in the transport must not change under it.
    if isinstance(payload, bytearray | memoryview | bytes):
        return bytes(payload)
    raise AppError(f"http.response.body: the body is bytes, not {type(payload).__name__}")
