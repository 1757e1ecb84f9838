"""Parses the size lines of a chunked body, and bounds their overhead (RFC 9112 section 7.1).

The module does not see the data.
"""

import re

from asgid.config.tables import Limits
from asgid.errors import ClientError
from asgid.worker.http.fields import CONTROL_CHARACTER, TOKEN
from asgid.worker.http1.framing import MAX_BODY_BYTES
from asgid.worker.http1.request_syntax import body_too_large, headers_too_large

_QUOTED = rb"\t !#-\[\]-~\x80-\xff"  # without the quote and the backslash
_match_line = re.compile(  # a space before the semicolon is rejected: servers disagree about it
    rb"([0-9A-Fa-f]{1,16})(?:;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|\"(?:[%b]|\\[%b\"\\])*\"))?[ \t]*)*"
    % (TOKEN.pattern, TOKEN.pattern, _QUOTED, _QUOTED)
).fullmatch
_match_beginning = re.compile(rb"[0-9A-Fa-f]{1,16}(?:;|$)").match
#: The bytes beside the data that are free, for each chunk and for each byte of its data; Go uses the same numbers.
_ALLOWED_OVERHEAD, _ALLOWED_OVERHEAD_PER_BYTE = 16, 2
#: The same without the line break, which is not part of the measured line.
_ALLOWED_LINE_OVERHEAD = _ALLOWED_OVERHEAD - len(b"\r\n")


class ChunkedSizes:
    """Returns the sizes of one body's chunks, and holds the body to the limits.

    All data counts towards `limits.body`. The overhead of the size lines counts towards `limits.header_size`: chunk
    extensions would otherwise avoid that limit.
    """

    __slots__ = ("_body_bytes", "_limits", "_overhead")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._body_bytes = self._overhead = 0

    def parse(self, line: bytes) -> int:
        """Return the size of the chunk that follows `line`. Raises ClientError."""
        limits, overhead = self._limits, self._overhead
        if len(line) > limits.header_size - overhead:
            self.check_partial(line, 0)
        match = _match_line(line)
        size = int(match[1], 16) if match else MAX_BODY_BYTES + 1
        if size > MAX_BODY_BYTES:
            raise _invalid_size()
        self._body_bytes += size
        if self._body_bytes > limits.body:
            raise body_too_large(limits.body)
        overhead += len(line) - _ALLOWED_LINE_OVERHEAD - _ALLOWED_OVERHEAD_PER_BYTE * size
        self._overhead = overhead if overhead > 0 else 0  # noqa: FURB136 - max() takes 40 ns more
        return size

    def check_partial(self, text: bytes, checked: int) -> None:
        """Raise ClientError if no valid size line within the limit begins with `text`.

        The first `checked` bytes of `text` have been checked before.
        """
        room = self._limits.header_size - self._overhead
        # The syntax is checked first: the error must not depend on how the line was cut.
        if (text and not _match_beginning(text)) or CONTROL_CHARACTER.search(text, checked, room):
            raise _invalid_size()
        if len(text) > room:
            raise headers_too_large(self._limits.header_size)


def _invalid_size() -> ClientError:
    return ClientError(400, "framing", "a chunk does not begin with its size in hexadecimal digits")
