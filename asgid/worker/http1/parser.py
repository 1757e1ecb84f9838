"""Parses the bytes of one connection into request heads and bodies, and enforces the limits on them.

The result does not depend on how the bytes were cut into reads. The parser passes each part to `ParserCallbacks` in the
order of the bytes. The first byte that makes a request invalid raises ClientError, with the status of the response.

httptools gets complete heads only, and splits them into fields. The rules that it does not check are in
request_syntax.py (single lines), framing.py (fields together) and chunked.py (sizes of chunks). The parser does not
know responses.
"""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from asgid.config.tables import Limits
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

#: The fields that are interpreted here; `proxy-connection` has a meaning for httptools only.
_INTERPRETED = frozenset(
    (*b"connection content-length expect host proxy-connection transfer-encoding upgrade".split(), *FORWARDING_FIELDS)
)
_SPACE = 0x20
#: `feed` parses this much of a read before it returns to the caller, which checks the time. Lines and chunks of a few
#: bytes take 0.3 to 1.5 us each, so a whole read of 256 KiB would take 50 ms. A longer part, above all a body, is
#: taken whole.
SLICE = 4096
#: A header section up to this size is cached: a client sends the same section with each request.
_MAX_CACHED_SECTION = 4096
_NO_SECTION = b"\0"  # equal to no header section


class StopParsing(Exception):  # noqa: N818 - as StopIteration, it reports no error
    """Raised by a callback: the parser drops the rest of the bytes."""


class ParserCallbacks(Protocol):
    """The receiver of the parsed parts. Any method may raise StopParsing."""

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


_NO_HEADERS: list[Field] = []  # shared by all parsers without headers; never changed
_NO_LINES: list[bytes] = []

#: A state of the parser: its method that reads the next part, from an offset in the data, and returns the next offset.
_Step: TypeAlias = Callable[["RequestParser", bytes, int], int]


class RequestParser:
    """The parser of one connection.

    `is_in_head`: a request head has begun and is not complete. `is_forwarded`: a request of this connection had a
    forwarding header. `is_handshake`: the last head asks for a WebSocket. `is_stopped`: the parser begins no request,
    and keeps the bytes that follow the last one. `has_rest`: it keeps such bytes. `can_continue`: `feed(b"")` can parse
    more of them.
    """

    __slots__ = (
        "_blank_bytes",
        "_body_left",
        "_cached_headers",
        "_cached_info",
        "_cached_section",
        "_callbacks",
        "_checked",
        "_chunks",
        "_fields",
        "_had_head",
        "_headers",
        "_limits",
        "_line",
        "_lines",
        "_needs_new_splitter",
        "_partial",
        "_request_line",
        "_rest",
        "_rest_at",
        "_section_bytes",
        "_splitter",
        "_step",
        "can_continue",
        "has_rest",
        "is_forwarded",
        "is_handshake",
        "is_in_head",
        "is_stopped",
    )

    def __init__(self, callbacks: ParserCallbacks, limits: Limits) -> None:
        # An attribute without a value gets one before it is read: many connections have one short request.
        self._callbacks = callbacks
        self._limits = limits
        self.is_in_head = False
        self.is_forwarded = False
        self.is_handshake = False
        self.is_stopped = False
        self.has_rest = self.can_continue = False
        self._rest = b""  # bytes that are not parsed yet, from _rest_at on
        self._rest_at = 0
        self._step: _Step = RequestParser._read_request_line
        self._partial = b""  # an unfinished line
        self._checked: int  # bytes of it that were checked: a line that comes byte by byte is checked once
        self._blank_bytes = 0  # of empty lines before this head
        self._line = b""  # the last request line
        self._request_line: RequestLine  # the same, parsed
        self._splitter = HttpRequestParser(self)
        self._needs_new_splitter = False
        self._had_head = False  # this connection had a head before
        self._headers: list[Field]  # of the head that the splitter got; the interpreted ones also by name
        self._fields: dict[bytes, bytes]
        self._lines: list[bytes]  # field lines of a head that comes in parts, or trailers
        self._section_bytes: int  # of these lines
        self._body_left: int  # bytes of the body, or of its chunk
        self._chunks: ChunkedSizes  # of the body
        # The last header section, with the line break before it and the empty line after it, and its meaning.
        self._cached_section = _NO_SECTION
        self._cached_headers: list[Field]
        self._cached_info: MessageInfo

    def feed(self, data: bytes) -> None:
        """Parse the bytes that wait, and then `data`. Raises ClientError for an invalid request or one over a limit."""
        at = self._checked = 0
        if self._partial:
            self._checked = len(self._partial) - 1  # the last byte may be a CR, which is not checked before its LF
            data, self._partial = self._partial + data, b""
        elif self.has_rest:
            data, at = self._rest + data, self._rest_at
            self._rest, self.has_rest, self.can_continue = b"", False, False
        size = len(data)
        end = size if size <= SLICE else min(size, at + SLICE)
        try:
            while at < end:
                at = self._step(self, data, at)
        except StopParsing:
            return
        if at < size:
            self._rest, self._rest_at = data, at
            self.has_rest = self.can_continue = True

    def keep(self, data: bytes) -> None:
        """Keep `data` for a later `feed`."""
        if self._partial:
            data, self._partial = self._partial + data, b""
        elif self.has_rest:
            data = self.rest + data
        self._rest, self._rest_at = data, 0
        self.has_rest = self.can_continue = True

    @property
    def rest(self) -> bytes:
        """The bytes that are not parsed yet."""
        return self._rest[self._rest_at :]

    @property
    def is_head_request(self) -> bool:
        """Whether the head that has begun is that of a HEAD request, as far as it was read."""
        return self._step is RequestParser._read_field and self._request_line[0] == "HEAD"

    def close(self) -> None:
        """Release the callbacks and all data; `feed` must not be called again.

        The callbacks refer back to the parser, so a closed connection would wait for the garbage collector. One read
        may have brought thousands of headers before it was rejected.
        """
        if hasattr(self, "_callbacks"):  # else it was closed before
            del self._callbacks, self._splitter
        self._partial, self._lines, self._headers, self._fields = b"", _NO_LINES, _NO_HEADERS, {}
        self._rest, self.has_rest, self.can_continue = b"", False, False

    # The head

    def _read_request_line(self, data: bytes, at: int) -> int:
        """Read a request line, and with it the whole head if it is there; or skip an empty line."""
        if self.is_stopped:
            return self._keep_rest(data, at)
        end = data.find(b"\r\n", at)
        if end <= at:
            return self._skip_blank_line(data, at) if end == at else self._keep_partial_request_line(data, at)
        line = data[at:end]
        if line != self._line:
            if end - at > self._limits.request_line:
                check_request_line_length(line, self._limits.request_line)
            self._request_line = parse_request_line(line)
            self._line = line
        if data.startswith(self._cached_section, end) and self._request_line[2]:
            self._emit_request(self._cached_headers.copy(), self._cached_info)
            return end + len(self._cached_section)
        self.is_in_head = True
        self._lines, self._section_bytes = [], 0
        self._step = RequestParser._read_field
        after = data.find(b"\r\n\r\n", end) + 4
        # A complete head within the limits that the splitter accepts is parsed at once, any other line by line.
        if after < 4 or after - end - 4 > self._limits.header_size:
            return end + 2
        headers = self._split(data[at:after])
        if headers is None or len(headers) > self._limits.header_count:
            return end + 2
        info = self._interpret()
        # The first head of a connection is not cached: many connections have only one request.
        if self._had_head and after - end <= _MAX_CACHED_SECTION and self._request_line[2]:
            self._cached_section, self._cached_headers, self._cached_info = data[end:after], headers.copy(), info
        self._had_head = True
        self._emit_request(headers, info)
        return after

    def _keep_rest(self, data: bytes, at: int) -> int:
        # Without a copy: one read may have many requests, and each leaves all that follow it.
        self._rest, self._rest_at, self.has_rest = data, at, True
        return len(data)

    def _split(self, head: bytes) -> list[Field] | None:
        """Return the fields of a complete head, or None if httptools rejects it."""
        if self._needs_new_splitter:
            self._splitter, self._needs_new_splitter = HttpRequestParser(self), False
        self._headers, self._fields = [], {}
        try:
            self._splitter.feed_data(head)
        except HttpParserUpgrade:
            pass  # the connection decides about an upgrade
        except HttpParserError:
            self._needs_new_splitter = True
            return None
        headers, self._headers = self._headers, _NO_HEADERS  # the list belongs to the application from here on
        return headers

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a field; called by httptools."""
        name = name.lower()
        if value and value[-1] <= _SPACE:  # httptools strips only the white space before a value
            value = value.rstrip(b" \t")
        self._headers.append((name, value))
        if name in _INTERPRETED:
            if name in FORWARDING_FIELDS:
                self.is_forwarded = True
            # Repeated lines are joined to a list (RFC 9110 section 5.3), which is not a valid host or length.
            fields = self._fields
            fields[name] = fields[name] + b"," + value if name in fields else value

    def _skip_blank_line(self, _data: bytes, at: int) -> int:
        """Skip an empty line before a request (RFC 9112 section 2.2); it extends no deadline."""
        self._blank_bytes += 2
        if self._blank_bytes > self._limits.request_line:
            raise bad_request("the client sends empty lines instead of a request")
        return at + 2

    def _keep_partial_request_line(self, data: bytes, at: int) -> int:
        part = data[at:]
        if part != b"\r":  # else perhaps an empty line
            self.is_in_head = True
            check_partial_request_line(part.removesuffix(b"\r"), self._limits.request_line)
        self._partial = part
        return len(data)

    def _read_field(self, data: bytes, at: int) -> int:
        """Read a field line, or the end, of a head that was not parsed as a whole."""
        end = data.find(b"\r\n", at)
        if end < 0:
            return self._keep_partial_field(data, at)
        if end > at:
            self._add_field(data[at:end])
            return end + 2
        lines, self._lines = self._lines, _NO_LINES
        # The request line was checked above, and httptools has fewer methods and versions, so it gets another one.
        stand_in = b"GET / HTTP/1.%d" % self._request_line[2]
        headers = self._split(b"\r\n".join((stand_in, *lines, b"", b"")))
        if headers is None:
            raise self._rejection(lines)
        self._emit_request(headers, self._interpret())
        return end + 2

    def _read_trailer(self, data: bytes, at: int) -> int:
        """Check a trailer and drop it: an application trusts headers, not trailers (RFC 9110 section 6.5.1)."""
        end = data.find(b"\r\n", at)
        if end < 0:
            return self._keep_partial_field(data, at)
        if end > at:
            self._add_field(data[at:end])
        else:
            self._lines = _NO_LINES
            self._end_request()
        return end + 2

    def _add_field(self, line: bytes) -> None:
        self._check_limits(line, 0)
        self._lines.append(parse_field_line(line))
        self._section_bytes += len(line) + 2

    def _keep_partial_field(self, data: bytes, at: int) -> int:
        part = data[at:]
        if part != b"\r":  # else perhaps the end of the section
            self._check_limits(part.removesuffix(b"\r"), 0 if at else self._checked)
        self._partial = part
        return len(data)

    def _check_limits(self, text: bytes, checked: int) -> None:
        """Raise ClientError if a field line, or its beginning, is over a limit or has a control character before it.

        The first `checked` bytes of `text` have been checked before.
        """
        limits = self._limits
        if len(self._lines) >= limits.header_count:
            raise ClientError(431, "header_count", f"the request has more than {limits.header_count} headers")
        room = max(0, limits.header_size - self._section_bytes - 2)
        if CONTROL_CHARACTER.search(text, checked, room):
            raise bad_request("a header line has a control character, or does not end with CR LF")
        if len(text) > room:
            raise headers_too_large(limits.header_size)

    def _emit_request(self, headers: list[Field], info: MessageInfo) -> None:
        method, target, minor, authority = self._request_line
        if authority:
            if method == "CONNECT":  # a 2xx response would promise a tunnel (RFC 9110 section 9.3.6)
                raise ClientError(501, "malformed", "CONNECT is not supported: this server is not a proxy")
            # The authority in the target replaces the Host field (RFC 9112 section 3.2.2).
            headers = [(b"host", authority), *(header for header in headers if header[0] != b"host")]
        self.is_in_head = False
        self._blank_bytes = 0
        body_bytes, is_chunked = info.body_bytes, info.is_chunked
        # In another request the server may ignore the upgrade (RFC 9110 section 7.8).
        self.is_handshake = info.wants_websocket and method == "GET" and not (body_bytes or is_chunked)
        self._callbacks.request_began(method, target, minor, headers, info.keep_alive, info.expects_continue)
        if body_bytes:
            if body_bytes > self._limits.body:
                raise body_too_large(self._limits.body)
            self._body_left = body_bytes
            self._step = RequestParser._read_body
        elif is_chunked:
            self._chunks = ChunkedSizes(self._limits)
            self._step = RequestParser._read_chunk_size
        else:
            self._step = RequestParser._read_request_line
            self._callbacks.request_ended()

    def _rejection(self, lines: list[bytes]) -> ClientError:
        """Return the reason for which httptools rejects these fields; each line by itself is well formed."""
        self._headers, self._fields = [], {}
        for line in lines:
            name, _, value = line.partition(b": ")
            self.on_header(name, value)
        self._interpret()  # raises the reason, if it is in the framing
        return bad_request("the request is not HTTP/1.1")

    def _interpret(self) -> MessageInfo:
        minor, fields = self._request_line[2], self._fields
        info = interpret(fields, minor)
        # After such a head httptools waits for a body, which it does not get, or rejects the next request, because it
        # takes this one for the last. It reads `proxy-connection: close` that way, we ignore it (RFC 9112 C.2.2).
        if info.body_bytes or info.is_chunked or not (minor and info.keep_alive) or b"proxy-connection" in fields:
            self._needs_new_splitter = True
        return info

    # The body

    def _read_body(self, data: bytes, at: int) -> int:
        """Read a part of a body of known length."""
        at = self._emit_body(data, at)
        if not self._body_left:
            self._end_request()
        return at

    def _emit_body(self, data: bytes, at: int) -> int:
        end = at + self._body_left
        chunk = data[at:end]  # no copy if it is all of `data`
        self._body_left -= len(chunk)
        self._callbacks.body_came(chunk)
        return at + len(chunk)

    def _read_chunk_size(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n", at)
        if end < 0:
            return self._keep_partial_chunk_size(data, at)
        size = self._chunks.parse(data[at:end])
        begin, after = end + 2, end + 2 + size
        if not size:
            self._lines, self._section_bytes = [], 0
            self._step = RequestParser._read_trailer
        elif data.startswith(b"\r\n", after):  # the chunk is complete
            self._callbacks.body_came(data[begin:after])
            return after + 2
        else:
            self._body_left = size
            self._step = RequestParser._read_chunk_data
        return begin

    def _keep_partial_chunk_size(self, data: bytes, at: int) -> int:
        part = data[at:]
        self._chunks.check_partial(part.removesuffix(b"\r"), 0 if at else self._checked)
        self._partial = part
        return len(data)

    def _read_chunk_data(self, data: bytes, at: int) -> int:
        """Read a part of a chunk that did not arrive whole."""
        at = self._emit_body(data, at)
        if not self._body_left:
            self._step = RequestParser._read_chunk_end
        return at

    def _read_chunk_end(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            self._step = RequestParser._read_chunk_size
            return at + 2
        if data[at:] != b"\r":
            raise ClientError(400, "framing", "a chunk does not end with CR LF after the bytes of its size")
        self._partial = b"\r"
        return len(data)

    def _end_request(self) -> None:
        self._step = RequestParser._read_request_line
        self._callbacks.request_ended()
