"""permessage-deflate (RFC 7692) as the frames of one WebSocket pass through it: negotiated, bounded, made when needed.

`websockets` compresses, and inflates to no more than a message may have. What is added here: nothing is allocated
before the first message that needs it, for two zlib contexts are more than all else that an idle WebSocket takes; a
short message is not worth compressing; and one may end with a final block.
"""

import zlib
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from websockets.exceptions import InvalidHeaderFormat, NegotiationError
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
            return build_extension([(name, answered)]).encode(), Deflate(_again(extension))
    return None


def _again(agreed: PerMessageDeflate) -> Callable[[], PerMessageDeflate]:
    """Return what makes the same extension, with contexts of its own; those of `agreed` go with it."""
    return partial(
        PerMessageDeflate,
        agreed.remote_no_context_takeover,
        agreed.local_no_context_takeover,
        agreed.remote_max_window_bits,
        agreed.local_max_window_bits,
        agreed.compress_settings,
    )


class Deflate(Extension):
    """The extension, as `websockets` calls it for each frame; `make` makes the library's own when there is work."""

    name = ExtensionName("permessage-deflate")

    def __init__(self, make: Callable[[], PerMessageDeflate]) -> None:
        self._make = make
        self._made: PerMessageDeflate | None = None

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """Inflate a frame to at most `max_size` bytes; raises PayloadTooBig beyond."""
        if self._made is None and not frame.rsv1:
            return frame
        made = self._working()
        inflated = made.decode(frame, max_size=max_size)
        # A client may end a message with a final block (RFC 7692 section 7.2.3.4). To zlib that is the end of all: what
        # follows would inflate to nothing, and be kept. So it begins anew, as `ws` of Node.js does.
        if hasattr(made, "decoder") and made.decoder.eof:  # without context takeover there is none between messages
            made.decoder = zlib.decompressobj(wbits=-made.remote_max_window_bits)
        return inflated

    def encode(self, frame: Frame) -> Frame:
        """Compress a frame."""
        if frame.opcode in CTRL_OPCODES:
            return frame
        return self._working().encode(frame)

    def _working(self) -> PerMessageDeflate:
        if self._made is None:
            self._made = self._make()
        return self._made
