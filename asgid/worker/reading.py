"""One connection's bytes -> request heads and bodies: strict where httptools is lenient, with the limits counted here.

The parser's callbacks only collect; what is complete is told to the connection, in the order of the bytes. What is
wrong is raised out of `feed` as a ClientError with the status to answer. This file does not know what an answer is.
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from asgid.board import METHODS
from asgid.config import Limits
from asgid.errors import ClientError
from asgid.worker.proxy import FORWARDING

#: No length is longer; int() of thousands of digits is slow, and raises from 4300 on.
_LENGTH_DIGITS = 19
_TELLING = frozenset((b"host", b"expect", b"content-length", b"transfer-encoding", b"upgrade", *FORWARDING))
#: Where trailers go: they are not merged into the headers that an application trusts (RFC 9110 section 6.5.1).
_NOWHERE = cast("list[tuple[bytes, bytes]]", deque(maxlen=0))
_METHODS = {method.encode(): method for method in METHODS[:-1]}


class EnoughError(Exception):
    """Raised out of a callback: what follows on this connection is not looked at."""


class Hearer(Protocol):
    """Who is told what was read. Once `is_deaf`, nothing more is."""

    is_deaf: bool

    def request_began(
        self,
        method: str,
        target: bytes,
        minor: int,
        headers: list[tuple[bytes, bytes]],
        keep_alive: bool,
        expects_continue: bool,
    ) -> None: ...

    def body_came(self, chunk: bytes) -> None: ...

    def request_ended(self) -> None: ...


class Reader:
    """Bytes in, calls out. `is_in_head` and `is_in_body` say what the next bytes belong to."""

    __slots__ = (
        "_body_bytes",
        "_body_seen",
        "_expects_continue",
        "_fed",
        "_has_host",
        "_headers",
        "_hearer",
        "_is_chunked",
        "_length",
        "_limits",
        "_most_headers",
        "_offers_upgrade",
        "_parser",
        "_partial",
        "_target",
        "_unmeasured",
        "is_forwarded",
        "is_in_body",
        "is_in_head",
    )

    def __init__(self, hearer: Hearer, limits: Limits) -> None:
        self._hearer = hearer
        self._limits = limits
        self._parser: HttpRequestParser | None = HttpRequestParser(self)
        self.is_in_head = self.is_in_body = False
        self.is_forwarded = False  # whether a request so far has told of a client behind a proxy
        self._fed = 0  # bytes of the reads that this head is in
        self._partial = 0  # bytes of whole reads that completed nothing
        self._body_bytes = self._body_seen = 0  # of this body; of them, those of earlier reads
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._has_host = self._expects_continue = self._is_chunked = self._offers_upgrade = False
        self._length = 0
        # A head that came in fewer bytes than this is within the limits of size, and need not be measured.
        self._unmeasured = min(limits.request_line, limits.header_size)
        self._most_headers = limits.header_count

    def feed(self, data: bytes) -> None:
        """Take what was received; raises ClientError for what is no request, or is over a limit."""
        was_in_head, size = self.is_in_head, len(data)
        self._fed = self._fed + size if was_in_head else size
        end = 0
        try:
            if self._parser is not None:
                self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            end = upgrade.args[0]
        except HttpParserError as error:
            self._refuse(error)
            return
        if end:
            self._decline(memoryview(data)[end:])
        if self.is_in_head:
            self._partial = self._partial + size if was_in_head else 0
            self._check_partial()
            self._check_head(self._headers)
        elif self.is_in_body:
            self._partial = self._partial + size if self._body_bytes == self._body_seen else 0
            self._body_seen = self._body_bytes
            self._check_partial()

    def close(self) -> None:
        """Let go of the parser: it holds us, and without this a closed connection would wait for the collector.

        And of the head at hand: one read may have brought thousands of headers, 6 MB of them, before it was refused.
        """
        self._parser = None
        self._headers = _NOWHERE

    def _decline(self, rest: memoryview) -> None:
        """Go on after an offer to upgrade: we speak one protocol, and may ignore it (RFC 9110 section 7.8)."""
        while self._parser is not None:
            if self._parser.get_method() == b"CONNECT":  # what follows was meant for a tunnel
                self._hearer.is_deaf = True
                return
            self._parser = HttpRequestParser(self)
            try:
                if self.is_in_body:
                    self._parser.feed_data(self._body_prologue())
                self._parser.feed_data(rest)
            except HttpParserUpgrade as upgrade:
                end = upgrade.args[0]
            except HttpParserError as error:
                self._refuse(error)
                return
            else:
                return
            rest = rest[end:]

    def _refuse(self, error: HttpParserError) -> None:
        cause = error.__context__
        if self._hearer.is_deaf or isinstance(cause, EnoughError):
            return
        if cause is None:
            raise ClientError(400, "malformed", f"the request is not HTTP/1.1: {error}") from error
        raise cause  # a ClientError of ours; else a fault in a callback

    # httptools' side

    def on_message_begin(self) -> None:
        if self._hearer.is_deaf:
            raise EnoughError
        if self.is_in_body:  # our own prologue to a body
            return
        self.is_in_head = True
        self._target = b""
        self._headers = []
        self._has_host = self._expects_continue = self._is_chunked = self._offers_upgrade = False
        self._length = 0

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self._headers.append((name, value))
        if name in _TELLING:
            if name == b"host" and not self._has_host:  # the one that every request has
                self._has_host = True
            else:
                self._note(name, value)

    def on_headers_complete(self) -> None:
        headers, self._headers = self._headers, _NOWHERE
        if self.is_in_body:
            return
        self.is_in_head = False
        parser = self._parser
        assert parser is not None  # it is the caller
        if self._fed > self._unmeasured or len(headers) > self._most_headers:
            self._check_head(headers)
        if self._length and self._length > self._limits.body:
            raise self._body_size()
        token = parser.get_method()
        version = parser.get_http_version()
        minor = 1
        if version != "1.1":
            minor = self._older(version)
        elif not self._has_host:
            raise ClientError(400, "malformed", "there is no host header (RFC 9112 section 3.2)")
        self.is_in_body = True
        self._body_bytes = 0
        self._hearer.request_began(
            _METHODS.get(token) or token.decode("ascii"),
            self._target,
            minor,
            headers,
            parser.should_keep_alive() and token != b"CONNECT",
            self._expects_continue,
        )

    def _older(self, version: str) -> int:
        """Return the minor version of a request that is not HTTP/1.1."""
        if version != "1.0":
            raise ClientError(505, "malformed", f"HTTP/{version} is not spoken here; HTTP/1.1 and 1.0 are")
        if self._is_chunked:
            raise ClientError(400, "framing", "HTTP/1.0 has no transfer-encoding (RFC 9112 section 6.1)")
        self._expects_continue = False  # a 1.0 client knows nothing of 100 (RFC 9110 section 10.1.1)
        return 0

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body:
            raise self._body_size()
        self._hearer.body_came(body)

    def on_message_complete(self) -> None:
        if self._offers_upgrade and self._is_body_withheld():
            return
        self.is_in_body = False
        self._partial = 0
        self._hearer.request_ended()

    def _is_body_withheld(self) -> bool:
        """Whether the parser ends this message at its head, because of an offer to upgrade that we decline.

        Taken for its end, its body would be taken for the next request: smuggled past whoever looked at the first.
        """
        return self._parser is not None and self._parser.should_upgrade() and bool(self._length or self._is_chunked)

    def _body_prologue(self) -> bytes:
        """Return a head after which a fresh parser reads the body that the last one withheld."""
        framing = b"transfer-encoding: chunked" if self._is_chunked else b"content-length: %d" % self._length
        return b"POST / HTTP/1.1\r\n%s\r\n\r\n" % framing

    # Rules and limits

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            raise ClientError(400, "malformed", "there are two host headers (RFC 9112 section 3.2)")
        if name == b"expect":
            self._expects_continue = value.lower() == b"100-continue"
        elif name == b"upgrade":
            self._offers_upgrade = True
        elif name in FORWARDING:
            self.is_forwarded = True
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise ClientError(501, "framing", "the only transfer-encoding spoken here is chunked")
            self._is_chunked = True
        elif not value.isdigit() or len(value) > _LENGTH_DIGITS:
            raise ClientError(400, "framing", "the content-length is not a number of bytes")
        else:
            self._length = int(value)

    def _check_partial(self) -> None:
        """Bound what the parser holds back; chunk extensions and trailers, of no use to anybody, count like a head.

        Where in its first read a head began only the parser knows: that read (64 KiB to 256 KiB) is not counted.
        """
        if self._partial > self._limits.request_line + self._limits.header_size:
            raise self._header_size()

    def _check_head(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Measure exactly."""
        limits = self._limits
        if len(self._target) > limits.request_line:
            raise ClientError(414, "request_line", f"the request target is longer than {limits.request_line} bytes")
        if len(headers) > limits.header_count:
            raise ClientError(431, "header_count", f"there are more than {limits.header_count} headers")
        if sum(len(name) + len(value) + 4 for name, value in headers) > limits.header_size:
            raise self._header_size()

    def _header_size(self) -> ClientError:
        return ClientError(431, "header_size", f"the header section is longer than {self._limits.header_size} bytes")

    def _body_size(self) -> ClientError:
        return ClientError(413, "body_size", f"the body is longer than {self._limits.body} bytes")
