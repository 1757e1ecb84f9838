"""Frames of a WebSocket as bytes: heads, close frames, and the faults of a first byte (RFC 6455 section 5).

Functions and tables only. The tables include the order of frames; the decoder reads their content.
"""

from collections.abc import Mapping, Sequence
from struct import Struct

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10  #: opcodes (section 5.2)
FIN, RSV1, OPCODE = 0x80, 0x40, 0x0F  #: bits of a first byte
IS_CONTROL = 0x08  #: the bit that the opcodes of control frames have
WHOLE_TEXT, WHOLE_BINARY = FIN | TEXT, FIN | BINARY  #: a message in one frame
MAX_CONTROL = 125  #: max bytes of the payload of a control frame (section 5.5)
MAX_REASON = MAX_CONTROL - 2  #: max bytes of the reason in a close frame, after the two of the code

# Close codes (section 7.4.1, and the registry of IANA).
NORMAL, PROTOCOL_ERROR, NO_CODE, ABNORMAL = 1000, 1002, 1005, 1006
INVALID_PAYLOAD, TOO_BIG, INTERNAL_ERROR, SERVICE_RESTART = 1007, 1009, 1011, 1012
#: The codes that an endpoint may send: the registered ones, and those of applications.
CLOSE_CODES = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))

#: The head of a frame with up to 125 bytes of payload: nearly every one.
short_head = Struct("!BB").pack
_MEDIUM, _LONG = Struct("!BBH").pack, Struct("!BBQ").pack
_CODE = Struct("!H")


class FrameError(Exception):
    """The client's frames break the protocol: the WebSocket is closed with `code` (section 7.1.7)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


def frame_head(first: int, size: int) -> bytes:
    """Return the head of a server's frame with `size` bytes of payload; `first` has the bits and the opcode.

    The length is in its shortest form, the only valid one.
    """
    if size <= MAX_CONTROL:
        return short_head(first, size)
    return _MEDIUM(first, 126, size) if size < 65536 else _LONG(first, 127, size)


def close_payload(code: int, reason: str) -> bytes:
    """Return the payload of a close frame."""
    return _CODE.pack(code) + reason.encode()


def read_close(payload: bytes) -> tuple[int, str]:
    """Return code and reason of a client's close frame, NO_CODE for an empty one. Raises FrameError."""
    if not payload:
        return NO_CODE, ""
    if len(payload) < _CODE.size:
        raise FrameError(PROTOCOL_ERROR, "a close frame has one byte of a code")
    (code,) = _CODE.unpack_from(payload)
    if code not in CLOSE_CODES:
        raise FrameError(PROTOCOL_ERROR, "a close frame has a code that an endpoint must not send")
    try:
        return code, payload[_CODE.size :].decode()
    except UnicodeDecodeError:
        raise FrameError(INVALID_PAYLOAD, "the reason of a close frame is not UTF-8") from None


def _fault(first: int, *, is_deflated: bool, is_in_message: bool) -> str:
    """Return the fault of a frame's first byte, "" without one."""
    opcode = first & OPCODE
    if first & 0x30 or (first & RSV1 and not (is_deflated and opcode in (TEXT, BINARY))):
        return "a reserved bit is set"  # section 5.2; only the first frame of a message has RSV1 (RFC 7692 section 6)
    if opcode not in (CONT, TEXT, BINARY, CLOSE, PING, PONG):
        return "an opcode is reserved"
    if opcode & IS_CONTROL:
        return "" if first & FIN else "a control frame is fragmented"
    if is_in_message and opcode != CONT:
        return "a message begins within another"
    return "" if is_in_message or opcode != CONT else "a fragment belongs to no message"


#: (with compression, within a message) -> first byte -> its fault, or "".
FAULTS: Mapping[tuple[bool, bool], Sequence[str]] = {
    (is_deflated, is_in_message): [
        _fault(first, is_deflated=is_deflated, is_in_message=is_in_message) for first in range(256)
    ]
    for is_deflated in (False, True)
    for is_in_message in (False, True)
}
