"""One connection's bytes -> request heads and bodies, the same however they were cut up; with the limits counted here.

A step takes what it can use and says where the next one begins; only an unfinished line is held back. httptools is
given whole heads and nothing else; what it leaves out is judged in request_head.py, line by line, and in meaning.py;
the sizes of chunks in chunks.py. What is complete is told to the connection, in the order of the bytes. What is wrong
is raised out of `feed` as a ClientError with the status to answer, by the first byte that makes it so: nothing depends
on what came with it in one read. This file does not know what an answer is.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import ClassVar, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from asgid.config import Limits
from asgid.errors import ClientError
from asgid.worker.http.fields import CONTROL_CHARACTER, Field
from asgid.worker.http.forwarded import FORWARDING_FIELDS
from asgid.worker.http1.chunked import ChunkedSizes
from asgid.worker.http1.framing import MessageInfo, interpret
from asgid.worker.http1.request_syntax import (
    RequestLine,
    bad_request,
    body_too_large,
    check_partial_request_line,
    check_request_line_length,
    headers_too_large,
    parse_field_line,
    parse_request_line,
)

#: What means something here; `proxy-connection` only to the parser.
_TELLING = frozenset(
    (*b"connection content-length expect host proxy-connection transfer-encoding upgrade".split(), *FORWARDING_FIELDS)
)
_SPACE = 0x20
#: So much of a read is looked at before the loop's time is: lines and chunks of a few bytes take 0.3 to 1.5 us each, so
#: 256 KiB of them, one read, would take 50 ms. What is longer than a slice, a body above all, is still taken whole.
SLICE = 4096
#: A header section is remembered up to here: a client says the same of itself in each request.
_LONGEST_MEMO = 4096
_NEVER = b"\0"  # no head has it


class StopParsing(Exception):  # noqa: N818 - as StopIteration, it reports no error
    """Raised by who hears: what follows on this connection is not looked at."""


class ParserCallbacks(Protocol):
    """Who is told what was read, until it raises StopParsing."""

    def request_began(
        self,
        method: str,
        target: bytes,
        minor: int,
        headers: list[Field],
        keep_alive: bool,
        expects_continue: bool,
    ) -> None: ...

    def body_came(self, chunk: bytes) -> None: ...

    def request_ended(self) -> None: ...


class _Expected(IntEnum):
    """What the next bytes are."""

    START = 0  # an empty line, or a request line
    FIELD = 1
    BODY = 2  # of a known length
    CHUNK = 3  # its size
    DATA = 4
    DATA_END = 5
    TRAILER = 6


_START, _FIELD, _BODY, _CHUNK_SIZE, _DATA, _DATA_END, _TRAILER = _Expected


_NO_START: RequestLine = ("", b"", 0, b"")
_NO_HEADERS: list[Field] = []  # shared by all that have read none; never changed
_NO_LINES: list[bytes] = []


class RequestParser:
    """Bytes in, calls out.

    `is_in_head`: a head has begun and is not complete. `is_handshake`: the last head asks for a WebSocket.
    `is_stopped`: no request is started; the bytes that follow the last one wait. `can_continue`: `feed(b"")` reads
    more of the bytes that wait.
    """

    __slots__ = (
        "_blank_bytes",
        "_expected",
        "_headers",
        "_hearer",
        "_held",
        "_is_parser_used_up",
        "_is_second",
        "_judged",
        "_left",
        "_limits",
        "_line",
        "_lines",
        "_longest_start",
        "_memo",
        "_memo_headers",
        "_memo_section",
        "_parser",
        "_rest",
        "_rest_at",
        "_section_bytes",
        "_sizes",
        "_start",
        "_told",
        "can_continue",
        "has_rest",
        "is_forwarded",
        "is_handshake",
        "is_in_head",
        "is_stopped",
    )

    def __init__(self, hearer: ParserCallbacks, limits: Limits) -> None:
        self._hearer = hearer
        self._limits = limits
        self._longest_start = limits.request_line
        self.is_in_head = False
        self.is_forwarded = False  # whether a request so far has told of a client behind a proxy
        self.is_handshake = False
        self.is_stopped = False
        self.has_rest = self.can_continue = False
        self._rest = b""  # what came while it was stopped, from there on
        self._rest_at = 0
        self._expected = _START
        self._held = b""  # of an unfinished line
        self._judged = 0  # bytes of that: one that comes in single bytes is not looked at again for each of them
        self._blank_bytes = 0  # of empty lines before this head
        self._line, self._start = b"", _NO_START  # the last request line, and what it says
        self._parser = HttpRequestParser(self)
        self._is_parser_used_up = False
        self._is_second = False  # a head came before, on this connection
        self._headers = _NO_HEADERS  # of the head that the parser was given; of them, by name, what means something
        self._told: dict[bytes, bytes] = {}
        self._lines = _NO_LINES  # of fields, where a head came in parts, or of trailers
        self._section_bytes = 0  # of these
        self._left = 0  # of the body, or of its chunk
        self._sizes = ChunkedSizes(limits)
        # The last header section with its line break before and its empty line after, and what it was read as.
        self._memo_section = _NEVER
        self._memo_headers = _NO_HEADERS
        self._memo: MessageInfo = (True, False, 0, False, False)

    def feed(self, data: bytes) -> None:
        """Take what was received, after what is left; raises ClientError for what is no request, or is over a limit."""
        at = self._judged = 0
        if self._held:
            self._judged = len(self._held) - 1  # a CR at the end is not, before it is known what follows
            data, self._held = self._held + data, b""
        elif self.has_rest:
            data, at = self._rest + data, self._rest_at
            self._rest, self.has_rest, self.can_continue = b"", False, False
        size = len(data)
        end = size if size <= SLICE else min(size, at + SLICE)
        try:
            while at < end:
                at = self._STEPS[self._expected](self, data, at)
        except StopParsing:
            return
        if at < size:
            self._rest, self._rest_at = data, at
            self.has_rest = self.can_continue = True

    def keep(self, data: bytes) -> None:
        """Take what was received, to be read later."""
        if self._held:
            data, self._held = self._held + data, b""
        elif self.has_rest:
            data = self.rest + data
        self._rest, self._rest_at = data, 0
        self.has_rest = self.can_continue = True

    @property
    def rest(self) -> bytes:
        """What came after the request at which it was stopped."""
        return self._rest[self._rest_at :]

    @property
    def is_head_request(self) -> bool:
        """Whether the head that has begun is that of a HEAD request, as far as it was read."""
        return self._expected is _FIELD and self._start[0] == "HEAD"

    def close(self) -> None:
        """Let go of who holds us, without which a closed connection would wait for the collector, and of what is held:
        one read may have brought thousands of headers before it was refused. Nothing is fed any more.
        """
        if hasattr(self, "_hearer"):  # else it was done before
            del self._hearer, self._parser
        self._held, self._lines, self._headers, self._told = b"", _NO_LINES, _NO_HEADERS, {}
        self._rest, self.has_rest, self.can_continue = b"", False, False

    # The head

    def _read_start(self, data: bytes, at: int) -> int:
        if self.is_stopped:
            return self._keep_rest(data, at)
        end = data.find(b"\r\n", at)
        if end <= at:
            return self._read_blank(data, at) if end == at else self._hold_start(data, at)
        line = data[at:end]
        if line != self._line:
            if end - at > self._longest_start:
                check_request_line_length(line, self._longest_start)
            self._start = parse_request_line(line)
            self._line = line
        if data.startswith(self._memo_section, end) and self._start[2]:
            self._begin(self._memo_headers.copy(), self._memo)
            return end + len(self._memo_section)
        self.is_in_head = True
        self._lines, self._section_bytes = [], 0
        self._expected = _FIELD
        after = data.find(b"\r\n\r\n", end) + 4
        # Whole, within the limits, and nothing that the parser does not take: read at once. Else line by line.
        if after < 4 or after - end - 4 > self._limits.header_size:
            return end + 2
        headers = self._parsed(data[at:after])
        if headers is None or len(headers) > self._limits.header_count:
            return end + 2
        meaning = self._meaning()
        if self._is_second and after - end <= _LONGEST_MEMO and self._start[2]:  # who comes once is not remembered
            self._memo_section, self._memo_headers, self._memo = data[end:after], headers.copy(), meaning
        self._is_second = True
        self._begin(headers, meaning)
        return after

    def _keep_rest(self, data: bytes, at: int) -> int:
        # Not cut off: in one read are many, and each leaves all those behind it.
        self._rest, self._rest_at, self.has_rest = data, at, True
        return len(data)

    def _parsed(self, head: bytes) -> list[Field] | None:
        """Return the fields of a whole head; None where the parser refuses it."""
        if self._is_parser_used_up:
            self._parser, self._is_parser_used_up = HttpRequestParser(self), False
        self._headers, self._told = [], {}
        try:
            self._parser.feed_data(head)
        except HttpParserUpgrade:
            pass  # an offer; what becomes of it is not the parser's to say
        except HttpParserError:
            self._is_parser_used_up = True
            return None
        headers, self._headers = self._headers, _NO_HEADERS  # the application's from here on
        return headers

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field from the parser."""
        name = name.lower()
        if value and value[-1] <= _SPACE:  # it takes away only the white space before a value
            value = value.rstrip(b" \t")
        self._headers.append((name, value))
        if name in _TELLING:
            if name in FORWARDING_FIELDS:
                self.is_forwarded = True
            # Of several lines one list is made (RFC 9110 section 5.3): as a host, or as a length, it is none.
            told = self._told
            told[name] = told[name] + b"," + value if name in told else value

    def _read_blank(self, _data: bytes, at: int) -> int:
        """Read over an empty line before a request (RFC 9112 section 2.2): it begins none, and renews no deadline."""
        self._blank_bytes += 2
        if self._blank_bytes > self._limits.request_line:
            raise bad_request("there are only empty lines instead of a request")
        return at + 2

    def _hold_start(self, data: bytes, at: int) -> int:
        part = data[at:]
        if part != b"\r":  # else perhaps an empty line
            self.is_in_head = True
            check_partial_request_line(part.removesuffix(b"\r"), self._limits.request_line)
        self._held = part
        return len(data)

    def _read_field(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n", at)
        if end < 0:
            return self._hold_field(data, at)
        if end > at:
            self._take_field(data[at:end])
            return end + 2
        lines, self._lines = self._lines, _NO_LINES
        if self._expected is _TRAILER:  # they are not the headers that an application trusts (RFC 9110 section 6.5.1)
            self._end()
            return end + 2
        # The request line is judged already, and the parser knows fewer methods and versions than there are.
        stand_in = b"GET / HTTP/1.%d" % self._start[2]
        headers = self._parsed(b"\r\n".join((stand_in, *lines, b"", b"")))
        if headers is None:
            raise self._refusal(lines)
        self._begin(headers, self._meaning())
        return end + 2

    def _take_field(self, line: bytes) -> None:
        self._check_room(line, 0)
        self._lines.append(parse_field_line(line))
        self._section_bytes += len(line) + 2

    def _hold_field(self, data: bytes, at: int) -> int:
        part = data[at:]
        if part != b"\r":  # else perhaps the end of the section
            self._check_room(part.removesuffix(b"\r"), 0 if at else self._judged)
        self._held = part
        return len(data)

    def _check_room(self, text: bytes, judged: int) -> None:
        """Hold a field line, or as much of it as is here, to the limits; but by what is wrong first."""
        limits = self._limits
        if len(self._lines) >= limits.header_count:
            raise ClientError(431, "header_count", f"there are more than {limits.header_count} headers")
        room = max(0, limits.header_size - self._section_bytes - 2)
        if CONTROL_CHARACTER.search(text, judged, room):
            raise bad_request("there is a control character in a header, or a line that does not end with CR LF")
        if len(text) > room:
            raise headers_too_large(limits.header_size)

    def _begin(self, headers: list[Field], meaning: MessageInfo) -> None:
        method, target, minor, authority = self._start
        if authority:
            if method == "CONNECT":  # a 2xx would promise a tunnel (RFC 9110 section 9.3.6)
                raise ClientError(501, "malformed", "CONNECT is for proxies, and this is none")
            # Whom the target names counts, whatever Host says (RFC 9112 section 3.2.2).
            headers = [(b"host", authority), *(header for header in headers if header[0] != b"host")]
        self.is_in_head = False
        self._blank_bytes = 0
        keep_alive, expects_continue, length, is_chunked, asks_for_websocket = meaning
        # Elsewhere it is an offer that may be ignored (RFC 9110 section 7.8).
        self.is_handshake = asks_for_websocket and method == "GET" and not (length or is_chunked)
        self._hearer.request_began(method, target, minor, headers, keep_alive, expects_continue)
        if length:
            if length > self._limits.body:
                raise body_too_large(self._limits.body)
            self._left = length
            self._expected = _BODY
        elif is_chunked:
            self._sizes.reset()
            self._expected = _CHUNK_SIZE
        else:
            self._expected = _START
            self._hearer.request_ended()

    # What the fields mean together

    def _refusal(self, lines: list[bytes]) -> ClientError:
        """Return why the parser refuses these fields; each by itself is well formed."""
        self._headers, self._told = [], {}
        for line in lines:
            name, _, value = line.partition(b": ")
            self.on_header(name, value)
        self._meaning()
        return bad_request("the request is not HTTP/1.1")

    def _meaning(self) -> MessageInfo:
        minor, told = self._start[2], self._told
        meaning = keep_alive, _, length, is_chunked, _ = interpret(told, minor)
        # After such a head the parser waits for a body, which we do not give it, or refuses what follows, because it
        # takes this request for the last. To it `proxy-connection: close` says that; to us nothing (RFC 9112 C.2.2).
        if length or is_chunked or not (minor and keep_alive) or b"proxy-connection" in told:
            self._is_parser_used_up = True
        return meaning

    # The body

    def _read_body(self, data: bytes, at: int) -> int:
        at = self._take(data, at)
        if not self._left:
            self._end()
        return at

    def _take(self, data: bytes, at: int) -> int:
        end = at + self._left
        chunk = data[at:end]  # the same object where it is all of it
        self._left -= len(chunk)
        self._hearer.body_came(chunk)
        return at + len(chunk)

    def _read_size(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n", at)
        if end < 0:
            return self._hold_size(data, at)
        size = self._sizes.parse(data[at:end])
        begin, after = end + 2, end + 2 + size
        if not size:
            self._lines, self._section_bytes = [], 0
            self._expected = _TRAILER
        elif data.startswith(b"\r\n", after):  # it is here whole
            self._hearer.body_came(data[begin:after])
            return after + 2
        else:
            self._left = size
            self._expected = _DATA
        return begin

    def _hold_size(self, data: bytes, at: int) -> int:
        part = data[at:]
        self._sizes.check_partial(part.removesuffix(b"\r"), 0 if at else self._judged)
        self._held = part
        return len(data)

    def _read_data(self, data: bytes, at: int) -> int:
        at = self._take(data, at)
        if not self._left:
            self._expected = _DATA_END
        return at

    def _read_data_end(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            self._expected = _CHUNK_SIZE
            return at + 2
        if data[at:] != b"\r":
            raise ClientError(400, "framing", "a chunk does not end where its size says")
        self._held = b"\r"
        return len(data)

    def _end(self) -> None:
        self._expected = _START
        self._hearer.request_ended()

    #: By what is expected: the step that takes it, from `at`, and returns where the next one begins.
    _STEPS: ClassVar[tuple[Callable[["RequestParser", bytes, int], int], ...]] = (
        _read_start,
        _read_field,
        _read_body,
        _read_size,
        _read_data,
        _read_data_end,
        _read_field,
    )
