"""permessage-deflate (RFC 7692): the negotiation, and the compression in both directions of one WebSocket.

A zlib context is allocated for the first message that needs it: two contexts take more memory than the rest of an idle
WebSocket. Inflating is in steps, so that the caller can pause between them. The module does not know frames.
"""

import re
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

#: To compress a smaller message saves no packet; it may be sent uncompressed (RFC 7692 section 6).
MIN_DEFLATED_BYTES = 256
# A window of 4 KiB instead of 32 compresses a tenth less, with a ninth of the memory. Level 1 of zlib takes a third of
# the time of its default, 6.
_BITS, _MAX_BITS, _LEVEL, _MEMORY_LEVEL = 12, 15, 1, 5
#: zlib has no smaller window for raw deflate; other programs use 9 for 8 (zlib's manual, deflateInit2).
_MIN_BITS = 9

_NAME = "permessage-deflate"
_NUMBER = re.compile(r"[89]|1[0-5]")
#: Parameter -> whether its value, None without one, is valid in an offer (RFC 7692 section 7.1).
_IS_VALID: Mapping[str, Callable[[str | None], object]] = {
    "server_no_context_takeover": lambda value: value is None,
    "client_no_context_takeover": lambda value: value is None,
    "server_max_window_bits": lambda value: value is not None and _NUMBER.fullmatch(value),
    "client_max_window_bits": lambda value: value is None or _NUMBER.fullmatch(value),
}

#: The end that a sender removes from each message, and the receiver appends again (RFC 7692 section 7.2.2).
TAIL = b"\0\0\xff\xff"


class DeflateParameters(NamedTuple):
    """The result of the negotiation; `answer` is the value of Sec-WebSocket-Extensions in the response."""

    answer: bytes
    client_bits: int  #: the window
    server_bits: int
    client_no_context_takeover: bool  #: each message begins with an empty context
    server_no_context_takeover: bool


def negotiate(offers: str) -> DeflateParameters | None:
    """Return the parameters of the first acceptable offer in a value of Sec-WebSocket-Extensions; None without one.

    An offer that is not supported or not valid is declined (RFC 7692 section 5).
    """
    for offer in offers.split(","):
        name, *parameters = (part.strip(" \t") for part in offer.split(";"))
        if name == _NAME and (accepted := _accept(parameters)):
            return accepted
    return None


def _accept(parameters: list[str]) -> DeflateParameters | None:
    offered: dict[str, str | None] = {}
    for parameter in parameters:
        name, equals, value = (part.strip(" \t") for part in parameter.partition("="))
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        optional = value if equals else None
        if name in offered or name not in _IS_VALID or not _IS_VALID[name](optional):
            return None
        offered[name] = optional
    server_bits = min(_BITS, int(offered.get("server_max_window_bits") or _MAX_BITS))
    if server_bits < _MIN_BITS:
        return None
    takeovers = [name for name in _NO_CONTEXT_TAKEOVER if name in offered]
    answer = [_NAME, *takeovers, f"server_max_window_bits={server_bits}"]
    client_bits = _MAX_BITS
    if "client_max_window_bits" in offered:  # else the client may not support it (section 7.1.2.2)
        client_bits = min(_BITS, int(offered["client_max_window_bits"] or _MAX_BITS))
        answer.append(f"client_max_window_bits={client_bits}")
    server_resets, client_resets = (name in offered for name in _NO_CONTEXT_TAKEOVER)
    return DeflateParameters("; ".join(answer).encode(), client_bits, server_bits, client_resets, server_resets)


_NO_CONTEXT_TAKEOVER = ("server_no_context_takeover", "client_no_context_takeover")


class Inflater:
    """The inflater of a client's messages. Feed it a part of a message, and inflate until it `is_dry`.

    For zlib the data ends with a final block. Here the next block begins at the byte behind it: RFC 7692 section 7.2.1
    lets a client continue, in the same message and in the next.
    """

    __slots__ = ("_bits", "_is_fresh", "_no_context_takeover", "_rest", "_zlib", "is_dry")

    def __init__(self, parameters: DeflateParameters) -> None:
        self._bits = -max(parameters.client_bits, _MIN_BITS)
        self._no_context_takeover = parameters.client_no_context_takeover
        self._zlib: zlib._Decompress | None = None
        self._is_fresh = True  # the context is empty
        self._rest = b""
        self.is_dry = True

    def feed(self, data: bytes) -> None:
        """Add a part of a message; the last one ends with TAIL."""
        self._rest, self.is_dry = data, False

    def inflate(self, max_bytes: int) -> bytes:
        """Return the next inflated bytes, at most `max_bytes`, up to a final block. Raises zlib.error."""
        # Behind a final block TAIL belongs to an empty block that the client omitted. Section 7.2.1 requires that
        # block, but `ws` of Node.js accepts messages without it. Elsewhere an empty first block changes nothing.
        if self._is_fresh and self._rest in (b"", TAIL):
            self._rest, self.is_dry = b"", True
            return b""
        inflater = self._zlib = self._zlib or zlib.decompressobj(self._bits)
        inflated = inflater.decompress(self._rest, max_bytes)
        self._is_fresh = False
        if inflater.eof:
            self._rest = inflater.unused_data
            self._reset()
        else:
            self._rest = inflater.unconsumed_tail
            # After max_bytes zlib may have more output, even if it has read all input.
            self.is_dry = not self._rest and len(inflated) < max_bytes
        return inflated

    def end_message(self) -> None:
        """Drop the context, if the parameters say no_context_takeover."""
        if self._no_context_takeover:
            self._reset()

    def _reset(self) -> None:
        self._zlib, self._is_fresh = None, True


class Deflater:
    """The compressor of the server's messages."""

    __slots__ = ("_bits", "_no_context_takeover", "_zlib")

    def __init__(self, parameters: DeflateParameters) -> None:
        self._bits = -parameters.server_bits
        self._no_context_takeover = parameters.server_no_context_takeover
        self._zlib: zlib._Compress | None = None

    def deflate(self, message: bytes) -> bytes:
        """Return the payload of a frame with the compressed message."""
        deflater = self._zlib or zlib.compressobj(_LEVEL, zlib.DEFLATED, self._bits, _MEMORY_LEVEL)
        self._zlib = None if self._no_context_takeover else deflater
        return (deflater.compress(message) + deflater.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]
