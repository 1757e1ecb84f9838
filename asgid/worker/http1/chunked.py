"""The sizes of one body's chunks (RFC 9112 section 7.1), and what may stand beside them; it does not see the data."""

import re

from asgid.config import Limits
from asgid.errors import ClientError
from asgid.worker.http.fields import CONTROL_CHARACTER, TOKEN
from asgid.worker.http1.framing import MAX_BODY_BYTES
from asgid.worker.http1.request_syntax import body_too_large, headers_too_large

_TOKEN = TOKEN.pattern
_QUOTED = rb"\t !#-\[\]-~\x80-\xff"  # but quotes and backslashes
_parts_of = re.compile(  # no space before the semicolon: there others have read on, or not
    rb"([0-9A-Fa-f]{1,16})(?:;[ \t]*%s(?:[ \t]*=[ \t]*(?:%s|\"(?:[%s]|\\[%s\"\\])*\"))?[ \t]*)*"
    % (_TOKEN, _TOKEN, _QUOTED, _QUOTED)
).fullmatch
_is_beginning = re.compile(rb"[0-9A-Fa-f]{1,16}(?:;|$)").match
#: What a chunk may say beside its data without having to answer for it, and by each byte of data (Go's measure).
_FREE_BYTES, _FREE_BYTES_EACH = 16, 2
#: The same without the line break, which is not in the line that is measured.
_FREE_BYTES_OF_LINE = _FREE_BYTES - len(b"\r\n")


class ChunkedSizes:
    """Lines in, sizes out, held to the limits: all data together to `body`, and what the lines say beyond what the data
    accounts for to `header_size`, which it would otherwise be a way around.
    """

    __slots__ = ("_body_bytes", "_excess", "_limits")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._body_bytes = self._excess = 0

    def reset(self) -> None:
        """Forget the last body."""
        self._body_bytes = self._excess = 0

    def parse(self, line: bytes) -> int:
        """Return the size of the chunk that follows its `line`; raises ClientError."""
        limits, excess = self._limits, self._excess
        if len(line) > limits.header_size - excess:
            self.check_partial(line, 0)
        parts = _parts_of(line)
        size = int(parts[1], 16) if parts else MAX_BODY_BYTES + 1
        if size > MAX_BODY_BYTES:
            raise _bad()
        self._body_bytes += size
        if self._body_bytes > limits.body:
            raise body_too_large(limits.body)
        excess += len(line) - _FREE_BYTES_OF_LINE - _FREE_BYTES_EACH * size
        self._excess = excess if excess > 0 else 0  # noqa: FURB136 - max() takes 40 ns more
        return size

    def check_partial(self, text: bytes, judged: int) -> None:
        """Hold as much of a line as is here to the limits; but by what is wrong first. `judged` of it has been seen."""
        room = self._limits.header_size - self._excess
        if (text and not _is_beginning(text)) or CONTROL_CHARACTER.search(text, judged, room):
            raise _bad()
        if len(text) > room:
            raise headers_too_large(self._limits.header_size)


def _bad() -> ClientError:
    return ClientError(400, "framing", "a chunk does not begin with its size in hexadecimal digits")
