"""permessage-deflate (RFC 7692) as the frames of one WebSocket pass through it: negotiated, bounded, made when needed.

`websockets` compresses, and inflates to no more than a message may have. What is added here: nothing is allocated
before the first message that needs it, for two zlib contexts are more than all else that an idle WebSocket takes; a
short message is not worth compressing; and a final block is not the end of what a client says.
"""

import zlib
from collections.abc import Callable
from functools import partial
from math import inf
from typing import TypeAlias

from websockets.exceptions import InvalidHeaderFormat, NegotiationError, ProtocolError
from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import CTRL_OPCODES, Frame
from websockets.headers import build_extension, parse_extension
from websockets.typing import ExtensionName

#: Of a message below this compression saves no packet, and it may go without (RFC 7692 section 6).
WORTH_BYTES = 256
# A window of 4 KiB instead of 32 costs a tenth of the gain and a ninth of the memory; zlib's level 1, a third of the
# time of its default 6.
_FACTORY = ServerPerMessageDeflateFactory(
    server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5, "level": 1}
)

#: What a sender takes off each message, and the receiver appends to it (RFC 7692 section 7.2.2).
_TAIL_BYTES = 4
#: Final blocks in a frame. All that is behind one is copied, and two bytes are enough for one.
_MOST_FINAL = 16

#: What is answered to the client, and the extension.
Agreed: TypeAlias = tuple[bytes, "Deflate"]


def agree(offers: str) -> Agreed | None:
    """Return what is spoken of `offers`, the value of Sec-WebSocket-Extensions; None where nothing is.

    An offer that cannot be met, or read, is declined (RFC 7692 section 5): the WebSocket then does without.
    """
    try:
        offered = parse_extension(offers)
    except InvalidHeaderFormat:
        return None
    for name, params in offered:
        if name == _FACTORY.name:
            try:
                answered, extension = _FACTORY.process_request_params(params, [])
            except NegotiationError:
                continue
            return build_extension([(name, answered)]).encode(), Deflate(extension)
    return None


def _again(agreed: PerMessageDeflate) -> Callable[[], PerMessageDeflate]:
    """Return what makes the same extension, with contexts of its own; those of `agreed` go with it. That the client's
    is to be forgotten after each message is not said: the inflater does that.
    """
    return partial(
        PerMessageDeflate,
        False,
        agreed.local_no_context_takeover,
        agreed.remote_max_window_bits,
        agreed.local_max_window_bits,
        agreed.compress_settings,
    )


class _Inflater:
    """What the library takes for zlib's own object. To that a final block is the end of all; here the next block begins
    at the byte behind it, as RFC 7692 section 7.2.1 lets a client go on, in the same message and in the next.
    """

    def __init__(self, window_bits: int) -> None:
        self._window_bits = window_bits
        self.unconsumed_tail = b""
        self.forget()

    def forget(self) -> None:
        """Begin anew, as for a first message."""
        self._zlib = zlib.decompressobj(wbits=-self._window_bits)
        self._behind_final: float = inf  # bytes; inf where there was no final block

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Inflate at most `max_length` bytes, and one for each final block; what is left is the `unconsumed_tail`."""
        self._behind_final += len(data)
        inflated = self._zlib.decompress(data, max_length)
        if self._zlib.eof:
            inflated += self._go_on(max_length - len(inflated))
        self.unconsumed_tail = self._zlib.unconsumed_tail
        return inflated

    def _go_on(self, left: int) -> bytes:
        """Inflate what is behind a final block, and behind another."""
        inflated = b""
        for _ in range(_MOST_FINAL):
            data = self._zlib.unused_data
            self.forget()
            self._behind_final = len(data)
            inflated += self._zlib.decompress(data, max(1, left - len(inflated)))  # 0 would mean without limit
            if not self._zlib.eof:
                return inflated
        raise ProtocolError(f"a frame has more than {_MOST_FINAL} final blocks")

    def end_message(self) -> None:
        """Let go of a final block behind which came nothing but the tail, which belongs to a block that the client has
        left out. Section 7.2.1 wants that one, and `ws` of Node.js reads messages without it.
        """
        if self._behind_final == _TAIL_BYTES:
            self.forget()


class Deflate(Extension):
    """The extension, as `websockets` calls it for each frame; the library's own is made when there is work for it."""

    name = ExtensionName("permessage-deflate")

    def __init__(self, agreed: PerMessageDeflate) -> None:
        self._make = _again(agreed)
        self._forgets = agreed.remote_no_context_takeover
        self._made: PerMessageDeflate | None = None
        self._inflater: _Inflater

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """Inflate a frame to at most `max_size` bytes; raises PayloadTooBig beyond."""
        if self._made is None and not frame.rsv1:
            return frame
        made = self._working()
        inflated = made.decode(frame, max_size=max_size)
        if frame.fin and inflated is not frame:  # which it is where nothing was compressed
            if self._forgets:
                self._inflater.forget()
            else:
                self._inflater.end_message()
        return inflated

    def encode(self, frame: Frame) -> Frame:
        """Compress a frame."""
        if frame.opcode in CTRL_OPCODES:
            return frame
        return self._working().encode(frame)

    def _working(self) -> PerMessageDeflate:
        if self._made is None:
            self._made = self._make()
            self._inflater = _Inflater(self._made.remote_max_window_bits)
            self._made.decoder = self._inflater  # type: ignore[assignment] # zlib's class cannot be made, nor inherited
        return self._made
