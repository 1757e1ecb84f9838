"""permessage-deflate (RFC 7692): what is agreed of a client's offers, and the two directions of one WebSocket.

Nothing is allocated before the first message that needs it: two contexts of zlib take more memory than all else of an
idle WebSocket. Inflating goes in steps, so that a caller can stop between them. Frames are unknown here.
"""

import re
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

#: Compression of a message below this saves no packet, and it may go without (RFC 7692 section 6).
MIN_DEFLATED_BYTES = 256
# A window of 4 KiB instead of 32 costs a tenth of the gain and a ninth of the memory; zlib's level 1, a third of the
# time of its default 6.
_BITS, _MAX_BITS, _LEVEL, _MEMORY_LEVEL = 12, 15, 1, 5
#: zlib deflates with no smaller window, and takes 8 for 9 in other programs (zlib's manual, deflateInit2).
_MIN_BITS = 9

_NAME = "permessage-deflate"
_NUMBER = re.compile(r"[89]|1[0-5]")
#: parameter -> whether a value, None without one, is lawful in an offer (RFC 7692 section 7.1).
_LAWFUL: Mapping[str, Callable[[str | None], object]] = {
    "server_no_context_takeover": lambda value: value is None,
    "client_no_context_takeover": lambda value: value is None,
    "server_max_window_bits": lambda value: value is not None and _NUMBER.fullmatch(value),
    "client_max_window_bits": lambda value: value is None or _NUMBER.fullmatch(value),
}

#: What a sender takes off each message, and the receiver appends to it (RFC 7692 section 7.2.2).
TAIL = b"\0\0\xff\xff"


class DeflateParameters(NamedTuple):
    """The outcome of the negotiation; `answer` is the value of Sec-WebSocket-Extensions."""

    answer: bytes
    client_bits: int
    server_bits: int
    client_forgets: bool  #: its context, after each message
    server_forgets: bool


def negotiate(offers: str) -> DeflateParameters | None:
    """Return the agreement on `offers`, the value of Sec-WebSocket-Extensions; None if there is none.

    An offer that cannot be met, or read, is declined (RFC 7692 section 5): the WebSocket then does without.
    """
    for offer in offers.split(","):
        name, *parameters = (part.strip(" \t") for part in offer.split(";"))
        if name == _NAME and (agreed := _agree(parameters)):
            return agreed
    return None


def _agree(parameters: list[str]) -> DeflateParameters | None:
    offered: dict[str, str | None] = {}
    for parameter in parameters:
        name, equals, value = (part.strip(" \t") for part in parameter.partition("="))
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        given = value if equals else None
        if name in offered or name not in _LAWFUL or not _LAWFUL[name](given):
            return None
        offered[name] = given
    server_bits = min(_BITS, int(offered.get("server_max_window_bits") or _MAX_BITS))
    if server_bits < _MIN_BITS:
        return None
    answer = [_NAME, *(name for name in _FORGETTING if name in offered), f"server_max_window_bits={server_bits}"]
    client_bits = _MAX_BITS
    if "client_max_window_bits" in offered:  # else the client need not understand it (section 7.1.2.2)
        client_bits = min(_BITS, int(offered["client_max_window_bits"] or _MAX_BITS))
        answer.append(f"client_max_window_bits={client_bits}")
    server_forgets, client_forgets = (name in offered for name in _FORGETTING)
    return DeflateParameters("; ".join(answer).encode(), client_bits, server_bits, client_forgets, server_forgets)


_FORGETTING = ("server_no_context_takeover", "client_no_context_takeover")


class Inflater:
    """What a client compressed. Feed it a part of a message, and inflate until it `is_dry`; zlib.error if it cannot.

    To zlib a final block is the end of all. Here the next block begins at the byte behind it, as RFC 7692 section
    7.2.1 lets a client go on, in the same message and in the next.
    """

    __slots__ = ("_bits", "_forgets", "_is_fresh", "_rest", "_zlib", "is_dry")

    def __init__(self, agreed: DeflateParameters) -> None:
        self._bits = -max(agreed.client_bits, _MIN_BITS)
        self._forgets = agreed.client_forgets
        self._zlib: zlib._Decompress | None = None
        self._is_fresh = True  # nothing was given to zlib since it began, or began anew
        self._rest = b""
        self.is_dry = True

    def feed(self, data: bytes) -> None:
        """Take a part of a message; TAIL ends the last one."""
        self._rest, self.is_dry = data, False

    def inflate(self, max_bytes: int) -> bytes:
        """Return the next bytes of what was fed, at most `max_bytes`, and none behind a final block."""
        # Behind a final block TAIL belongs to a block that the client has left out. Section 7.2.1 wants that one, and
        # `ws` of Node.js reads messages without it. Elsewhere an empty block at the beginning changes nothing.
        if self._is_fresh and self._rest in (b"", TAIL):
            self._rest, self.is_dry = b"", True
            return b""
        inflater = self._zlib = self._zlib or zlib.decompressobj(self._bits)
        inflated = inflater.decompress(self._rest, max_bytes)
        self._is_fresh = False
        if inflater.eof:
            self._rest = inflater.unused_data
            self._forget()
        else:
            self._rest = inflater.unconsumed_tail
            # zlib may hold more where all is read and the last byte that it may give is given.
            self.is_dry = not self._rest and len(inflated) < max_bytes
        return inflated

    def end_message(self) -> None:
        """Forget the context, if that was agreed."""
        if self._forgets:
            self._forget()

    def _forget(self) -> None:
        self._zlib, self._is_fresh = None, True


class Deflater:
    """What the server compresses."""

    __slots__ = ("_bits", "_forgets", "_zlib")

    def __init__(self, agreed: DeflateParameters) -> None:
        self._bits = -agreed.server_bits
        self._forgets = agreed.server_forgets
        self._zlib: zlib._Compress | None = None

    def deflate(self, message: bytes) -> bytes:
        """Return a message as the payload of its frame."""
        deflater = self._zlib or zlib.compressobj(_LEVEL, zlib.DEFLATED, self._bits, _MEMORY_LEVEL)
        self._zlib = None if self._forgets else deflater
        return (deflater.compress(message) + deflater.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]
