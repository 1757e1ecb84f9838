"""Converts the status and the headers of a response to the lines of its head and to the facts that the framing needs.

Each part of a head from the application is checked here, to prevent header injection (RFC 9110 section 5.5).
Applications repeat a few heads, so each head is checked once and then looked up in a dictionary. The lookup takes a
third of the time of a check of two known lines.
"""

import re
from base64 import b64encode
from collections.abc import Iterable
from enum import IntEnum
from hashlib import sha1
from http import HTTPStatus
from typing import NamedTuple, TypeAlias

from asgid.errors import AppError
from asgid.worker.http.fields import FIELD_VALUE, TOKEN, Field
from asgid.worker.http.response import WebSocketAnswer

#: Status and headers of a response: a key of HEADS. The pairs must be tuples, because a list has no hash.
Parts: TypeAlias = tuple[int, tuple[tuple[bytes, bytes], ...]]

_DIGITS = re.compile(rb"[ \t]*[0-9]{1,19}[ \t]*")  # as many digits as 64 bits need; int() raises for thousands
#: The phrases of RFC 9110. Python before 3.13 has those of older RFCs.
_PHRASES = {413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}
STATUS_LINES = {
    int(status): b"HTTP/1.1 %d %s\r\n" % (status, _PHRASES.get(status, status.phrase).encode())
    for status in HTTPStatus
    if status >= HTTPStatus.OK
}


class Head(NamedTuple):
    """A checked head. It lacks the empty line at its end, because the fields of the framing follow."""

    lines: bytes  #: Status line and header lines.
    length: int | None  #: The value of content-length.
    closes: bool  #: The application asks to close the connection.
    app_lines: tuple[bytes, ...]  #: `b"date:"` and `b"server:"`, if the application sends that header.
    is_bodiless: bool  #: The status allows no body (RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5).


class _Role(IntEnum):
    """The effect of a response header on the framing."""

    PLAIN = 0
    LENGTH = 1
    SERVER_ONLY = 2  # transfer-encoding, keep-alive: they belong to the connection, which the server manages
    CONNECTION = 3
    DATE = 4
    SERVER = 5


_ROLES = {
    b"content-length": _Role.LENGTH,
    b"transfer-encoding": _Role.SERVER_ONLY,
    b"keep-alive": _Role.SERVER_ONLY,
    b"connection": _Role.CONNECTION,
    b"date": _Role.DATE,
    b"server": _Role.SERVER,
}
# Fields that are not allowed as trailers (RFC 9110 section 6.5.1). A receiver needs them before the body (framing,
# routing, control, authentication, content format), or they concern more than this message.
_NO_TRAILERS = frozenset(
    b"""age authorization cache-control connection content-encoding content-length content-range content-type cookie
    date expect expires host keep-alive location max-forwards pragma proxy-authenticate proxy-authorization
    proxy-connection range retry-after set-cookie te trailer transfer-encoding upgrade vary warning
    www-authenticate""".split()
)
# Cookies and ETags differ in each response, so without these limits they would fill the memory. If a head differs in
# one line from a known head, its other lines are still looked up.
_LINES: dict[tuple[bytes, bytes], tuple[bytes, _Role]] = {}
_MAX_LINES, _MAX_LINE_BYTES = 2048, 256
_MAX_HEADS, _MAX_HEAD_BYTES = 512, 1024


class _Heads(dict[Parts, Head]):
    """Maps status and headers to their head. A function would be slower.

    Raises AppError if a part must not be sent, and TypeError if a part has no hash.
    """

    def __missing__(self, parts: Parts) -> Head:
        head = checked(*parts)
        if len(head.lines) <= _MAX_HEAD_BYTES:
            if len(self) >= _MAX_HEADS:
                self.clear()
            self[parts] = head
        return head


HEADS = _Heads()


def checked(status: int, headers: Iterable[tuple[bytes, bytes]]) -> Head:
    """Return the head of these parts; raises AppError if the ASGI specification or RFC 9110 forbids one."""
    lines = [STATUS_LINES.get(status) or _status_line(status)]
    length: int | None = None
    closes = False
    app_lines: tuple[bytes, ...] = ()
    for name, value in map(_pair, headers):
        line, role = _LINES.get((name, value)) or _line(name, value)
        if role is _Role.LENGTH:
            if length not in (None, int(value)):
                raise AppError(f"content-length {value!r} is not the one that was promised before")
            if length is not None or status in (204, 205):  # a repeated one; 204 has none (section 8.6); 205: see below
                continue
            length = int(value)
        elif role is _Role.CONNECTION:
            closes = closes or b"close" in [option.strip(b" \t") for option in value.lower().split(b",")]
            continue
        elif role is _Role.SERVER_ONLY:
            continue
        elif role is not _Role.PLAIN:
            app_lines += (b"date:" if role is _Role.DATE else b"server:",)
        lines.append(line)
    if status == 205:  # it has no body, but needs a length (RFC 9110 section 15.3.6)
        lines.append(b"content-length: 0\r\n")
    return Head(b"".join(lines), length, closes, app_lines, status in (204, 205, 304))


def early_hint(links: Iterable[bytes]) -> bytes:
    """Return an informational response with these links (RFC 8297), or `b""` without links."""
    lines = [_line(*_pair((b"link", link)))[0] for link in links]
    return b"HTTP/1.1 103 Early Hints\r\n%s\r\n" % b"".join(lines) if lines else b""


def trailer_lines(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Return lines for the trailer section of a chunked body; raises AppError if a field is not allowed there."""
    lines = []
    for name, value in map(_pair, headers):
        if name.lower() in _NO_TRAILERS:
            raise AppError(f"trailer {name!r} has no meaning after the body (RFC 9110 section 6.5.1)")
        lines.append(_line(name, value)[0])
    return lines


def error_response(
    status: int, text: str, common: bytes, fields: Iterable[Field] = (), *, is_head: bool = False
) -> tuple[bytes, bytes]:
    """Return head and body of an error response of the server; the connection closes after it."""
    body = text.encode() + b"\n"
    head = b"%scontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n%s\r\n" % (
        STATUS_LINES[status],
        len(body),
        common + b"".join(b"%s: %s\r\n" % field for field in fields),
    )
    return head, b"" if is_head else body


_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3


def accept_head(answer: WebSocketAnswer, common: bytes) -> bytes:
    """Return the head that accepts a WebSocket (RFC 6455 section 4.2.2); `common` has the lines of every response.

    Raises AppError if the application sends a field of the handshake.
    """
    lines = [
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ",
        b64encode(sha1(answer.key + _WEBSOCKET_GUID, usedforsecurity=False).digest()),
        b"\r\n",
    ]
    if answer.subprotocol:
        lines.append(b"sec-websocket-protocol: %s\r\n" % answer.subprotocol.encode())
    if answer.extensions:
        lines.append(b"sec-websocket-extensions: %s\r\n" % answer.extensions)
    app_fields: list[bytes] = []
    for name, value in map(_pair, answer.headers):
        line, role = _line(name, value)
        lowered = name.lower()
        if lowered.startswith(b"sec-websocket-"):
            raise AppError(f"websocket.accept: the header {name!r} is the server's; a subprotocol has its own key")
        if role in (_Role.PLAIN, _Role.DATE, _Role.SERVER) and lowered != b"upgrade":  # the rest is framing
            lines.append(line)
            app_fields.append(lowered + b":")
    lines += [line for line in common.splitlines(keepends=True) if not line.startswith(tuple(app_fields))]
    return b"".join((*lines, b"\r\n"))


def without_length(lines: bytes) -> bytes:
    """Return the lines of a head without its content-length."""
    kept = [line for line in lines.splitlines(keepends=True) if not line.lower().startswith(b"content-length:")]
    return b"".join(kept)


def accepts_trailers(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether the TE header of a request lists `trailers` (RFC 9110 section 10.1.4)."""
    return any(
        b"trailers" in [coding.strip(b" \t") for coding in value.lower().split(b",")]
        for name, value in headers
        if name == b"te"
    )


def _pair(header: object) -> tuple[bytes, bytes]:
    match header:  # the ASGI specification requires an iterable of two, so a list is valid
        case (bytes() as name, bytes() as value):
            return name, value
    raise AppError(f"header {header!r}: a name and a value, both bytes")


def _status_line(status: object) -> bytes:
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise AppError(f"status {status!r} is not a final status from 200 to 999")
    return b"HTTP/1.1 %d \r\n" % status  # the phrase may be empty (RFC 9112 section 4)


def _line(name: bytes, value: bytes) -> tuple[bytes, _Role]:
    """Return the line of a header and its role; raises AppError if the header could change the framing."""
    if not TOKEN.fullmatch(name):
        raise AppError(f"header name {name!r} is not a token (RFC 9110 section 5.1)")
    if not FIELD_VALUE.fullmatch(value):
        raise AppError(f"header {name!r} has a control character in its value {value!r}")
    role = _ROLES.get(name.lower(), _Role.PLAIN)
    if role is _Role.LENGTH and not _DIGITS.fullmatch(value):
        raise AppError(f"content-length {value!r} is not a number")
    line = b"%s: %s\r\n" % (name, value.strip(b" \t"))
    if name.lower() == b"upgrade":  # requires this connection option (RFC 9110 section 7.8)
        line += b"connection: upgrade\r\n"
    entry = line, role
    if len(entry[0]) <= _MAX_LINE_BYTES:
        if len(_LINES) >= _MAX_LINES:
            _LINES.clear()
        _LINES[name, value] = entry
    return entry
