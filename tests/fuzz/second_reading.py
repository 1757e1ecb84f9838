"""h11 as a second parser: the application must have got the requests that h11 reads.

Asgid may reject a request that h11 reads. If it reads one that h11 rejects or reads otherwise, the reason stands in
LAXER or `alike`; the end of a body never differs. It does not know the connection.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import h11

from tests.fuzz.delivery import BrokenRuleError, Seen

_MOST_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Laxer:
    """A beginning of a request that asgid accepts and h11 does not; h11 gets `instead`."""

    why: str
    found: re.Pattern[bytes]
    instead: bytes


LAXER = (
    Laxer(
        "RFC 9112 section 2.2: a server should ignore an empty line before a request; a line feed alone may end a line."
        " Nothing stands there that could be read in two ways.",
        re.compile(rb"\A[\r\n]+"),
        b"",
    ),
    Laxer(
        "RFC 9112 section 3: a recipient may take several blanks between the words of a request line for one. Two ends"
        " would be taken for none: a blank within the target is refused.",
        re.compile(rb"\A([A-Z-]+) +([^ \r\n]+) +(HTTP/1\.[01])(?=\r\n)"),
        rb"\1 \2 \3",
    ),
)


@dataclass(frozen=True, slots=True)
class Heard:
    """One request as h11 reads it."""

    method: str
    target: bytes
    version: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def requests(stream: bytes) -> tuple[list[Heard], str]:
    """Return the whole requests of a stream, and the reason why the next is not one: "" if only its end is missing."""
    heard: list[Heard] = []
    while True:
        for laxer in LAXER:
            stream = laxer.found.sub(laxer.instead, stream)
        # h11 ends a connection after HTTP/1.0, an offer to upgrade or a close, so each request has a parser of its own.
        reader = h11.Connection(our_role=h11.SERVER, max_incomplete_event_size=_MOST_BYTES)
        try:
            reader.receive_data(stream)
            one = _next(reader)
        except h11.RemoteProtocolError as error:
            return heard, str(error)
        if one is None:
            return heard, ""
        heard.append(one)
        stream = reader.trailing_data[0]


def _next(reader: h11.Connection) -> Heard | None:
    head, body = None, b""
    while True:
        try:
            event = reader.next_event()
        except h11.RemoteProtocolError as error:
            if head is None or not _OF_A_TRAILER.search(str(error)):
                raise
            return _heard(head, body)
        match event:
            case h11.Request():
                head = event
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                assert head is not None
                return _heard(head, body)
            case _:
                return None


#: Trailers are dropped, so a framing field among them does not matter (RFC 9110 section 6.5.1, RFC 9112 section 7.1.2).
#: h11 rejects it after it has read to the end of the trailers.
_OF_A_TRAILER = re.compile("Content-Length|Transfer-Encoding")


def _heard(head: h11.Request, body: bytes) -> Heard:
    return Heard(head.method.decode(), head.target, head.http_version.decode(), tuple(head.headers), body)


def alike(ours: Seen, theirs: Heard) -> tuple[Seen, Seen]:
    """Return both readings without the parts in which two correct parsers may differ."""
    path, query, is_absolute = _path_and_query(theirs.target)
    # The host of an absolute target replaces Host (RFC 9112 section 3.2.2); h11 leaves both.
    without = b"host" if is_absolute else b""
    return (
        ours._replace(headers=_alike(ours.headers, without)),
        # A higher minor version is served as the highest known one (RFC 9110 section 2.5).
        Seen(theirs.method, path, query, min(theirs.version, "1.1"), _alike(theirs.headers, without), theirs.body),
    )


def _alike(headers: Iterable[tuple[bytes, bytes]], without: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(
        # h11 lowercases this one, and it is case-insensitive (RFC 9112 section 7). Whitespace after a value is not a
        # part of it (RFC 9112 section 5.1), and httptools leaves it.
        (name, value.lower() if name == b"transfer-encoding" else value.rstrip(b" \t"))
        for name, value in headers
        if name != without
    )


_ABSOLUTE = re.compile(rb"[A-Za-z]+://[^/?]*([^?]*)(?:\?(.*))?")


def _path_and_query(target: bytes) -> tuple[bytes, bytes, bool]:
    """Return path and query of a target as ASGI has them, and whether it is absolute; h11 does not split it."""
    if not target.startswith(b"/") and (absolute := _ABSOLUTE.fullmatch(target)):
        return absolute[1] or b"/", absolute[2] or b"", True
    path, _, query = target.partition(b"?")
    return path, query, False


def agree(stream: bytes, seen: Sequence[Seen]) -> None:
    """Raise BrokenRuleError if the application got a request that h11 does not read, or reads otherwise."""
    heard, why = requests(stream)
    for number, one in enumerate(seen):
        if one.method == "CONNECT":  # no content (RFC 9110 section 9.3.6), and no HTTP behind it
            return
        if number >= len(heard):
            raise BrokenRuleError("h11 does not read a request that was served", why or "it is not whole", stream)
        ours, theirs = alike(one, heard[number])
        for name, left, right in zip(Seen._fields, ours, theirs, strict=True):
            if left != right:
                raise BrokenRuleError(f"h11 reads another {name}", f"{right!r}, and we {left!r}", stream)
