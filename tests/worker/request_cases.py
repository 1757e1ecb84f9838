"""Requests as bytes and their outcome: the rules of RFC 9110 and RFC 9112 as a table.

A case has the bytes, the requests that the application gets, and the end: the connection is kept, closed after the last
response, or rejected with a status of one kind. No outcome depends on the cuts between reads.
"""

from dataclasses import dataclass, field
from typing import Any

Headers = tuple[tuple[bytes, bytes], ...]

HOST: Headers = ((b"host", b"a"),)


@dataclass(frozen=True)
class Given:
    """One request as the application gets it: keys of its scope, and the whole body."""

    method: str = "GET"
    raw_path: bytes = b"/"
    path: str = "/"
    query_string: bytes = b""
    http_version: str = "1.1"
    headers: Headers = HOST
    body: bytes = b""


@dataclass(frozen=True)
class Case:
    """The application gets `given` from `sent`, in order; then the rest is rejected with `status`, or the
    connection is kept or closed.
    """

    name: str
    section: str  #: of RFC 9112 unless it names another
    sent: bytes
    given: tuple[Given, ...] = ()
    status: int = 0
    kind: str = ""
    is_kept: bool = True
    limits: dict[str, Any] = field(default_factory=dict)


def head(*lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a") -> bytes:
    """Return a head of whole lines; without Host if that is b""."""
    return b"\r\n".join((start, *((host,) if host else ()), *lines, b"", b""))


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return head(*lines, start=b"POST / HTTP/1.1") + body


def chunked(body: bytes, *lines: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", *lines, body=body)


def posted(body: bytes, *headers: tuple[bytes, bytes]) -> Given:
    return Given("POST", headers=HOST + headers, body=body)


def chunks(body: bytes, *headers: tuple[bytes, bytes]) -> Given:
    return posted(body, (b"transfer-encoding", b"chunked"), *headers)


def served(name: str, section: str, sent: bytes, *given: Given, is_kept: bool = True, **limits: Any) -> Case:
    return Case(name, section, sent, given or (Given(),), is_kept=is_kept, limits=limits)


def refused(
    name: str,
    section: str,
    sent: bytes,
    status: int = 400,
    kind: str = "malformed",
    before: tuple[Given, ...] = (),
    **limits: Any,
) -> Case:
    return Case(name, section, sent, before, status, kind, is_kept=False, limits=limits)


NEXT = head()  # a request that a smuggler would have hidden

# -- the request line --------------------------------------------------------------------------------------------------


def _start(line: bytes) -> bytes:
    return head(start=line)


_METHODS = (
    *("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "PROPFIND", "M-SEARCH", "QUERY"),
    *("VERSION-CONTROL", "MKREDIRECTREF", "DESCRIBE", "FOO", "GETX", "G", "GE", "0", "X-Y_1.2", "!#$%&'*+-.^_`|~"),
)

START_LINES = [
    *(served(f"the method {name}", "3.1", _start(name.encode() + b" / HTTP/1.1"), Given(name)) for name in _METHODS),
    *(
        refused(f"the method {name}, which ASGI would make another", "3.1", _start(name.encode() + b" / HTTP/1.1"), 501)
        for name in ("get", "Get", "gET", "post", "X-Y_z.1~")
    ),
    refused("an endless method", "3", b"A" * 9000, 501),
    refused("an endless method that is known as far as it goes", "3", b"GET" * 3000, 501),
    *(
        refused(f"the method {name!r}", "3.1", _start(name + b" / HTTP/1.1"))
        for name in (b"G@T", b"GE(T", b"G\x00ET", b"G\xffT", b'"GET"', b"GET,", b"GET/", b"[GET]", b"G\tET", b"GET:")
    ),
    *(
        refused(f"the version {version.decode()}", "2.3", _start(b"GET / " + version), 505)
        for version in (b"HTTP/2.0", b"HTTP/3.0", b"HTTP/0.9", b"HTTP/9.9", b"HTTP/0.0")
    ),
    *(
        served(f"the version {version.decode()}", "RFC 9110 2.5", _start(b"GET / " + version))
        for version in (b"HTTP/1.2", b"HTTP/1.9")
    ),
    served(
        "a method and a version that the parser does not know, with a body",
        "3",
        head(b"Content-Length: 2", start=b"VERSION-CONTROL /a?b HTTP/1.2") + b"hi" + NEXT,
        Given("VERSION-CONTROL", b"/a", "/a", b"b", headers=(*HOST, (b"content-length", b"2")), body=b"hi"),
        Given(),
    ),
    refused("HTTP/2's preface", "2.3", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    refused("an unknown method of an unknown version", "2.3", _start(b"FOO / HTTP/2.0"), 505),
    refused("HTTP/0.9", "2.3", b"GET /\r\n", 505),
    refused("HTTP/0.9 with headers", "2.3", b"GET /\r\nHost: a\r\n\r\n", 505),
    *(
        refused(f"the version {version!r}", "2.3", _start(b"GET / " + version))
        for version in (
            *(b"HTTP/1", b"http/1.1", b"Http/1.1", b"HTTP/1.1x", b"ICE/1.0", b"RTSP/1.0", b"HTTP/11.1", b"HTTP/1.10"),
            *(b"HTTP/1.", b"HTTP/.1", b"HTTP/a.b", b"HTTP/1,1", b"HTTP 1.1", b"HTTP/ 1.1", b"HTTP/1.1\x00", b"1.1"),
            *(b"HTTPS/1.1", b"XHTTP/1.1", b"HTTP/-1.1", b"HTTP/+1.1", b"HTTP/1.1\t", b"\xc2\xb2HTTP", b"HTTP", b"/"),
        )
    ),
    refused("two spaces after the method", "3", _start(b"GET  / HTTP/1.1")),
    refused("two spaces after the target", "3", _start(b"GET /  HTTP/1.1")),
    refused("a tab after the method", "3", _start(b"GET\t/ HTTP/1.1")),
    refused("a tab after the target", "3", _start(b"GET /\tHTTP/1.1")),
    refused("a form feed after the target", "3", _start(b"GET /\x0cHTTP/1.1")),
    refused("a vertical tab after the method", "3", _start(b"GET\x0b/ HTTP/1.1")),
    refused("a space before the method", "3", _start(b" GET / HTTP/1.1")),
    refused("a tab before the method", "3", _start(b"\tGET / HTTP/1.1")),
    refused("a space at the end", "3", _start(b"GET / HTTP/1.1 ")),
    refused("no target", "3", _start(b"GET HTTP/1.1")),
    refused("an empty target", "3", _start(b"GET  HTTP/1.1")),
    refused("one word", "3", b"GARBAGE\r\n\r\n"),
    refused("only a space", "3", b" \r\n\r\n"),
    refused("a header first", "3", b"Host: a\r\n\r\n"),
    refused("a response", "3", b"HTTP/1.1 200 OK\r\n\r\n"),
    refused("TLS", "3", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    refused("a NUL first", "3", b"\x00" + NEXT),
    refused("a byte order mark", "3", b"\xef\xbb\xbf" + NEXT),
    served("empty lines before", "2.2", b"\r\n\r\n" + NEXT),
    served("empty lines between", "2.2", NEXT + b"\r\n" + NEXT + b"\r\n", Given(), Given()),
    served(
        "an empty line after a body",
        "2.2",
        post(b"Content-Length: 1", body=b"x\r\n") + NEXT,
        posted(b"x", (b"content-length", b"1")),
        Given(),
    ),
    refused("endless empty lines", "2.2", b"\r\n" * 5000),
    refused("more empty lines than a request line is long", "2.2", b"\r\n" * 51 + NEXT, request_line="100B"),
    served("as many empty lines", "2.2", b"\r\n" * 50 + NEXT, request_line="100B"),
    refused("a bare line feed before", "2.2", b"\n" + NEXT),
    refused("a bare carriage return before", "2.2", b"\r" + NEXT),
    refused("two carriage returns before", "2.2", b"\r\r\n" + NEXT),
    refused("a space on an empty line before", "2.2", b" \r\n" + NEXT),
    refused("a bare line feed after it", "2.2", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    refused("a bare carriage return after it", "2.2", b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
    refused("two carriage returns after it", "2.2", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
    refused("a line feed in the target", "2.2", _start(b"GET /\nX HTTP/1.1")),
    refused("a carriage return in the target", "2.2", _start(b"GET /\rX HTTP/1.1")),
]

# -- the target --------------------------------------------------------------------------------------------------------


def _target(target: bytes, method: bytes = b"GET") -> bytes:
    return _start(method + b" " + target + b" HTTP/1.1")


def _at(raw_path: bytes, path: str, query: bytes = b"") -> Given:
    return Given(raw_path=raw_path, path=path, query_string=query)


def _via(authority: bytes, raw_path: bytes = b"/", query: bytes = b"") -> Given:
    return Given(raw_path=raw_path, path=raw_path.decode(), query_string=query, headers=((b"host", authority),))


TARGETS = [
    served("a path", "3.2.1", _target(b"/a/b"), _at(b"/a/b", "/a/b")),
    served("a query", "3.2.1", _target(b"/a?b=c&d"), _at(b"/a", "/a", b"b=c&d")),
    served("an empty query", "3.2.1", _target(b"/?"), _at(b"/", "/")),
    served("a query in a query", "3.2.1", _target(b"/a?b?c"), _at(b"/a", "/a", b"b?c")),
    served("two slashes", "3.2.1", _target(b"//a//b"), _at(b"//a//b", "//a//b")),
    served("dots", "3.2.1", _target(b"/a/../b/./c"), _at(b"/a/../b/./c", "/a/../b/./c")),
    served("a URI for a path", "3.2.1", _target(b"/http://b/c"), _at(b"/http://b/c", "/http://b/c")),
    served("an encoded slash", "3.2.1", _target(b"/a%2Fb"), _at(b"/a%2Fb", "/a/b")),
    served("an encoded space", "3.2.1", _target(b"/a%20b?c%20d"), _at(b"/a%20b", "/a b", b"c%20d")),
    served("an encoded question mark", "3.2.1", _target(b"/a%3Fb"), _at(b"/a%3Fb", "/a?b")),
    served("encoded UTF-8", "3.2.1", _target(b"/%C3%A9"), _at(b"/%C3%A9", "/\u00e9")),
    served("an encoded NUL", "3.2.1", _target(b"/%00"), _at(b"/%00", "/\0")),
    served("an encoded line break", "3.2.1", _target(b"/%0d%0aX:y"), _at(b"/%0d%0aX:y", "/\r\nX:y")),
    served("a bad encoding", "3.2.1", _target(b"/%zz"), _at(b"/%zz", "/%zz")),
    served("half an encoding", "3.2.1", _target(b"/%"), _at(b"/%", "/%")),
    served("half an encoding more", "3.2.1", _target(b"/a%4?%4"), _at(b"/a%4", "/a%4", b"%4")),
    served("twice encoded", "3.2.1", _target(b"/%252e"), _at(b"/%252e", "/%2e")),
    served(
        "a character that no URI needs",
        "3.2.1",
        _target(b'/a|b{c}"<>^`\\[]'),
        _at(b'/a|b{c}"<>^`\\[]', '/a|b{c}"<>^`\\[]'),
    ),
    served(
        "all that a path may hold",
        "3.2.1",
        _target(b"/-._~!$&'()*+,;=:@"),
        _at(b"/-._~!$&'()*+,;=:@", "/-._~!$&'()*+,;=:@"),
    ),
    served("a semicolon", "3.2.1", _target(b"/a;b=c"), _at(b"/a;b=c", "/a;b=c")),
    refused("a fragment", "3.2", _target(b"/a#b")),
    refused("a fragment of a query", "3.2", _target(b"/a?b#c")),
    refused("only a fragment", "3.2", _target(b"#")),
    refused("a space", "3.2", _target(b"/a b")),
    refused("UTF-8", "3.2", _target(b"/\xc3\xa9")),
    refused("a byte beyond ASCII in the query", "3.2", _target(b"/?\xff")),
    refused("a NUL in it", "3.2", _target(b"/a\x00b")),
    refused("a control character", "3.2", _target(b"/a\x01b")),
    refused("a delete character", "3.2", _target(b"/a\x7fb")),
    refused("an escape character in the query", "3.2", _target(b"/?\x1b[0m")),
    refused("a path without its slash", "3.2", _target(b"a/b")),
    refused("a query without its path", "3.2", _target(b"?a")),
    refused("a backslash first", "3.2", _target(b"\\a")),
    refused("a percent sign first", "3.2", _target(b"%2Fa")),
    refused("an asterisk of another method", "3.2.4", _target(b"*")),
    refused("more than an asterisk", "3.2.4", _target(b"*/a", b"OPTIONS")),
    refused("an asterisk with a query", "3.2.4", _target(b"*?a", b"OPTIONS")),
    served("the whole server", "3.2.4", _target(b"*", b"OPTIONS"), Given("OPTIONS", b"*", "*")),
    served("a path with OPTIONS", "3.2.4", _target(b"/a", b"OPTIONS"), Given("OPTIONS", b"/a", "/a")),
    refused("an authority", "3.2.3", _target(b"a:80")),
    refused("a host alone", "3.2.3", _target(b"example.org")),
    refused("a tunnel", "3.2.3", _target(b"a:443", b"CONNECT"), 501),
    refused("a tunnel by its address", "3.2.3", _target(b"[::1]:443", b"CONNECT"), 501),
    refused("a tunnel and its bytes", "3.2.3", _target(b"a:443", b"CONNECT") + NEXT, 501),
    refused(
        "a tunnel with a body", "3.2.3", head(b"Content-Length: 3", start=b"CONNECT a:1 HTTP/1.1") + b"abc" + NEXT, 501
    ),
    refused("a tunnel without a host header", "3.2", head(start=b"CONNECT a:1 HTTP/1.1", host=b"")),
    *(
        refused(f"CONNECT to {to.decode()}", "3.2.3", _target(to, b"CONNECT"))
        for to in (b"/", b"a", b"a:", b":80", b"*", b"http://a:80/", b"a:80/x", b"u@a:80", b"a:99999", b"a:b", b"/a:80")
    ),
    served("a URI", "3.2.2", _target(b"http://b/c?d"), _via(b"b", b"/c", b"d")),
    served("a URI of https", "3.2.2", _target(b"https://b/c"), _via(b"b", b"/c")),
    served("a URI in capitals", "3.2.2", _target(b"HTTP://B.example/C"), _via(b"B.example", b"/C")),
    served("a URI in mixed letters", "3.2.2", _target(b"hTtPs://b/"), _via(b"b")),
    served("a URI with a port", "3.2.2", _target(b"http://b:8080/c"), _via(b"b:8080", b"/c")),
    served("a URI with an address", "3.2.2", _target(b"http://[::1]:80/c"), _via(b"[::1]:80", b"/c")),
    served("a URI without a path", "3.2.2", _target(b"http://b"), _via(b"b")),
    served("a URI without a path, with a query", "3.2.2", _target(b"http://b?c=/d"), _via(b"b", query=b"c=/d")),
    served("a URI in its query", "3.2.2", _target(b"http://b/c?http://d/"), _via(b"b", b"/c", b"http://d/")),
    served(
        "a URI of another host than its header",
        "3.2.2",
        head(b"A: 1", start=b"GET http://b/ HTTP/1.1", host=b"Host: evil"),
        Given(headers=((b"host", b"b"), (b"a", b"1"))),
    ),
    served("a URI twice, and then none", "3.2.2", _target(b"http://b/") * 2 + NEXT, _via(b"b"), _via(b"b"), Given()),
    served(
        "a URI from HTTP/1.0",
        "3.2.2",
        head(start=b"GET http://b/ HTTP/1.0", host=b""),
        Given(http_version="1.0", headers=((b"host", b"b"),)),
        is_kept=False,
    ),
    refused("a URI and no header", "3.2", head(start=b"GET http://b/ HTTP/1.1", host=b"")),
    refused("a URI and a bad header", "3.2", head(start=b"GET http://b/ HTTP/1.1", host=b"Host: a b")),
    refused("a URI and two headers", "3.2", head(b"Host: b", start=b"GET http://b/ HTTP/1.1")),
    *(
        refused(f"the URI {uri.decode()}", "3.2.2", _target(uri))
        for uri in (
            *(b"http://u@b/", b"http://u:p@b/", b"http://", b"http:///c", b"http://:80/", b"http:/b", b"http:b"),
            *(b"ftp://b/", b"file:///etc/passwd", b"ws://b/", b"httpx://b/", b"xhttp://b/", b"javascript:x", b"://b/"),
            *(b"http://b:99999/", b"http://b:x/", b"http://[::1/", b"http://b,c/", b"http://b\\c/", b"http://b#c"),
            *(b"http://[::g]/", b"http://b%zz/", b"http:\\\\b\\", b"http://?c"),
        )
    ),
]

# -- Host --------------------------------------------------------------------------------------------------------------

HOSTS = [
    *(
        served(f"the host {host.decode()}", "3.2", head(host=b"Host: " + host), Given(headers=((b"host", host),)))
        for host in (
            *(b"example.org", b"example.org:80", b"EXAMPLE.org", b"a_b.example", b"example.org.", b"localhost", b"a:"),
            *(b"127.0.0.1", b"127.0.0.1:65535", b"[::1]", b"[::1]:8000", b"[2001:db8::192.0.2.1]", b"[v1.a:b]:80"),
            *(b"xn--bcher-kva.example", b"a%41", b"1.2.3", b"-", b"a~b!$&'()*+;=", b"a:00080", b"a:0", b"999.1.1.1"),
            *(b"[::ffff:127.0.0.1]", b"[::]", b"[vF.~]"),
        )
    ),
    *(
        refused(f"the host {host!r}", "3.2", head(host=b"Host: " + host))
        for host in (
            *(b"", b"a b", b"a/b", b"/", b"u@a", b"u:p@a", b"a:x", b"a:80x", b"a:-1", b"a:+80", b"a: 80", b"a :80"),
            *(b"a:65536", b"a:999999999999", b":80", b":", b"[::1", b"::1]", b"::1", b"[]", b"[::1]x", b"[::1]]"),
            *(b"[:::1]", b"[g::1]", b"[1.2.3.4]", b"[fe80::1%eth0]", b"[::1%25a]", b"[v.a]", b"[v1.]", b"[vg.a]"),
            *(b"a,b", b"a, b", b"\xc3\xa9", b"a\xff", b"a%", b"a%4", b"a%zz", b"a?b", b"a#b", b"a\\b", b'"a"', b"<a>"),
            *(b"http://a", b"a:80:80", b"a\tb", b"a|b", b"{a}", b"a^b", b"a`b"),
            *(b"[::1]:x", b"[[::1]]", b"a:" + b"9" * 5000),
        )
    ),
    served("an address with an empty port", "3.2", head(host=b"Host: [::1]:"), Given(headers=((b"host", b"[::1]:"),))),
    served("white space around it", "5.1", head(host=b"Host: \t a \t ")),
    served("no white space before it", "5.1", head(host=b"Host:a")),
    served("its name in other letters", "5.1", head(host=b"hOST: a")),
    served("it comes last", "3.2", head(b"A: 1", b"Host: a", host=b""), Given(headers=((b"a", b"1"), (b"host", b"a")))),
    refused("none", "3.2", head(host=b"")),
    refused("none, among others", "3.2", head(b"A: b", b"X-Host: a", host=b"")),
    refused("an empty one", "3.2", head(host=b"Host:")),
    refused("two", "3.2", head(b"Host: b")),
    refused("twice the same", "3.2", head(b"Host: a")),
    refused("two in different letters", "3.2", head(b"HOST: a")),
    refused("two, one of them empty", "3.2", head(b"Host:")),
    refused("two, the first empty", "3.2", head(b"Host: a", host=b"Host:")),
    served(
        "none in HTTP/1.0",
        "3.2",
        head(start=b"GET / HTTP/1.0", host=b""),
        Given(http_version="1.0", headers=()),
        is_kept=False,
    ),
    refused("a bad one in HTTP/1.0", "3.2", head(start=b"GET / HTTP/1.0", host=b"Host: a b")),
    refused("two in HTTP/1.0", "3.2", head(b"Host: b", start=b"GET / HTTP/1.0")),
    refused("an empty one in HTTP/1.0", "3.2", head(start=b"GET / HTTP/1.0", host=b"Host:")),
]

# -- fields ------------------------------------------------------------------------------------------------------------


def _with(*headers: tuple[bytes, bytes]) -> Given:
    return Given(headers=HOST + headers)


FIELDS = [
    served("a value", "5", head(b"A: b"), _with((b"a", b"b"))),
    served("no white space", "5", head(b"A:b"), _with((b"a", b"b"))),
    served("white space around", "5", head(b"A: \t b \t "), _with((b"a", b"b"))),
    served("white space only after", "5", head(b"A:b \t"), _with((b"a", b"b"))),
    served("white space within", "5", head(b"A: b  \tc"), _with((b"a", b"b  \tc"))),
    served("an empty value", "5", head(b"A:"), _with((b"a", b""))),
    served("a value of white space", "5", head(b"A: \t "), _with((b"a", b""))),
    served("empty values in turn", "5", head(b"A:", b"B:", b"C: d"), _with((b"a", b""), (b"b", b""), (b"c", b"d"))),
    served("a colon in a value", "5", head(b"A: :b:"), _with((b"a", b":b:"))),
    served("letters beyond ASCII", "5.5", head(b"A: \xc3\xa9\x80\xff"), _with((b"a", b"\xc3\xa9\x80\xff"))),
    served("quotes that do not end", "5", head(b'A: "b'), _with((b"a", b'"b'))),
    served(
        "the same name again", "5.3", head(b"A: 1", b"a: 2", b"A: 1"), _with((b"a", b"1"), (b"a", b"2"), (b"a", b"1"))
    ),
    served(
        "every letter that a name may have",
        "5.6.2",
        head(b"!#$%&'*+-.^_`|~09AZaz: b"),
        _with((b"!#$%&'*+-.^_`|~09azaz", b"b")),
    ),
    served("names with an underscore are kept", "5", head(b"Content_Length: 5"), _with((b"content_length", b"5"))),
    served("a long value", "5", head(b"A: " + b"b" * 8000), _with((b"a", b"b" * 8000))),
    *(
        refused(f"the field line {line!r}", "5", head(line))
        for line in (
            *(b"A : b", b"A\t: b", b"A b: c", b": b", b":", b"A", b"A b", b" A: b", b"\tA: b", b"A\x00: b"),
            *(b"A\x0b: b",),
            *(b"A(: b", b"A/b: c", b"A[]: b", b'"A": b', b"A\xc3\xa9: b", b"A@b: c", b"A,B: c", b"A;b: c", b"{A}: b"),
            *(b"A: b\x00", b"A: \x01b", b"A: b\x0bc", b"A: b\x0cc", b"A: b\x1fc", b"A: b\x7fc", b"A: b\x08"),
            *(b"A: \x1b[",),
            *(b"A: b\rc", b"A: b\nc", b"A: b\nC: d", b"A: b\rC: d", b"A: b\r", b"\rA: b", b"A\r: b", b"A\n: b", b"\n"),
            *(b"A=b", b"GET / HTTP/1.1", b"A: b\r\r", b"A:\x00", b"A:\r", b"A\x7f: b", b"A<b>: c", b"A?: b"),
            *(b"A\\b: c",),
        )
    ),
    refused("a folded line", "5.2", head(b"A: b\r\n c")),
    refused("a line folded with a tab", "5.2", head(b"A: b\r\n\tc")),
    refused("a line folded into nothing", "5.2", head(b"A: b\r\n ")),
    refused("a folded length", "5.2", post(b"Content-Length:\r\n 5", body=b"hello")),
    refused("a folded first line", "5.2", head(b"Host: a", host=b" A: b")),
    refused("a folded host", "5.2", head(host=b"Host: a\r\n b")),
    refused("a first line of white space", "2.2", head(b"Host: a", host=b" ")),
    refused("a first line of a space before the colon", "5.1", head(host=b"Host : a")),
    refused("a bare line feed", "2.2", b"GET / HTTP/1.1\r\nHost: a\nA: b\r\n\r\n"),
    refused("a bare line feed at the end", "2.2", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    refused("two bare line feeds at the end", "2.2", b"GET / HTTP/1.1\r\nHost: a\n\n"),
    refused("bare line feeds everywhere", "2.2", b"GET / HTTP/1.1\nHost: a\n\n"),
    refused("a bare carriage return at the end", "2.2", b"GET / HTTP/1.1\r\nHost: a\r\n\rX"),
    refused("two bare carriage returns at the end", "2.2", b"GET / HTTP/1.1\r\nHost: a\r\r"),
    refused("a line feed between", "2.2", b"GET / HTTP/1.1\r\nHost: a\r\n\nA: b\r\n\r\n"),
]

# -- how long the body is ----------------------------------------------------------------------------------------------

_HELLO = (b"content-length", b"5")


def _length(value: bytes, body: bytes = b"hello") -> bytes:
    return post(b"Content-Length: " + value, body=body)


def _coding(*values: bytes) -> bytes:
    return post(*(b"Transfer-Encoding: " + value for value in values), body=b"0\r\n\r\n" + NEXT)


LENGTHS = [
    served("a length", "6.2", _length(b"5"), posted(b"hello", _HELLO)),
    served("a length and a request after it", "6.3", _length(b"5") + NEXT, posted(b"hello", _HELLO), Given()),
    served(
        "a request for a body",
        "6.3",
        _length(b"%d" % len(NEXT), NEXT),
        posted(NEXT, (b"content-length", b"%d" % len(NEXT))),
    ),
    served("no length", "6.3", post(), posted(b"")),
    served("a length of 0", "6.2", _length(b"0", b""), posted(b"", (b"content-length", b"0"))),
    served("zeros before a length", "6.2", _length(b"0005"), posted(b"hello", (b"content-length", b"0005"))),
    served("many zeros", "6.2", _length(b"0" * 60, b""), posted(b"", (b"content-length", b"0" * 60))),
    served("white space around a length", "5.1", _length(b" \t5 \t "), posted(b"hello", _HELLO)),
    served(
        "GET with a body",
        "6",
        head(b"Content-Length: 5") + b"hello" + NEXT,
        Given(headers=(*HOST, _HELLO), body=b"hello"),
        Given(),
    ),
    served(
        "a body in binary",
        "6.2",
        _length(b"6", b"\x00\r\n\r\n\xff"),
        posted(b"\x00\r\n\r\n\xff", (b"content-length", b"6")),
    ),
    served(
        "lengths that change",
        "6.3",
        _length(b"5") + _length(b"2", b"hi") + _length(b"5"),
        posted(b"hello", _HELLO),
        posted(b"hi", (b"content-length", b"2")),
        posted(b"hello", _HELLO),
    ),
    served("the same lengths", "6.3", _length(b"5") * 3, *[posted(b"hello", _HELLO)] * 3),
    served(
        "a length in HTTP/1.0",
        "6.2",
        head(b"Content-Length: 5", start=b"POST / HTTP/1.0") + b"hello",
        Given("POST", http_version="1.0", headers=(*HOST, _HELLO), body=b"hello"),
        is_kept=False,
    ),
    *(
        refused(f"the length {value!r}", "6.2", _length(value), kind="framing")
        for value in (
            *(b"", b"+5", b"-5", b"-0", b"0x5", b"5x", b"x", b"5 5", b"5, 5", b"5,5", b"5,", b",5", b"5;", b"5.0"),
            *(b"1e1",),
            *(b"1_0", b'"5"', b"\xb2", b"0 5", b"9223372036854775808", b"18446744073709551621", b"9" * 5000, b"0b1"),
        )
    ),
    refused("two lengths", "6.3", post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"), kind="framing"),
    refused(
        "twice the same length", "6.3", post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), kind="framing"
    ),
    refused("two lengths, one empty", "6.3", post(b"Content-Length: 5", b"Content-Length:"), kind="framing"),
    refused(
        "two lengths with others between",
        "6.3",
        post(b"Content-Length: 0", b"A: b", b"content-length: 5", body=NEXT),
        kind="framing",
    ),
    refused("a vertical tab in a length", "6.2", _length(b"\x0b5")),
    refused("a space before the colon of a length", "5.1", post(b"Content-Length : 5", body=b"hello")),
    served("chunked", "6.1", chunked(b"0\r\n\r\n"), chunks(b"")),
    served("chunked in capitals", "6.1", _coding(b"CHUNKED"), posted(b"", (b"transfer-encoding", b"CHUNKED")), Given()),
    served(
        "chunked in mixed letters",
        "6.1",
        _coding(b" \tChunKed\t "),
        posted(b"", (b"transfer-encoding", b"ChunKed")),
        Given(),
    ),
    *(
        refused(f"the coding {value!r}", "6.3", _coding(value), kind="framing")
        for value in (
            *(b"", b"identity", b"gzip", b"x", b"chunked, gzip", b"chunked, identity", b"gzip, chunked, gzip", b","),
            *(b"chunked, chunked", b"gzip, chunked, chunked", b"xchunked", b"chunkedx", b"chunked;a", b"chunked;a=b"),
            *(b'"chunked"', b"'chunked'", b"chunked,", b",chunked", b", chunked", b"chunked ,", b"chunked chunked"),
            *(b"chunk", b"c hunked", b"gzip chunked", b"gzip;chunked", b"chunked\xa0", b"\xa0chunked", b"chunked, ,"),
            *(b"(chunked)", b"gzip,, chunked", b"a b, chunked", b'"a, chunked', b"chunked=1", b"chunked:"),
        )
    ),
    *(
        refused(f"the coding {value!r}", "6.1", _coding(value), 501, "framing")
        for value in (b"gzip, chunked", b"gzip,chunked", b"identity, chunked", b"GZIP , CHUNKED", b"a, b, c, chunked")
    ),
    refused("a coding with a vertical tab", "6.3", _coding(b"\x0bchunked")),
    refused("a coding with a form feed", "6.3", _coding(b"chunked\x0c")),
    refused("a coding with a NUL", "6.3", _coding(b"chunked\x00")),
    refused("a coding after a carriage return", "6.3", _coding(b"\rchunked")),
    refused("a folded coding", "5.2", post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n")),
    refused("a space before the colon of a coding", "5.1", post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n")),
    refused("chunked on two lines", "6.3", _coding(b"chunked", b"chunked"), kind="framing"),
    refused("chunked, and then identity", "6.3", _coding(b"chunked", b"identity"), kind="framing"),
    refused("chunked, and then nothing", "6.3", _coding(b"chunked", b""), kind="framing"),
    refused("nothing, and then chunked", "6.3", _coding(b"", b"chunked"), kind="framing"),
    refused("chunked, and then cow", "6.3", _coding(b"chunked", b"cow"), kind="framing"),
    refused("gzip, and then chunked", "6.1", _coding(b"gzip", b"chunked"), 501, "framing"),
    refused(
        "a length and chunks",
        "6.3",
        post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + NEXT),
        kind="framing",
    ),
    refused(
        "chunks and a length",
        "6.3",
        post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n" + NEXT),
        kind="framing",
    ),
    refused("chunks and a length of 0", "6.3", chunked(b"0\r\n\r\n", b"Content-Length: 0"), kind="framing"),
    refused(
        "a length and identity",
        "6.3",
        post(b"Content-Length: 5", b"Transfer-Encoding: identity", body=b"hello"),
        kind="framing",
    ),
    refused(
        "chunks in HTTP/1.0",
        "6.1",
        head(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0") + b"0\r\n\r\n",
        kind="framing",
    ),
    refused(
        "another coding in HTTP/1.0",
        "6.1",
        head(b"Transfer-Encoding: gzip, chunked", start=b"POST / HTTP/1.0"),
        kind="framing",
    ),
    served(
        "names that only look like it",
        "6.1",
        post(b"Transfer-Encodin: chunked", b"X-Transfer-Encoding: chunked", b"Transfer_Encoding: chunked") + NEXT,
        posted(
            b"",
            (b"transfer-encodin", b"chunked"),
            (b"x-transfer-encoding", b"chunked"),
            (b"transfer_encoding", b"chunked"),
        ),
        Given(),
    ),
]

# -- chunks ------------------------------------------------------------------------------------------------------------

CHUNKS = [
    served("one chunk", "7.1", chunked(b"5\r\nhello\r\n0\r\n\r\n"), chunks(b"hello")),
    served("two chunks", "7.1", chunked(b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"), chunks(b"hello!")),
    served("capital digits", "7.1", chunked(b"A\r\n0123456789\r\n0\r\n\r\n"), chunks(b"0123456789")),
    served("small digits", "7.1", chunked(b"a\r\n0123456789\r\n0\r\n\r\n"), chunks(b"0123456789")),
    served("zeros before a size", "7.1", chunked(b"0005\r\nhello\r\n000\r\n\r\n"), chunks(b"hello")),
    served(
        "sixteen digits", "7.1", chunked(b"0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n"), chunks(b"hello")
    ),
    served("line breaks in a chunk", "7.1", chunked(b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"), chunks(b"\r\n0\r\n\r\n")),
    served("a request after it", "7.1", chunked(b"1\r\nx\r\n0\r\n\r\n") + NEXT, chunks(b"x"), Given()),
    served("a request in it", "7.1", chunked(b"%x\r\n%s\r\n0\r\n\r\n" % (len(NEXT), NEXT)), chunks(NEXT)),
    served("chunks in turn", "7.1", chunked(b"1\r\nx\r\n0\r\n\r\n") * 3, *[chunks(b"x")] * 3),
    *(
        served(
            f"the extension {ext!r}",
            "7.1.1",
            chunked(b"5" + ext + b"\r\nhello\r\n0" + ext + b"\r\n\r\n"),
            chunks(b"hello"),
        )
        for ext in (
            b";a",
            b";a=b",
            b';a="b;c"',
            b';a="b\\"c"',
            b";a;b",
            b"; a = b ; c",
            b";a=b;c=d",
            b';a=""',
            b";a\t=\tb",
        )
    ),
    *(
        refused(f"the size {size!r}", "7.1", chunked(size + b"\r\nhello\r\n0\r\n\r\n"), kind="framing")
        for size in (
            *(b"", b"x", b"-5", b"+5", b"0x5", b"5x", b" 5", b"5 ", b"\t5", b"5\t", b"5 5", b"5,5", b"5.", b'"5"'),
            *(b"h",),
            *(b"00000000000000005", b"10000000000000005", b"ffffffffffffffff", b"8000000000000000", b"f" * 40, b"5_0"),
            *(b"5 ;a", b"5;", b"5;;a", b"5;a=", b'5;a="b', b"5;a b", b"5;=b", b"5;a=b=c", b"5=a", b";a", b"\xb25"),
            *(b"5:",),
            *(b"5\x00", b"5;\x00", b"5;a\x0b", b"5;a\x01=b", b"5\r", b"5;a\r", b"5\x0b", b"5;a\n", b"5;a\nb"),
        )
    ),
    refused("no size, and no end", "7.1", chunked(b"x"), kind="framing"),
    refused("a size and a space, and no end", "7.1", chunked(b"5 "), kind="framing"),
    refused("endless digits", "7.1", chunked(b"0" * 500), kind="framing"),
    refused("a bare line feed after a size", "7.1", chunked(b"5\nhello\r\n0\r\n\r\n"), kind="framing"),
    refused("a bare line feed after the last size", "7.1", chunked(b"0\n\r\n"), kind="framing"),
    refused("a bare carriage return after a size", "7.1", chunked(b"5\rhello\r\n0\r\n\r\n"), kind="framing"),
    refused("a bare line feed after an extension", "7.1.1", chunked(b"5;a\nhello\r\n0\r\n\r\n"), kind="framing"),
    refused("a bare line feed after the data", "7.1", chunked(b"5\r\nhello\n0\r\n\r\n"), kind="framing"),
    refused("a bare carriage return after the data", "7.1", chunked(b"5\r\nhello\r0\r\n\r\n"), kind="framing"),
    refused("nothing after the data", "7.1", chunked(b"5\r\nhello0\r\n\r\n"), kind="framing"),
    refused("more data than its size", "7.1", chunked(b"1\r\nabc\r\n0\r\n\r\n"), kind="framing"),
    refused("less data than its size", "7.1", chunked(b"5\r\nabc\r\n0\r\n\r\n"), kind="framing"),
    refused("an empty line before a size", "7.1", chunked(b"\r\n5\r\nhello\r\n0\r\n\r\n"), kind="framing"),
    refused("a space after the data", "7.1", chunked(b"5\r\nhello \r\n0\r\n\r\n"), kind="framing"),
    served("trailers", "7.1.2", chunked(b"1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n") + NEXT, chunks(b"x"), Given()),
    served(
        "trailers that would be headers",
        "7.1.2",
        chunked(
            b"1\r\nx\r\n0\r\nHost: evil\r\nContent-Length: 50\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n"
            b"Authorization: x\r\nExpect: y\r\n\r\n"
        )
        + NEXT,
        chunks(b"x"),
        Given(),
    ),
    *(
        refused(f"the trailer {line!r}", "7.1.2", chunked(b"0\r\n" + line + b"\r\n\r\n"))
        for line in (
            b"A : b",
            b" A: b",
            b"A",
            b": b",
            b"A: b\x00",
            b"A: b\nC: d",
            b"A: b\r\n c",
            b"A\xff: b",
            b"A: \x01",
        )
    ),
    refused("a bare line feed after a trailer", "7.1.2", chunked(b"0\r\nA: b\n\r\n")),
    refused("a bare line feed after the trailers", "7.1.2", chunked(b"0\r\nA: b\r\n\n")),
    refused("a bare line feed instead of trailers", "7.1.2", chunked(b"0\r\n\n")),
    refused("a request instead of trailers", "7.1.2", chunked(b"0\r\n" + NEXT)),
]

# -- the connection ----------------------------------------------------------------------------------------------------


def _old(*lines: bytes) -> bytes:
    return head(*lines, start=b"GET / HTTP/1.0")


_UPGRADE = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
_UPGRADE_HEADERS = tuple((name.lower(), value) for name, _, value in (line.partition(b": ") for line in _UPGRADE))


def _kept(value: bytes, *, is_kept: bool) -> Case:
    return served(
        f"the option {value!r}", "9.3", head(b"Connection: " + value), _with((b"connection", value)), is_kept=is_kept
    )


CONNECTIONS = [
    *(
        _kept(value, is_kept=True)
        for value in (b"keep-alive", b"Keep-Alive", b"", b"x", b"closed", b"upgrade", b"x-close")
    ),
    *(
        _kept(value, is_kept=False)
        for value in (b"close", b"Close", b"CLOSE", b"keep-alive, close", b"close,x", b"x ,\tclose", b",close,")
    ),
    served(
        "close on a line of its own",
        "9.3",
        head(b"Connection: keep-alive", b"Connection: close") + NEXT,
        _with((b"connection", b"keep-alive"), (b"connection", b"close")),
        is_kept=False,
    ),
    served(
        "close, and a request after it",
        "9.6",
        head(b"Connection: close") + NEXT,
        _with((b"connection", b"close")),
        is_kept=False,
    ),
    served(
        "close, and garbage after it",
        "9.6",
        head(b"Connection: close") + b"\x00garbage",
        _with((b"connection", b"close")),
        is_kept=False,
    ),
    *(
        served(
            f"the option {value!r} of old proxies",
            "C.2.2",
            head(b"Proxy-Connection: " + value) + NEXT,
            _with((b"proxy-connection", value)),
            Given(),
        )
        for value in (b"keep-alive", b"close")
    ),
    served("HTTP/1.0", "9.3", _old(), Given(http_version="1.0"), is_kept=False),
    served("HTTP/1.0, and a request after it", "9.3", _old() + NEXT, Given(http_version="1.0"), is_kept=False),
    served(
        "HTTP/1.0 that is kept",
        "9.3",
        _old(b"Connection: keep-alive") + NEXT,
        Given(http_version="1.0", headers=(*HOST, (b"connection", b"keep-alive"))),
        Given(),
    ),
    *(
        served(
            *(f"HTTP/1.0 with {value.decode()}", "9.3", _old(b"Connection: " + value)),
            Given(http_version="1.0", headers=(*HOST, (b"connection", value))),
            is_kept=is_kept,
        )
        for value, is_kept in ((b"x, KEEP-ALIVE", True), (b"keep-alive, close", False), (b"x", False))
    ),
    served(
        "HTTP/1.1, then 1.0 with the same headers",
        "9.3",
        NEXT + _old(),
        Given(),
        Given(http_version="1.0"),
        is_kept=False,
    ),
    served(
        "a pipeline",
        "9.3.2",
        NEXT + _length(b"5") + chunked(b"1\r\nx\r\n0\r\n\r\n") + NEXT,
        Given(),
        posted(b"hello", _HELLO),
        chunks(b"x"),
        Given(),
    ),
    served("a pipeline of the same", "9.3.2", NEXT * 20, *[Given()] * 20),
    served(
        "a pipeline of changing headers",
        "9.3.2",
        head(b"A: 1") + head(b"A: 2") + head(b"A: 1") + NEXT,
        _with((b"a", b"1")),
        _with((b"a", b"2")),
        _with((b"a", b"1")),
        Given(),
    ),
    refused(
        "a pipeline that goes wrong",
        "9.3.2",
        NEXT + _length(b"5") + b"GET /\x00 HTTP/1.1\r\n\r\n",
        before=(Given(), posted(b"hello", _HELLO)),
    ),
    refused("a second request without a host", "3.2", NEXT + head(host=b""), before=(Given(),)),
    refused(
        "a body longer than its length", "6.3", _length(b"5", b"hello, you") + NEXT, before=(posted(b"hello", _HELLO),)
    ),
    refused(
        "a version that is not spoken, after others", "2.3", NEXT + _start(b"GET / HTTP/3.0"), 505, before=(Given(),)
    ),
    served("an offer to upgrade", "RFC 9110 7.8", head(*_UPGRADE) + NEXT, _with(*_UPGRADE_HEADERS), Given()),
    served("the same offer again", "RFC 9110 7.8", head(*_UPGRADE) * 3, *[_with(*_UPGRADE_HEADERS)] * 3),
    served(
        "an offer with a body",
        "RFC 9110 7.8",
        post(*_UPGRADE, b"Content-Length: %d" % len(NEXT), body=NEXT) + NEXT,
        posted(NEXT, *_UPGRADE_HEADERS, (b"content-length", b"%d" % len(NEXT))),
        Given(),
    ),
    served(
        "an offer with chunks",
        "RFC 9110 7.8",
        post(*_UPGRADE, b"Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\n\r\n") + NEXT,
        posted(b"x", *_UPGRADE_HEADERS, (b"transfer-encoding", b"chunked")),
        Given(),
    ),
    served(
        "an offer that does not name itself",
        "RFC 9110 7.8",
        head(b"Upgrade: h2c") + NEXT,
        _with((b"upgrade", b"h2c")),
        Given(),
    ),
    served(
        "an offer that expects",
        "RFC 9110 7.8",
        post(b"Connection: upgrade", b"Upgrade: x", b"Expect: 100-continue", b"Content-Length: 1", body=b"x") + NEXT,
        posted(
            b"x",
            (b"connection", b"upgrade"),
            (b"upgrade", b"x"),
            (b"expect", b"100-continue"),
            (b"content-length", b"1"),
        ),
        Given(),
    ),
    served(
        "an offer of a WebSocket with a body",
        "RFC 9110 7.8",
        head(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 1") + b"x" + NEXT,
        Given(
            headers=(*HOST, (b"connection", b"Upgrade"), (b"upgrade", b"websocket"), (b"content-length", b"1")),
            body=b"x",
        ),
        Given(),
    ),
    served(
        "an expectation",
        "RFC 9110 10.1.1",
        post(b"Expect: 100-continue", b"Content-Length: 5", body=b"hello"),
        posted(b"hello", (b"expect", b"100-continue"), _HELLO),
    ),
    served(
        "an expectation in capitals",
        "RFC 9110 10.1.1",
        post(b"Expect: 100-CONTINUE", b"Content-Length: 5", body=b"hello"),
        posted(b"hello", (b"expect", b"100-CONTINUE"), _HELLO),
    ),
    served(
        "an expectation without a body",
        "RFC 9110 10.1.1",
        head(b"Expect: 100-continue"),
        _with((b"expect", b"100-continue")),
    ),
    *(
        refused(f"the expectation {value!r}", "RFC 9110 10.1.1", post(b"Expect: " + value), 417, "expect")
        for value in (b"100", b"200-ok", b"100-continue, x", b"100-continuex", b"x", b"100-continue;a", b"100 continue")
    ),
    *(
        served(
            f"the expectations {value!r}",
            "RFC 9110 10.1.1",
            post(b"Expect: " + value, b"Content-Length: 5", body=b"hello"),
            posted(b"hello", (b"expect", value.strip()), (b"content-length", b"5")),
        )
        for value in (b"", b",", b"100-continue, 100-Continue", b"100-continue ,", b", 100-continue")
    ),
    served(
        "the same expectation twice",
        "RFC 9110 10.1.1",
        post(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 5", body=b"hello"),
        posted(b"hello", (b"expect", b"100-continue"), (b"expect", b"100-continue"), (b"content-length", b"5")),
    ),
    refused("two expectations", "RFC 9110 10.1.1", post(b"Expect: 100-continue", b"Expect: x"), 417, "expect"),
    served(
        "an expectation of HTTP/1.0",
        "RFC 9110 10.1.1",
        _old(b"Expect: x"),
        Given(http_version="1.0", headers=(*HOST, (b"expect", b"x"))),
        is_kept=False,
    ),
    refused(
        "an expectation of HTTP/1.0, and the same of HTTP/1.1",
        "RFC 9110 10.1.1",
        _old(b"Connection: keep-alive", b"Expect: x") + head(b"Connection: keep-alive", b"Expect: x"),
        417,
        "expect",
        before=(Given(http_version="1.0", headers=(*HOST, (b"connection", b"keep-alive"), (b"expect", b"x"))),),
    ),
    refused("an expectation that is not met, and no host", "3.2", head(b"Expect: x", host=b"")),
]

# -- limits ------------------------------------------------------------------------------------------------------------

_LIMITS: dict[str, Any] = {"request_line": "100B", "header_size": "200B", "header_count": 5, "body": "10B"}
_FIVE = (b"A: 1",) * 4


def _limited(case: Case) -> Case:
    return Case(case.name, case.section, case.sent, case.given, case.status, case.kind, case.is_kept, _LIMITS)


def _sized(size: int) -> bytes:
    """Return a head with a header section of `size` bytes."""
    return head(b"A: " + b"b" * (size - len(b"Host: a\r\nA: \r\n")))


LIMITS = [
    served("the longest target", "3", _target(b"/" + b"x" * 99), _at(b"/" + b"x" * 99, "/" + "x" * 99)),
    refused("a target too long", "3", _target(b"/" + b"x" * 100), 414, "request_line"),
    refused("a target too long, by its query", "3", _target(b"/?" + b"x" * 99), 414, "request_line"),
    refused("an endless target", "3", b"GET /" + b"x" * 500, 414, "request_line"),
    refused("a bad target too long", "3", _target(b"/\x00" + b"x" * 100)),
    refused("a target too long, and then bad", "3", _target(b"/" + b"x" * 100 + b"\x00"), 414, "request_line"),
    refused(
        "a target too long for a version not spoken",
        "3",
        _start(b"GET /%s HTTP/2.0" % (b"x" * 100)),
        414,
        "request_line",
    ),
    refused("an endless version", "3", b"GET / HTTP/1.1" + b"1" * 500),
    refused("a long method", "3", b"A" * 101, 501),
    served("the largest section", "5.4", _sized(200), _with((b"a", b"b" * (200 - 14)))),
    refused("a section too large", "5.4", _sized(201), 431, "header_size"),
    refused("a section too large by white space", "5.4", head(b"A:" + b" " * 200 + b"b"), 431, "header_size"),
    refused("a section too large in many lines", "5.4", head(*(b"A: " + b"b" * 60,) * 4), 431, "header_size"),
    refused("an endless value", "5.4", head(b"A: " + b"b" * 500).removesuffix(b"\r\n\r\n"), 431, "header_size"),
    refused("an endless name", "5.4", head(b"A" * 500).removesuffix(b"\r\n\r\n"), 431, "header_size"),
    refused("a bad value before it is too large", "5.4", head(b"A: \x00" + b"b" * 500)),
    refused("a value too large, and then bad", "5.4", head(b"A: " + b"b" * 500 + b"\x00"), 431, "header_size"),
    served("the most headers", "5.4", head(*_FIVE), _with(*((b"a", b"1"),) * 4)),
    refused("too many headers", "5.4", head(*_FIVE, b"A: 1"), 431, "header_count"),
    refused("endless headers", "5.4", head(*(b"A: 1",) * 20).removesuffix(b"\r\n"), 431, "header_count"),
    refused("too many headers, the last one bad", "5.4", head(*_FIVE, b"A : 1"), 431, "header_count"),
    served("the longest body", "8.6", _length(b"10", b"x" * 10), posted(b"x" * 10, (b"content-length", b"10"))),
    refused("a body too long", "RFC 9110 15.5.14", _length(b"11", b"x" * 11), 413, "body_size"),
    refused(
        "a body too long that never comes", "RFC 9110 15.5.14", _length(b"9223372036854775807", b""), 413, "body_size"
    ),
    refused(
        "a body too long that is expected",
        "RFC 9110 10.1.1",
        post(b"Expect: 100-continue", b"Content-Length: 11"),
        413,
        "body_size",
    ),
    served(
        "the longest body in chunks", "7.1", chunked(b"6\r\n012345\r\n4\r\n6789\r\n0\r\n\r\n"), chunks(b"0123456789")
    ),
    refused("a body in chunks too long", "7.1", chunked(b"6\r\n012345\r\n5\r\n6789x\r\n0\r\n\r\n"), 413, "body_size"),
    refused("a chunk too long that never comes", "7.1", chunked(b"b\r\n"), 413, "body_size"),
    served("the largest trailers", "7.1.2", chunked(b"0\r\nA: " + b"b" * 195 + b"\r\n\r\n"), chunks(b"")),
    refused("trailers too large", "7.1.2", chunked(b"0\r\nA: " + b"b" * 196 + b"\r\n\r\n"), 431, "header_size"),
    refused("an endless trailer", "7.1.2", chunked(b"0\r\nA: " + b"b" * 500), 431, "header_size"),
    refused("too many trailers", "7.1.2", chunked(b"0\r\n" + b"A: b\r\n" * 6 + b"\r\n"), 431, "header_count"),
    served("a long extension", "7.1.1", chunked(b"1;" + b"a" * 150 + b"\r\nx\r\n0\r\n\r\n"), chunks(b"x")),
    served(
        "a long extension in each of two bodies",
        "7.1.1",
        chunked(b"1;" + b"a" * 150 + b"\r\nx\r\n0\r\n\r\n") * 2,
        *(chunks(b"x"),) * 2,
    ),
    refused("an extension too long", "7.1.1", chunked(b"1;" + b"a" * 200 + b"\r\nx\r\n0\r\n\r\n"), 431, "header_size"),
    refused("an endless extension", "7.1.1", chunked(b"1;" + b"a" * 500), 431, "header_size"),
    refused("extensions without end", "7.1.1", chunked(b"1;%s\r\nx\r\n" % (b"a" * 60) * 9), 431, "header_size"),
]

CASES = {
    f"{group}: {case.name}": case
    for group, cases in {
        "start": START_LINES,
        "target": TARGETS,
        "host": HOSTS,
        "field": FIELDS,
        "length": LENGTHS,
        "chunks": CHUNKS,
        "connection": CONNECTIONS,
        "limit": [_limited(case) for case in LIMITS],
    }.items()
    for case in cases
}
