"""The fragments of one WebSocket message, until it is whole (RFC 6455 section 5.4); what is to be text must be UTF-8.

It does not know the limit on a message, only its size so far.
"""

from codecs import getincrementaldecoder

_utf8 = getincrementaldecoder("utf-8")


class Fragments:
    """Takes the fragments of a message in their order.

    They are joined as they come, for there may be millions, each of a single byte or of none.
    """

    __slots__ = ("_content", "_decoder")

    def __init__(self, *, is_text: bool) -> None:
        self._content = bytearray()
        self._decoder = _utf8() if is_text else None

    @property
    def size(self) -> int:
        """Bytes that were taken so far."""
        return len(self._content)

    def add(self, data: "bytes | bytearray | memoryview", is_last: bool) -> None:
        """Take a fragment; UnicodeDecodeError at the first that cannot be part of any text."""
        if self._decoder:
            self._decoder.decode(data, is_last)
        self._content += data

    def whole(self) -> str | bytes:
        """Return the message."""
        return str(self._content, "utf-8") if self._decoder else bytes(self._content)
