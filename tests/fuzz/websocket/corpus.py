"""Streams to start from: each holds the bytes of one client after its handshake was accepted.

A stream that once broke a rule becomes a row here: `make fuzz` prints it as a literal. MAX_MESSAGE is so small that
short streams reach it.
"""

import struct
import zlib
from collections.abc import Mapping

from tests.worker.peer import handshake

HANDSHAKE = handshake()
OFFER = handshake("/", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
#: The limit for every stream, in bytes.
MAX_MESSAGE = 300

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN, RSV1 = 0x80, 0x40


def frame(first: int, payload: bytes = b"", mask: bytes = b"\x01\x02\x03\x04", form: int = 0) -> bytes:
    """Return a frame with its first byte and the payload under `mask` (none if b""). `form` is 126 or 127 for a
    longer form of the length than needed.
    """
    size = len(payload)
    form = max(form, 0 if size < 126 else 126 if size < 65536 else 127)
    bit = 0x80 if mask else 0
    if form == 127:
        head = struct.pack("!BBQ", first, bit | 127, size)
    elif form == 126:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BB", first, bit | size)
    return head + mask + masked(payload, mask)


def masked(payload: bytes, mask: bytes) -> bytes:
    """Return the masked payload (RFC 6455 section 5.3)."""
    if not mask:
        return payload
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(len(payload))


def text(content: str) -> bytes:
    return frame(FIN | TEXT, content.encode())


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(FIN | CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def deflated(content: bytes, mode: int = zlib.Z_SYNC_FLUSH) -> bytes:
    """Return the content compressed as a single message (RFC 7692 section 7.2.1)."""
    compressor = zlib.compressobj(wbits=-12)
    return (compressor.compress(content) + compressor.flush(mode)).removesuffix(b"\0\0\xff\xff")


_BIG = b"x" * MAX_MESSAGE
_TRIPLE = text("a") + text("ü") + frame(FIN | BINARY, b"\0\xff")

GOOD: Mapping[str, bytes] = {
    "nothing": b"",
    "a text": text("hello"),
    "a text of nothing": text(""),
    "bytes": frame(FIN | BINARY, bytes(range(256))),
    "bytes of nothing": frame(FIN | BINARY),
    "letters of every length": text("aü€😀"),
    "three messages": _TRIPLE,
    "forty messages": text("a") * 40,
    "125 bytes": frame(FIN | BINARY, b"x" * 125),
    "126 bytes": frame(FIN | BINARY, b"x" * 126),
    "as long as may be": frame(FIN | BINARY, _BIG),
    "as long as may be, in fragments": frame(BINARY, _BIG[:200]) + frame(CONT) + frame(FIN | CONT, _BIG[200:]),
    "fragments": frame(TEXT, b"a") + frame(CONT, b"b") + frame(FIN | CONT, b"c"),
    "fragments of nothing": frame(TEXT) + frame(CONT) * 3 + frame(FIN | CONT),
    "fragments that cut a letter": frame(TEXT, b"\xe2") + frame(CONT, b"\x82") + frame(FIN | CONT, b"\xac"),
    "a ping between fragments": frame(BINARY, b"a") + frame(FIN | PING, b"b") + frame(FIN | CONT, b"c"),
    "a long ping near the limit": frame(BINARY, _BIG[:-1]) + frame(FIN | PING, b"y" * 125) + frame(FIN | CONT, b"z"),
    "a close near the limit": frame(BINARY, _BIG) + close(1000, b"y" * 123),
    "a ping": frame(FIN | PING),
    "pings": frame(FIN | PING, b"a") + frame(FIN | PING, b"x" * 125),
    "a pong without a ping": frame(FIN | PONG, b"a"),
    "another mask": frame(FIN | TEXT, b"hello", mask=b"\xff\0\xa5\x5a"),
    "a close": close(),
    "a close without a code": close(None),
    "a close with a reason": close(4999, "tschüß".encode()),
    "a close with the longest reason": close(3000, b"x" * 123),
    "the largest registered code": close(1014),
    "messages, then a close": _TRIPLE + close(1001, b"gone"),
    "a close, then a message": close() + text("a"),
    "a close, then rubbish": close() + b"\xff" * 20,
    "two closes": close(1000) + close(1001),
    "a ping, then a close": frame(FIN | PING, b"a") + close(),
    "a close between fragments": frame(TEXT, b"a") + close() + frame(FIN | CONT, b"b"),
}

BAD: Mapping[str, bytes] = {
    "a reserved opcode": frame(FIN | 3, b"a"),
    "a reserved opcode of control": frame(FIN | 11),
    "a reserved bit": text("a") + frame(FIN | 0x20 | TEXT, b"a"),
    "a bit that means compressed": frame(FIN | RSV1 | TEXT, b"a"),
    "no mask": frame(FIN | TEXT, b"a", mask=b""),
    "a length in a longer form": text("a") + frame(FIN | TEXT, b"b", form=126) + text("c"),
    "a length in the longest form": frame(FIN | BINARY, b"x" * 126, form=127),
    "a length of nothing in a longer form": frame(FIN | TEXT, form=126),
    "a ping with a length in a longer form": frame(FIN | PING, b"a", form=126),
    "a fragment with a length in a longer form": frame(TEXT, b"a") + frame(FIN | CONT, b"b", form=127),
    "a ping in fragments": frame(PING, b"a") + frame(FIN | CONT),
    "a ping that is too long": frame(FIN | PING, b"x" * 126),
    "a close that is too long": close(1000, b"x" * 124),
    "a close of one byte": frame(FIN | CLOSE, b"\x03"),
    "a close with an unassigned code": close(1005),
    "a close with a code that is not registered": close(2000),
    "a close with a code above all": close(5000),
    "a close with a reason that is not UTF-8": close(1000, b"\xff"),
    "a fragment of nothing": frame(FIN | CONT, b"a"),
    "a message in the middle of another": frame(TEXT, b"a") + text("b"),
    "no text": frame(FIN | TEXT, b"\xff"),
    "no text, then a close": frame(FIN | TEXT, b"\xff") + close(),
    "no text, then a ping": frame(FIN | TEXT, b"\xff") + frame(FIN | PING, b"a"),
    "no text, then a reserved opcode": frame(FIN | TEXT, b"\xff") + frame(FIN | 3),
    "a ping, then no text": frame(FIN | PING, b"a") + frame(FIN | TEXT, b"\xff"),
    "half a letter": frame(FIN | TEXT, b"\xc3"),
    "half a letter, in fragments": frame(TEXT, b"a") + frame(FIN | CONT, b"\xc3"),
    "a fragment that is not UTF-8": frame(TEXT, b"\xff") + frame(FIN | CONT, b"a"),
    "a surrogate": frame(FIN | TEXT, b"\xed\xa0\x80"),
    "too long": frame(FIN | BINARY, _BIG + b"x"),
    "too long, in fragments": frame(BINARY, _BIG) + frame(FIN | CONT, b"x"),
    "too long, and no text": frame(FIN | TEXT, b"\xff" * (MAX_MESSAGE + 1)),
    "a length with its highest bit": b"\x82\xff" + b"\xff" * 8 + b"\0\0\0\0",
    "messages, then rubbish": _TRIPLE + b"\xff" * 20,
    "HTTP": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "half a head": b"\x81",
    "half a length": b"\x81\xfe\x01",
    "half a mask": b"\x81\x81\0",
    "half a message": text("hello")[:-1],
    "half of a message with a fault": frame(FIN | 0x20 | TEXT, b"hello")[:-1],
}

_HELLO = deflated(b"Hello")
_FINAL = deflated(b"Hello", zlib.Z_FINISH)
_TWICE = zlib.compressobj(wbits=-12)
_FIRST = (_TWICE.compress(b"Hello") + _TWICE.flush(zlib.Z_SYNC_FLUSH))[:-4]
_SECOND = (_TWICE.compress(b"Hello") + _TWICE.flush(zlib.Z_SYNC_FLUSH))[:-4]

#: With permessage-deflate.
DEFLATED: Mapping[str, bytes] = {
    "a text": frame(FIN | RSV1 | TEXT, _HELLO),
    "the same twice, from one context": frame(FIN | RSV1 | TEXT, _FIRST) + frame(FIN | RSV1 | TEXT, _SECOND),
    "one that is not compressed between": frame(FIN | RSV1 | TEXT, _FIRST)
    + text("plain")
    + frame(FIN | RSV1 | TEXT, _SECOND),
    "nothing": frame(FIN | RSV1 | BINARY, b"\0"),
    "nothing at all": frame(FIN | RSV1 | BINARY),
    "fragments": frame(RSV1 | TEXT, _HELLO[:3]) + frame(CONT, _HELLO[3:5]) + frame(FIN | CONT, _HELLO[5:]),
    "a ping between fragments": frame(RSV1 | TEXT, _HELLO[:3])
    + frame(FIN | PING, b"a")
    + frame(FIN | CONT, _HELLO[3:]),
    "the example with a final block": frame(FIN | RSV1 | TEXT, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"),
    "two messages with a final block each": frame(FIN | RSV1 | TEXT, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00") * 2,
    "a final block, then another message": frame(FIN | RSV1 | TEXT, deflated(b"a", zlib.Z_FINISH))
    + frame(FIN | RSV1 | TEXT, _HELLO),
    "a final block, and another block behind it": frame(FIN | RSV1 | TEXT, _FINAL + _HELLO) * 2,
    "two final blocks": frame(FIN | RSV1 | TEXT, _FINAL * 2) * 2,
    "a final block, and rubbish behind it": frame(FIN | RSV1 | TEXT, _FINAL + b"\xff"),
    "a fragment that ends in a final block": frame(RSV1 | TEXT, _FINAL) + frame(FIN | CONT, _HELLO),
    "an empty fragment behind a final block": frame(RSV1 | TEXT, _FINAL)
    + frame(CONT)
    + frame(FIN | CONT)
    + frame(FIN | RSV1 | TEXT, _HELLO),
    "too long behind a final block": frame(FIN | RSV1 | BINARY, deflated(_BIG[1:], zlib.Z_FINISH) + deflated(b"xx")),
    "as long as may be": frame(FIN | RSV1 | BINARY, deflated(_BIG)) + text("a"),
    "as long as may be, in fragments": frame(RSV1 | BINARY, deflated(_BIG)) + frame(FIN | CONT) + text("a"),
    "too long": frame(FIN | RSV1 | BINARY, deflated(_BIG + b"x")),
    "much too long": frame(FIN | RSV1 | BINARY, deflated(b"\0" * 100_000)),
    "too long in its second fragment": frame(RSV1 | BINARY, deflated(_BIG) + b"\0\0\xff\xff")
    + frame(FIN | CONT, deflated(b"x")),
    "no text": frame(FIN | RSV1 | TEXT, deflated(b"\xff")),
    "invalid compressed data": frame(FIN | RSV1 | TEXT, b"\xff\xff\xff"),
    "a window that is too far": frame(FIN | RSV1 | TEXT, b"\x02\x00\x00\xff\xff\x00\x11"),
    "too long, and garbage just behind the limit": b"\xc2\x88\x01\x02\x03\x04\xab\xaa\x1b\x01E\x01\x03\x7f",
    "a compressed ping": frame(FIN | RSV1 | PING, _HELLO),
    "a second fragment with RSV1": frame(RSV1 | TEXT, _HELLO[:3]) + frame(FIN | RSV1 | CONT, _HELLO[3:]),
    "a close between fragments": frame(RSV1 | TEXT, _HELLO[:3]) + close(),
    "a ping, then a close": frame(FIN | PING, b"a") + close(),
}

STREAMS = {**GOOD, **BAD}

#: Bytes that matter to a parser of frames.
INTERESTING = (
    *(bytes([first]) for first in (0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A, 0xC1, 0xC2, 0x41, 0xA1, 0x83)),
    *(b"\xfe", b"\xff", b"\x7e", b"\x7f", b"\xfd", b"\x03\xe8", b"\x03\xed", b"\0\0\xff\xff", b"\xc3", b"\xed\xa0\x80"),
    *(frame(FIN | PING, b"a"), frame(FIN | CONT), frame(CONT), frame(TEXT, b"a"), text("a"), close()),
    frame(FIN | RSV1 | TEXT, _HELLO),
)
