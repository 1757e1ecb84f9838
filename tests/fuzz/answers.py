"""Applications that send any valid response over whole connections: h11 must read the same.

Pipelined requests of every kind; responses in any number of parts and types of bytes, with fields that concern the
framing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import h11
from hypothesis import strategies as st

from asgid.worker.asgi import Receive, Send
from tests.fuzz.delivery import BrokenRuleError, World
from tests.worker.apps import Scope

Body: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Asked:
    """A request."""

    method: str
    minor: int
    connection: str
    body: bytes

    def stream(self) -> bytes:
        lines = [f"{self.method} / HTTP/1.{self.minor}", "Host: a"]
        lines += [f"Connection: {self.connection}"] if self.connection else []
        lines += [f"Content-Length: {len(self.body)}"] if self.body else []
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True, slots=True)
class Said:
    """A response. `has_length`: it has a content-length; `reads`: the application first reads the request's body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    parts: tuple[Body, ...]
    has_length: bool
    has_empty_end: bool
    reads: bool

    @property
    def body(self) -> bytes:
        return b"".join(bytes(part) for part in self.parts)


_TOKENS = st.text("!#$%&'*+-.^_`|~019azAZ", min_size=1, max_size=8).map(str.encode)
_VALUES = st.binary(max_size=12).map(lambda value: bytes(octet for octet in value if octet == 9 or 31 < octet != 127))
#: Fields that the server sets or changes itself.
_OWN = frozenset((b"connection", b"keep-alive", b"transfer-encoding", b"content-length"))
_HEADERS = st.lists(
    st.one_of(
        st.tuples(_TOKENS.filter(lambda name: name.lower() not in _OWN), _VALUES),
        st.sampled_from(
            [
                (b"Connection", b"close"),
                (b"connection", b"keep-alive"),
                (b"Keep-Alive", b"timeout=5"),
                (b"Transfer-Encoding", b"chunked"),
                (b"Date", b"now"),
                (b"server", b"ours"),
                (b"Set-Cookie", b"a=b"),
            ]
        ),
    ),
    max_size=5,
).map(tuple)
_KINDS: tuple[Callable[[bytes], Body], ...] = (
    bytes,
    bytearray,
    memoryview,
    lambda data: memoryview(data * 2)[: len(data)],
)
_PARTS = st.tuples(st.binary(max_size=30), st.sampled_from(_KINDS)).map(lambda part: part[1](part[0]))
_SAID = st.builds(
    Said,
    status=st.one_of(st.sampled_from([200, 200, 204, 205, 304, 404]), st.integers(200, 999)),
    headers=_HEADERS,
    parts=st.lists(_PARTS, max_size=4).map(tuple),
    has_length=st.booleans(),
    has_empty_end=st.booleans(),
    reads=st.booleans(),
)
_ASKED = st.builds(
    Asked,
    method=st.sampled_from(["GET", "HEAD", "POST", "OPTIONS"]),
    minor=st.sampled_from([1, 1, 1, 0]),
    connection=st.sampled_from(["", "", "keep-alive", "close", "upgrade"]),
    body=st.binary(max_size=9),
)
#: Requests of one connection, and the response to each.
CONVERSATIONS = st.lists(st.tuples(_ASKED, _SAID), min_size=1, max_size=6)
Conversation: TypeAlias = Sequence[tuple[Asked, Said]]


async def says(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the next response in the state."""
    said: Said = next(scope["state"]["said"])
    if said.reads:
        while (await receive())["more_body"]:
            pass
    headers = list(said.headers) + ([(b"content-length", b"%d" % len(said.body))] if said.has_length else [])
    await send({"type": "http.response.start", "status": said.status, "headers": headers})
    parts: list[Body] = [*said.parts, b""] if said.has_empty_end or not said.parts else [*said.parts]
    for part in parts[:-1]:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": parts[-1]})


def are_read_back(world: World, conversation: Conversation, sizes: Sequence[int], room: int | None) -> None:
    """Raise BrokenRuleError if h11 reads another response; the stream comes in pieces of `sizes`."""
    stream = b"".join(asked.stream() for asked, _ in conversation)
    pieces, at = [], 0
    for size in sizes:
        pieces.append(stream[at : at + size])
        at += size
    pieces.append(stream[at:])
    outcome = world.deliver(
        [piece for piece in pieces if piece], room=room, state={"said": iter([said for _, said in conversation])}
    )
    unread = outcome.written
    for asked, said in conversation:
        head, body, unread = _answer(asked, unread, stream)
        _is_what_was_said(asked, said, head, body, stream)
        if _closes(head) or (asked.minor == 0 and (b"connection", b"keep-alive") not in list(head.headers)):
            break
        if asked.connection == "close":
            raise BrokenRuleError("a response to Connection: close does not have it", head, stream)
    else:
        if outcome.is_closed:
            raise BrokenRuleError("a connection is closed that was to be kept", outcome.written, stream)
    if unread:
        raise BrokenRuleError("something is written after the last answer", unread, stream)


def _answer(asked: Asked, written: bytes, stream: bytes) -> tuple[h11.Response, bytes, bytes]:
    reader = h11.Connection(our_role=h11.CLIENT)
    reader.send(h11.Request(method=asked.method, target="/", headers=[("host", "a")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(written)
    reader.receive_data(b"")
    head, body = None, b""
    try:
        while True:
            match event := reader.next_event():
                case h11.InformationalResponse():
                    pass
                case h11.Response():
                    head = event
                case h11.Data():
                    body += event.data
                case h11.EndOfMessage() if head is not None:
                    return head, body, reader.trailing_data[0]
                case _:
                    raise BrokenRuleError("an answer is not whole", f"{event}: {written!r}", stream)
    except h11.RemoteProtocolError as error:
        raise BrokenRuleError("h11 does not read an answer", f"{error}: {written!r}", stream) from error


def _closes(head: h11.Response) -> bool:
    return (b"connection", b"close") in list(head.headers)


def _is_what_was_said(asked: Asked, said: Said, head: h11.Response, body: bytes, stream: bytes) -> None:
    is_bodiless = asked.method == "HEAD" or said.status in (204, 205, 304)
    names = [name for name, _ in head.headers]
    ours = {b"date", b"server", *_OWN}
    facts: dict[str, tuple[Any, Any]] = {
        "status": (said.status, head.status_code),
        "body": (b"" if is_bodiless else said.body, body),
        "headers": (
            [(name.lower(), value.strip(b" \t")) for name, value in said.headers if name.lower() not in ours],
            [(name, value) for name, value in head.headers if name not in ours],
        ),
        "date": (_own(said, b"date") or 1, names.count(b"date")),
        "server": (_own(said, b"server") or 1, names.count(b"server")),
        "framings": (True, names.count(b"content-length") + names.count(b"transfer-encoding") <= 1),
        "framing of 204": (True, said.status != 204 or not {b"content-length", b"transfer-encoding"} & {*names}),
        "chunks for 1.0": (True, asked.minor == 1 or b"transfer-encoding" not in names),
        "keep-alive": (False, b"keep-alive" in names),
        "end": (True, _closes(head) or not _asks_for_the_end(said)),
    }
    for what, (expected, found) in facts.items():
        if expected != found:
            raise BrokenRuleError(f"another {what} is read than was said", f"{found!r}, not {expected!r}", stream)


def _own(said: Said, name: bytes) -> int:
    return [key.lower() for key, _ in said.headers].count(name)


def _asks_for_the_end(said: Said) -> bool:
    return any(name.lower() == b"connection" and b"close" in value for name, value in said.headers)
