"""The parts of one WebSocket message, until it is whole (RFC 6455 section 5.4); those of a text must be UTF-8.

The limit on a message is unknown here, only its size so far.
"""

from codecs import getincrementaldecoder
from io import BytesIO, StringIO

_utf8 = getincrementaldecoder("utf-8")


class Fragments:
    """Takes the parts of a message in their order.

    They are joined as they come, for there may be millions, each of a single byte or of none. A text is decoded as it
    comes: 16 MiB at the end would hold the loop for 30 ms.
    """

    __slots__ = ("_bytes", "_decoder", "_text", "size")

    def __init__(self, *, is_text: bool) -> None:
        self._decoder = _utf8() if is_text else None
        self._text, self._bytes = StringIO(newline=""), BytesIO()
        self.size = 0  #: bytes that were taken so far

    def add(self, data: bytes, is_last: bool) -> None:
        """Take a part; raises UnicodeDecodeError at the first byte that cannot be part of any text."""
        self.size += len(data)
        if self._decoder:
            self._text.write(self._decoder.decode(data, is_last))
        else:
            self._bytes.write(data)

    def whole(self) -> str | bytes:
        """Return the message."""
        return self._text.getvalue() if self._decoder else self._bytes.getvalue()
