"""Joins the parts of one WebSocket message; the parts of a text must be UTF-8 (RFC 6455 section 5.4).

The module counts the size of a message, but does not know its limit.
"""

from codecs import getincrementaldecoder
from io import BytesIO, StringIO

_utf8 = getincrementaldecoder("utf-8")


class Fragments:
    """The parts of one message, in order.

    Each part is joined as it arrives: a message may have millions, of one byte or none. A text is decoded as it
    arrives: to decode 16 MiB at the end would block the loop for 30 ms.
    """

    __slots__ = ("_bytes", "_decoder", "_text", "size")

    def __init__(self, *, is_text: bool) -> None:
        self._decoder = _utf8() if is_text else None
        self._text, self._bytes = StringIO(newline=""), BytesIO()
        self.size = 0  #: bytes so far

    def add(self, data: bytes, is_last: bool) -> None:
        """Add a part. Raises UnicodeDecodeError at the first byte that is not UTF-8."""
        self.size += len(data)
        if self._decoder:
            self._text.write(self._decoder.decode(data, is_last))
        else:
            self._bytes.write(data)

    def whole(self) -> str | bytes:
        """Return the message."""
        return self._text.getvalue() if self._decoder else self._bytes.getvalue()
