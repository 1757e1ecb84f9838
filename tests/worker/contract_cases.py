"""The contract between server and application as data: requests become scopes, and messages become responses.

Its facts are from the ASGI specification (HTTP 2.3 and extensions), RFC 9110 and RFC 9112. It does not know asgid,
except for the states that an error names.
"""

from typing import Any

Message = dict[str, Any]

# -- what a request becomes --------------------------------------------------------------------------------------------


def bodiless(line: bytes, *headers: bytes) -> bytes:
    """Return a request without a body."""
    return b"\r\n".join((line, b"Host: a", *headers, b"", b""))


#: request -> keys of its scope, each with exactly this value and type.
SCOPES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "the type": (bodiless(b"GET / HTTP/1.1"), {"type": "http"}),
    "the versions of the specification": (
        bodiless(b"GET / HTTP/1.1"),
        {"asgi": {"version": "3.0", "spec_version": "2.3"}},
    ),
    "HTTP/1.1": (bodiless(b"GET / HTTP/1.1"), {"http_version": "1.1"}),
    "HTTP/1.0": (bodiless(b"GET / HTTP/1.0"), {"http_version": "1.0"}),
    "HTTP/1.0 without a host": (b"GET / HTTP/1.0\r\n\r\n", {"http_version": "1.0", "headers": []}),
    "the scheme": (bodiless(b"GET / HTTP/1.1"), {"scheme": "http"}),
    "GET": (bodiless(b"GET / HTTP/1.1"), {"method": "GET"}),
    "HEAD": (bodiless(b"HEAD / HTTP/1.1"), {"method": "HEAD"}),
    "DELETE": (bodiless(b"DELETE / HTTP/1.1"), {"method": "DELETE"}),
    "a method of an extension": (bodiless(b"PROPFIND / HTTP/1.1"), {"method": "PROPFIND"}),
    "a path": (bodiless(b"GET /a/b HTTP/1.1"), {"path": "/a/b", "raw_path": b"/a/b", "query_string": b""}),
    "an encoded path": (bodiless(b"GET /a%20b HTTP/1.1"), {"path": "/a b", "raw_path": b"/a%20b"}),
    "a path of UTF-8": (bodiless(b"GET /%E2%82%AC HTTP/1.1"), {"path": "/\u20ac", "raw_path": b"/%E2%82%AC"}),
    "an octet that is not UTF-8": (bodiless(b"GET /a%FF HTTP/1.1"), {"path": "/a\ufffd", "raw_path": b"/a%FF"}),
    "an encoded slash": (bodiless(b"GET /a%2Fb HTTP/1.1"), {"path": "/a/b", "raw_path": b"/a%2Fb"}),
    "an encoded percent sign": (bodiless(b"GET /%2525 HTTP/1.1"), {"path": "/%25", "raw_path": b"/%2525"}),
    "a plus": (bodiless(b"GET /a+b HTTP/1.1"), {"path": "/a+b"}),
    "a path with dots": (bodiless(b"GET /a/../b HTTP/1.1"), {"path": "/a/../b", "raw_path": b"/a/../b"}),
    "a query": (bodiless(b"GET /a?b=c&d=%20e HTTP/1.1"), {"query_string": b"b=c&d=%20e", "raw_path": b"/a"}),
    "an empty query": (bodiless(b"GET /a? HTTP/1.1"), {"query_string": b"", "path": "/a"}),
    "a query with a question mark": (bodiless(b"GET /?a?b HTTP/1.1"), {"query_string": b"a?b", "path": "/"}),
    "an absolute target": (
        bodiless(b"GET http://a/b?c HTTP/1.1"),
        {"path": "/b", "raw_path": b"/b", "query_string": b"c"},
    ),
    "the whole server": (bodiless(b"OPTIONS * HTTP/1.1"), {"path": "*", "raw_path": b"*"}),
    "no root path": (bodiless(b"GET / HTTP/1.1"), {"root_path": ""}),
    "headers in lower case": (bodiless(b"GET / HTTP/1.1", b"X-A: B"), {"headers": [(b"host", b"a"), (b"x-a", b"B")]}),
    "headers in their order, and twice": (
        bodiless(b"GET / HTTP/1.1", b"B: 1", b"A: 2", b"B: 3"),
        {"headers": [(b"host", b"a"), (b"b", b"1"), (b"a", b"2"), (b"b", b"3")]},
    ),
    "white space around a value": (
        bodiless(b"GET / HTTP/1.1", b"A: \t b  c"),
        {"headers": [(b"host", b"a"), (b"a", b"b  c")]},
    ),
    "an empty value": (bodiless(b"GET / HTTP/1.1", b"A:"), {"headers": [(b"host", b"a"), (b"a", b"")]}),
    "a value of other octets": (
        bodiless(b"GET / HTTP/1.1", b"A: \xe9\xc3\xa9"),
        {"headers": [(b"host", b"a"), (b"a", b"\xe9\xc3\xa9")]},
    ),
    "two cookies": (
        bodiless(b"GET / HTTP/1.1", b"Cookie: a=1", b"Cookie: b=2"),
        {"headers": [(b"host", b"a"), (b"cookie", b"a=1"), (b"cookie", b"b=2")]},
    ),
    "the extensions": (
        bodiless(b"GET / HTTP/1.1"),
        {"extensions": {"http.response.trailers": {}, "http.response.early_hint": {}}},
    ),
    "the extensions of HTTP/1.0": (bodiless(b"GET / HTTP/1.0"), {"extensions": {}}),
}

_CHUNKED = b"Transfer-Encoding: chunked"
#: request -> its body, over all messages.
BODIES: dict[str, tuple[bytes, bytes]] = {
    "none": (bodiless(b"GET / HTTP/1.1"), b""),
    "a length": (bodiless(b"POST / HTTP/1.1", b"Content-Length: 5") + b"hello", b"hello"),
    "a length of nothing": (bodiless(b"POST / HTTP/1.1", b"Content-Length: 0"), b""),
    "with GET": (bodiless(b"GET / HTTP/1.1", b"Content-Length: 2") + b"hi", b"hi"),
    "chunks": (bodiless(b"POST / HTTP/1.1", _CHUNKED) + b"3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n", b"abc0123456789"),
    "no chunks": (bodiless(b"POST / HTTP/1.1", _CHUNKED) + b"0\r\n\r\n", b""),
    "chunks with trailers": (bodiless(b"POST / HTTP/1.1", _CHUNKED) + b"1\r\na\r\n0\r\nX: y\r\n\r\n", b"a"),
    "a body that looks like a request": (
        bodiless(b"POST / HTTP/1.1", b"Content-Length: 18") + b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ),
    "every octet": (bodiless(b"POST / HTTP/1.1", b"Content-Length: 256") + bytes(range(256)), bytes(range(256))),
    "of HTTP/1.0": (bodiless(b"POST / HTTP/1.0", b"Content-Length: 2") + b"hi", b"hi"),
}

# -- what messages become ----------------------------------------------------------------------------------------------


def start(status: Any = 200, *headers: Any, **keys: Any) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **keys}


def part(body: Any, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def last(body: Any = b"") -> Message:
    return part(body, more=False)


def trailers(*headers: Any, more: bool = False) -> Message:
    return {"type": "http.response.trailers", "headers": list(headers), "more_trailers": more}


def hint(*links: Any) -> Message:
    return {"type": "http.response.early_hint", "links": list(links)}


GET = bodiless(b"GET / HTTP/1.1")
HEAD = bodiless(b"HEAD / HTTP/1.1")
OLD = bodiless(b"GET / HTTP/1.0")
OLD_KEPT = bodiless(b"GET / HTTP/1.0", b"Connection: keep-alive")
WANTS_TRAILERS = bodiless(b"GET / HTTP/1.1", b"TE: gzip;q=0.5, Trailers")
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
FIVE = (b"content-length", b"5")
HINTED = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n"
LINK = b"</a.css>; rel=preload"


def kept(messages: list[Message], written: bytes) -> tuple[bytes, list[Message], bytes, bool]:
    """Return the row of a GET whose connection is kept."""
    return GET, messages, written, True


#: request, messages -> the bytes written without Date and Server, and whether the connection is kept.
WRITTEN: dict[str, tuple[bytes, list[Message], bytes, bool]] = {
    "one part": kept([start(), last(b"hi")], OK + b"content-length: 2\r\n\r\nhi"),
    "no body": kept([start(), last()], OK + b"content-length: 0\r\n\r\n"),
    "a body message without a body": kept([start(), {"type": "http.response.body"}], OK + b"content-length: 0\r\n\r\n"),
    "a start without headers": kept(
        [{"type": "http.response.start", "status": 200}, last()], OK + b"content-length: 0\r\n\r\n"
    ),
    "parts": kept(
        [start(), part(b"a"), part(b"bc"), last(b"d")], CHUNKED + b"1\r\na\r\n2\r\nbc\r\n1\r\nd\r\n0\r\n\r\n"
    ),
    "an empty part is not the end": kept(
        [start(), part(b""), part(b"a"), part(b""), last()], CHUNKED + b"1\r\na\r\n0\r\n\r\n"
    ),
    "parts of a known length": kept(
        [start(200, FIVE), part(b"he"), last(b"llo")], OK + b"content-length: 5\r\n\r\nhello"
    ),
    "bytearray and memoryview": kept(
        [start(200, FIVE), part(bytearray(b"he")), last(memoryview(b"llo"))], OK + b"content-length: 5\r\n\r\nhello"
    ),
    "HEAD": (HEAD, [start(200, FIVE), last(b"hello")], OK + b"content-length: 5\r\n\r\n", True),
    "HEAD of a whole body": (HEAD, [start(), last(b"hello")], OK + b"content-length: 5\r\n\r\n", True),
    "HEAD of a body that is for HEAD alone": (HEAD, [start(), last()], OK + b"\r\n", True),
    "HEAD and 304": (HEAD, [start(304), last(b"hello")], b"HTTP/1.1 304 Not Modified\r\n\r\n", True),
    "HEAD and 204": (HEAD, [start(204), last(b"hello")], b"HTTP/1.1 204 No Content\r\n\r\n", True),
    "HEAD of 1.0": (
        bodiless(b"HEAD / HTTP/1.0", b"Connection: keep-alive"),
        [start(), last(b"hello")],
        OK + b"content-length: 5\r\nconnection: keep-alive\r\n\r\n",
        True,
    ),
    "HEAD with parts": (HEAD, [start(), part(b"a"), last(b"b")], OK + b"\r\n", True),
    "HEAD with less than its length": (HEAD, [start(200, FIVE), last()], OK + b"content-length: 5\r\n\r\n", True),
    "204": kept([start(204), last()], b"HTTP/1.1 204 No Content\r\n\r\n"),
    "204 with a body": kept([start(204, FIVE), last(b"hello")], b"HTTP/1.1 204 No Content\r\n\r\n"),
    "205 with a body": kept(
        [start(205, FIVE), last(b"hello")], b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n"
    ),
    "304": kept([start(304, FIVE), last()], b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"),
    "304 with a body": kept([start(304), part(b"a"), last(b"b")], b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "a status of no registry": kept([start(299), last()], b"HTTP/1.1 299 \r\ncontent-length: 0\r\n\r\n"),
    "500 of its own": kept(
        [start(500), last(b"no")], b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\nno"
    ),
    "1.0": (OLD, [start(), last(b"hi")], OK + b"content-length: 2\r\nconnection: close\r\n\r\nhi", False),
    "1.0 with parts": (OLD_KEPT, [start(), part(b"a"), last(b"b")], OK + b"connection: close\r\n\r\nab", False),
    "1.0 that is kept": (
        OLD_KEPT,
        [start(), last(b"hi")],
        OK + b"content-length: 2\r\nconnection: keep-alive\r\n\r\nhi",
        True,
    ),
    "1.0 that is kept, with parts of a known length": (
        OLD_KEPT,
        [start(200, FIVE), part(b"he"), last(b"llo")],
        OK + b"content-length: 5\r\nconnection: keep-alive\r\n\r\nhello",
        True,
    ),
    "the client closes": (
        bodiless(b"GET / HTTP/1.1", b"Connection: close"),
        [start(), last()],
        OK + b"content-length: 0\r\nconnection: close\r\n\r\n",
        False,
    ),
    "the application closes": (
        GET,
        [start(200, (b"Connection", b"Close")), last()],
        OK + b"content-length: 0\r\nconnection: close\r\n\r\n",
        False,
    ),
    "close among others": (
        GET,
        [start(200, (b"connection", b"x, close")), last()],
        OK + b"content-length: 0\r\nconnection: close\r\n\r\n",
        False,
    ),
    "an option that resembles close": kept(
        [start(200, (b"connection", b"x-close")), last()], OK + b"content-length: 0\r\n\r\n"
    ),
    "a coding of the application": kept(
        [start(200, (b"Transfer-Encoding", b"chunked"), (b"Keep-Alive", b"timeout=5")), last(b"hi")],
        OK + b"content-length: 2\r\n\r\nhi",
    ),
    "a coding and a length": kept(
        [start(200, (b"transfer-encoding", b"chunked"), FIVE), last(b"hello")], OK + b"content-length: 5\r\n\r\nhello"
    ),
    "names in upper case": kept(
        [start(200, (b"Content-Length", b"5"), (b"X-A", b"b")), last(b"hello")],
        OK + b"Content-Length: 5\r\nX-A: b\r\n\r\nhello",
    ),
    "cookies": kept(
        [start(200, (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")), last()],
        OK + b"set-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 0\r\n\r\n",
    ),
    "the same length twice": kept([start(200, FIVE, FIVE), last(b"hello")], OK + b"content-length: 5\r\n\r\nhello"),
    "a length with white space": kept(
        [start(200, (b"content-length", b" 5 ")), last(b"hello")], OK + b"content-length: 5\r\n\r\nhello"
    ),
    "white space around a value": kept(
        [start(200, (b"a", b" \tb\tc ")), last()], OK + b"a: b\tc\r\ncontent-length: 0\r\n\r\n"
    ),
    "other octets": kept(
        [start(200, (b"a", b"\xe9"), (b"b", "\u20ac".encode())), last()],
        OK + b"a: \xe9\r\nb: \xe2\x82\xac\r\ncontent-length: 0\r\n\r\n",
    ),
    "headers as lists": kept([start(200, [b"a", b"b"]), last()], OK + b"a: b\r\ncontent-length: 0\r\n\r\n"),
    "headers as another iterable": kept(
        [{"type": "http.response.start", "status": 200, "headers": {b"a": b"b"}.items()}, last()],
        OK + b"a: b\r\ncontent-length: 0\r\n\r\n",
    ),
    "a date and a server of its own": kept(
        [start(200, (b"Date", b"now"), (b"Server", b"mine")), last()],
        OK + b"Date: now\r\nServer: mine\r\ncontent-length: 0\r\n\r\n",
    ),
    # Trailers
    "trailers": (
        WANTS_TRAILERS,
        [start(trailers=True), last(b"a"), trailers((b"x-sum", b"1"))],
        CHUNKED + b"1\r\na\r\n0\r\nx-sum: 1\r\n\r\n",
        True,
    ),
    "trailers in parts": (
        WANTS_TRAILERS,
        [start(trailers=True), part(b"a"), last(), trailers((b"x", b"1"), more=True), trailers((b"y", b"2"))],
        CHUNKED + b"1\r\na\r\n0\r\nx: 1\r\ny: 2\r\n\r\n",
        True,
    ),
    "trailers that are none": (
        WANTS_TRAILERS,
        [start(trailers=True), last(b"a"), trailers()],
        CHUNKED + b"1\r\na\r\n0\r\n\r\n",
        True,
    ),
    "trailers without TE": kept(
        [start(trailers=True), last(b"a"), trailers((b"x-sum", b"1"))], CHUNKED + b"1\r\na\r\n0\r\n\r\n"
    ),
    "trailers after a known length": (
        WANTS_TRAILERS,
        [start(200, FIVE, trailers=True), last(b"hello"), trailers((b"x", b"1"))],
        CHUNKED + b"5\r\nhello\r\n0\r\nx: 1\r\n\r\n",
        True,
    ),
    "trailers for HEAD": (
        bodiless(b"HEAD / HTTP/1.1", b"TE: trailers"),
        [start(trailers=True), last(b"a"), trailers((b"x", b"1"))],
        OK + b"\r\n",
        True,
    ),
    "trailers for 204": (
        WANTS_TRAILERS,
        [start(204, trailers=True), last(), trailers((b"x", b"1"))],
        b"HTTP/1.1 204 No Content\r\n\r\n",
        True,
    ),
    "trailers for 304": (
        WANTS_TRAILERS,
        [start(304, FIVE, trailers=True), last(), trailers((b"x", b"1"))],
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
        True,
    ),
    "trailers for 1.0": (
        OLD_KEPT,
        [start(trailers=True), last(b"a"), trailers((b"x", b"1"))],
        OK + b"content-length: 1\r\nconnection: keep-alive\r\n\r\na",
        True,
    ),
    "trailers that were not wanted after all": kept(
        [start(trailers=False), last(b"a")], OK + b"content-length: 1\r\n\r\na"
    ),
    # Early hints
    "a hint": kept([hint(LINK), start(), last()], HINTED + b"\r\n" + OK + b"content-length: 0\r\n\r\n"),
    "hints": kept(
        [hint(LINK), hint(LINK, b"</b.js>"), start(), last()],
        HINTED + b"\r\n" + HINTED + b"link: </b.js>\r\n\r\n" + OK + b"content-length: 0\r\n\r\n",
    ),
    "a hint after the start": kept([start(), hint(LINK), last()], HINTED + b"\r\n" + OK + b"content-length: 0\r\n\r\n"),
    "a hint for which it is too late": kept(
        [start(), part(b"a"), hint(LINK), last()], CHUNKED + b"1\r\na\r\n0\r\n\r\n"
    ),
    "a hint while trailers are due": (
        WANTS_TRAILERS,
        [start(trailers=True), last(b"a"), hint(LINK), trailers((b"x", b"1"))],
        CHUNKED + b"1\r\na\r\n0\r\nx: 1\r\n\r\n",
        True,
    ),
    "the phrase of 413": kept([start(413), last()], b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n"),
    "the phrase of 422": kept([start(422), last()], b"HTTP/1.1 422 Unprocessable Content\r\ncontent-length: 0\r\n\r\n"),
    "a hint of nothing": kept([hint(), start(), last()], OK + b"content-length: 0\r\n\r\n"),
    "a hint for 1.0": (
        OLD_KEPT,
        [hint(LINK), start(), last()],
        OK + b"content-length: 0\r\nconnection: keep-alive\r\n\r\n",
        True,
    ),
    "a hint for HEAD": (
        HEAD,
        [hint(LINK), start(200, FIVE), last()],
        HINTED + b"\r\n" + OK + b"content-length: 5\r\n\r\n",
        True,
    ),
}

#: messages, the last of which is invalid -> words of the error. The client gets a 500 if nothing was written; otherwise
#: its connection is aborted.
REFUSED: dict[str, tuple[list[Message], str]] = {
    "a body before the start": ([last(b"a")], "waiting"),
    "two starts": ([start(), start()], "started"),
    "a start in the body": ([start(), part(b"a"), start()], "streaming"),
    "no type": ([{}], "waiting"),
    "a type that is not text": ([{"type": 5}], "waiting"),
    "an unknown type": ([start(), {"type": "http.response.nothing"}], "started"),
    "a WebSocket's message": ([{"type": "websocket.accept"}], "waiting"),
    "an extension that is not announced": ([{"type": "http.response.push", "path": "/"}], "waiting"),
    "no status": ([{"type": "http.response.start"}], "waiting"),
    "a status as text": ([start("200")], "'200'"),
    "a status as a fraction": ([start(200.0)], "200.0"),
    "a status that is true": ([start(True)], "True"),
    "a status that is nothing": ([start(None)], "None"),
    "a status that is a list": ([start([200])], "200"),
    "an informational status": ([start(100)], "100"),
    "switching protocols": ([start(101)], "101"),
    "a status below all": ([start(99)], "99"),
    "a status beyond all": ([start(1000)], "1000"),
    "headers as text": ([start(200, ("a", "b"))], "both bytes"),
    "a value as text": ([start(200, (b"a", "b"))], "both bytes"),
    "a number as a value": ([start(200, (b"a", 1))], "both bytes"),
    "a header of one": ([start(200, (b"a",))], "both bytes"),
    "a header of three": ([start(200, (b"a", b"b", b"c"))], "both bytes"),
    "a header that is nothing": ([start(200, None)], "both bytes"),
    "a header that is bytes": ([start(200, b"ab")], "both bytes"),
    "an empty name": ([start(200, (b"", b"a"))], "token"),
    "a name with white space": ([start(200, (b"a b", b"c"))], "token"),
    "a name with a colon": ([start(200, (b"a:", b"c"))], "token"),
    "a name with a line": ([start(200, (b"a\r\nb", b"c"))], "token"),
    "a name of other octets": ([start(200, (b"\xe9", b"c"))], "token"),
    "a pseudo header": ([start(200, (b":status", b"200"))], "token"),
    **{
        f"the control 0x{octet:02x} in a value": ([start(200, (b"a", b"b%cc" % octet))], "control character")
        for octet in (*range(9), *range(10, 32), 127)
    },
    "a second head in a value": ([start(200, (b"a", b"b\r\n\r\nHTTP/1.1 200 OK"))], "control character"),
    "a length that is not a number": ([start(200, (b"content-length", b"five"))], "not a number"),
    "a length with a sign": ([start(200, (b"content-length", b"+5"))], "not a number"),
    "a length of many digits": ([start(200, (b"content-length", b"1" * 5000))], "not a number"),
    "two lengths": ([start(200, FIVE, (b"content-length", b"6"))], "promised before"),
    "a body as text": ([start(), last("a")], "not str"),
    "a body that is nothing": ([start(), last(None)], "not NoneType"),
    "a body as a number": ([start(), last(5)], "not int"),
    "longer than its length at once": ([start(200, FIVE), last(b"hello!")], "1 bytes longer"),
    "shorter than its length at once": ([start(200, FIVE), last(b"hell")], "1 bytes short"),
    "longer than its length": ([start(200, FIVE), part(b"hello"), last(b"!")], "1 bytes longer"),
    "shorter than its length": ([start(200, FIVE), part(b"hell"), last()], "1 bytes short"),
    # Trailers
    "trailers that were not announced": ([start(), part(b"a"), trailers()], "streaming"),
    "trailers before the body": ([start(trailers=True), trailers()], "started"),
    "trailers within the body": ([start(trailers=True), part(b"a"), trailers()], "streaming"),
    "a body after the body": ([start(trailers=True), last(b"a"), last()], "waiting for trailers"),
    **{
        f"{name} as a trailer": ([start(trailers=True), last(b"a"), trailers((name.encode(), b"1"))], "6.5.1")
        for name in [
            "Content-Length",
            "transfer-encoding",
            "host",
            "trailer",
            "connection",
            "set-cookie",
            "authorization",
        ]
    },
    "a trailer with a line": ([start(trailers=True), last(b"a"), trailers((b"a", b"b\nc"))], "control character"),
    "a trailer as text": ([start(trailers=True), last(b"a"), trailers(("a", "b"))], "both bytes"),
    "a trailer of three": ([start(trailers=True), last(b"a"), trailers((b"a", b"b", b"c"))], "both bytes"),
    "a body longer than its length, with trailers": (
        [start(200, FIVE, trailers=True), last(b"hello!")],
        "1 bytes longer",
    ),
    # Early hints
    "a hint without links": ([{"type": "http.response.early_hint"}], "iterable of bytes"),
    "a hint as text": ([hint("</a>")], "both bytes"),
    "a hint of one link that is not in a list": (
        [{"type": "http.response.early_hint", "links": b"</a>"}],
        "iterable of bytes",
    ),
    "a hint with a line": ([hint(b"a\r\nb: c")], "control character"),
}
