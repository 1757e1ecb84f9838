"""Decodes the bytes of one client into messages and control frames, a step at a time (RFC 6455).

The head of a frame is checked before its payload arrives. Content is unmasked, inflated and decoded as UTF-8 as it
arrives, up to the max size of a message. The result does not depend on how the stream is cut into reads. The module
does not know connections and clocks; the caller may pause between two steps.
"""

import zlib
from typing import TypeAlias

from asgid.worker.websocket.deflate import TAIL, Inflater
from asgid.worker.websocket.fragments import Fragments
from asgid.worker.websocket.frames import (
    BINARY,
    CONT,
    FAULTS,
    FIN,
    INVALID_PAYLOAD,
    IS_CONTROL,
    MAX_CONTROL,
    OPCODE,
    PROTOCOL_ERROR,
    RSV1,
    TEXT,
    TOO_BIG,
    WHOLE_BINARY,
    WHOLE_TEXT,
    FrameError,
)
from asgid.worker.websocket.mask import unmask

#: An opcode, and the whole message, a str for a text, or the payload of a control frame.
DecoderEvent: TypeAlias = tuple[int, str | bytes]

#: The max size that one step inflates, which takes a fraction of a millisecond.
STEP_BYTES = 65536
#: The max size that zlib gets at a time. It copies all bytes behind a final block, which may have two bytes.
_COMPRESSED_BYTES = 4096
_HEAD_BYTES, _MASK_BYTES = 2, 4
_IS_MASKED = 0x80
#: The seven bits of a length -> the bytes of its extended form, and the min length in that form (section 5.2).
_FORMS = {126: (2, 126), 127: (8, 65536)}
_WHOLE = frozenset((WHOLE_TEXT, WHOLE_BINARY))
_NO_FRAME = -1
# One reason for invalid UTF-8 and invalid deflate data: which one is found first depends on the cuts of the stream.
_INVALID = "invalid payload data"


class Decoder:
    """The decoder of one client's frames. `has_rest`: `step()` can continue without more bytes."""

    __slots__ = (
        "_at",
        "_data",
        "_faults",
        "_first",
        "_fragments",
        "_inflater",
        "_is_compressed",
        "_left",
        "_mask",
        "_max_message",
        "_opcode",
        "_size",
        "has_rest",
    )

    def __init__(self, max_message: int, inflater: Inflater | None) -> None:
        self._max_message, self._inflater = max_message, inflater
        self._data, self._at = b"", 0  # received bytes, and the offset of the first unread one
        self._first, self._mask = 0, b""  # first byte and mask of the current frame
        self._left = _NO_FRAME  # unread bytes of its payload
        self._opcode = CONT  # of the current message, CONT without one
        self._is_compressed = False
        self._size = 0  # of the content of the message so far
        self._fragments: Fragments | None = None  # its content, if it comes in several parts
        self._faults = FAULTS[inflater is not None, False]
        self.has_rest = False

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at, self.has_rest = 0, True

    def step(self) -> DecoderEvent | None:  # noqa: C901 - two calls more for each frame cost 1 %
        """Read up to the end of a frame; return the message or control frame that is complete. Raises FrameError."""
        if self._left != _NO_FRAME:
            return self._read_control() if self._first & IS_CONTROL else self._read_content()
        data, at, here = self._data, self._at, len(self._data)
        start = at + _HEAD_BYTES
        if here < start:
            return self._wait()
        first, size = data[at], data[at + 1] - _IS_MASKED
        if self._faults[first] or size < 0 or (first & IS_CONTROL and size > MAX_CONTROL):
            raise self._fault(first, size)
        if size > MAX_CONTROL:
            width, min_length = _FORMS[size]
            start += width
            if here < start:
                return self._wait()
            size = _parse_length(data[start - width : start], min_length)
        if size > self._max_message - self._size and not first & IS_CONTROL:
            raise self._too_big()
        at = start + _MASK_BYTES
        if here < at:
            return self._wait()
        mask, end = data[start:at], at + size
        if end > here or first not in _WHOLE:
            self._consume_to(at)
            return self._begin_frame(first, mask, size)
        # Nearly every frame: without further calls.
        if end < here:
            self._at = end
        else:
            self._data, self._at, self.has_rest = b"", 0, False
        payload = unmask(data[at:end], mask)
        if first == WHOLE_BINARY:
            return BINARY, payload
        try:
            return TEXT, payload.decode()
        except UnicodeDecodeError:
            raise FrameError(INVALID_PAYLOAD, _INVALID) from None

    def _fault(self, first: int, size: int) -> FrameError:
        fault = self._faults[first] or (
            "a frame has no mask" if size < 0 else "a control frame is longer than 125 bytes"
        )
        return FrameError(PROTOCOL_ERROR, fault)

    def _wait(self) -> DecoderEvent | None:
        """Return None: more bytes are needed."""
        self.has_rest = False
        return None

    def _begin_frame(self, first: int, mask: bytes, size: int) -> DecoderEvent | None:
        """Read the payload of a frame, as far as it has arrived."""
        self._first, self._mask, self._left = first, mask, size
        if first & IS_CONTROL:
            return self._read_control()
        if not self._opcode:
            self._opcode, self._is_compressed = first & OPCODE, first & RSV1 != 0
            self._faults = FAULTS[self._inflater is not None, True]
        return self._read_content()

    def _consume_to(self, at: int) -> None:
        if at < len(self._data):
            self._at = at
        else:
            self._data, self._at, self.has_rest = b"", 0, False

    def _take(self, max_bytes: int) -> bytes:
        """Return the next bytes of the payload that have arrived, at most `max_bytes`."""
        at, mask = self._at, self._mask
        masked = self._data[at : at + max_bytes]
        size = len(masked)
        self._left -= size
        self._mask = mask[size % _MASK_BYTES :] + mask[: size % _MASK_BYTES]
        self._consume_to(at + size)
        return unmask(masked, mask)

    def _read_control(self) -> DecoderEvent | None:
        """Return a control frame, if its payload has arrived."""
        if len(self._data) - self._at < self._left:
            return self._wait()
        payload = self._take(self._left)
        self._left = _NO_FRAME
        return self._first & OPCODE, payload

    def _read_content(self) -> DecoderEvent | None:
        """Read the content that has arrived, or one step of it if it is compressed; return the message at its end."""
        inflater = self._inflater if self._is_compressed else None
        is_fin = self._first & FIN != 0
        try:
            if inflater is None:
                content = self._take(self._left)
                is_ended = self._left == 0
            else:
                if inflater.is_dry:
                    content = self._take(min(self._left, _COMPRESSED_BYTES))
                    inflater.feed(content + TAIL if is_fin and self._left == 0 else content)
                content = inflater.inflate(min(STEP_BYTES, self._max_message - self._size + 1))
                is_ended = self._left == 0 and inflater.is_dry
                self.has_rest = not inflater.is_dry or self._at < len(self._data)
            if is_ended:
                self._left = _NO_FRAME
            return self._add_content(content, is_last=is_ended and is_fin)
        except (UnicodeDecodeError, zlib.error):
            raise FrameError(INVALID_PAYLOAD, _INVALID) from None

    def _add_content(self, content: bytes, *, is_last: bool) -> DecoderEvent | None:
        """Add a part of the content of a message; return the message if the part is the last one."""
        opcode, fragments = self._opcode, self._fragments
        whole: str | bytes
        if is_last and fragments is None:
            whole = content.decode() if opcode == TEXT else content
        else:
            if fragments is None:
                fragments = self._fragments = Fragments(is_text=opcode == TEXT)
            fragments.add(content, is_last)
            self._size = fragments.size
            if self._size > self._max_message:
                raise self._too_big()
            if not is_last:
                return None
            whole = fragments.whole()
        if self._is_compressed and self._inflater:
            self._inflater.end_message()
        self._opcode, self._size, self._fragments = CONT, 0, None
        self._faults = FAULTS[self._inflater is not None, False]
        return opcode, whole

    def _too_big(self) -> FrameError:
        return FrameError(TOO_BIG, f"a message exceeds {self._max_message} bytes")


def _parse_length(form: bytes, min_length: int) -> int:
    size = int.from_bytes(form)
    if size < min_length:
        raise FrameError(PROTOCOL_ERROR, "a length is not in its shortest form")
    return size
