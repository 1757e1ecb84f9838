"""The lines of a request head, each judged by itself: the request line, a field, the authority in Host.

Strict wherever two readers could understand a line differently, for that is how requests are smuggled past whoever
looked at them first (RFC 9112 section 11.2). Bytes in, values out; what is no such line is a ClientError. This file
does not know what the lines mean together, nor how they arrived.
"""

import re
from ipaddress import AddressValueError, IPv6Address
from typing import TypeAlias

from asgid.errors import ClientError
from asgid.worker.http.fields import TOKEN

#: Method, target, minor version, and whom the target itself names: b"" unless it does.
RequestLine: TypeAlias = tuple[str, bytes, int, bytes]

#: The methods that clients use; of every other token a text is made when it comes (RFC 9110 section 9.1).
METHODS = {
    method.encode(): method
    for method in (
        *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "QUERY", "PURGE"),
        *("PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "SEARCH", "BIND", "REBIND", "UNBIND"),
        *("ACL", "REPORT", "MKACTIVITY", "CHECKOUT", "MERGE", "MKCALENDAR", "LINK", "UNLINK"),
        *("M-SEARCH", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE"),
    )
}
_TARGET = bytes(range(0x21, 0x7F)).replace(b"#", b"")  # a fragment is the client's own (RFC 9110 section 7.1)
_VISIBLE = bytes(range(0x20, 0x7F))
_VERSION = re.compile(rb"HTTP/\d\.\d")
_VERSION_BYTES = len("HTTP/1.1")
#: Of the versions that are served; to a higher minor one the highest is answered that we know (RFC 9110 section 2.5).
_MINORS = {b"HTTP/1.0": 0, **{b"HTTP/1.%d" % minor: 1 for minor in range(1, 10)}}
_TLS = b"\x16\x03"  # how a handshake begins (RFC 8446 section 5.1)
# RFC 3986 section 3.2.2. A comma may be in a name, but no host has one, and a list of hosts has.
_CHARS = rb"[A-Za-z0-9\-._~!$&'()*+;=]"
_NAME = re.compile(rb"(?:%s|%%[0-9A-Fa-f]{2})+" % _CHARS)
_FUTURE = re.compile(rb"[vV][0-9A-Fa-f]+\.(?:%s|:)+" % _CHARS)
_AUTHORITY = re.compile(rb"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]*))?")
_ABSOLUTE = re.compile(rb"https?://([^/?]*)", re.IGNORECASE)
_MOST_PORTS = 65535

#: Hosts that were found good. The bounds keep those that never come again from filling the memory.
VALID_HOSTS: set[bytes] = set()
_MAX_HOSTS, _MAX_HOST_BYTES = 1024, 256


def bad_request(what: str) -> ClientError:
    return ClientError(400, "malformed", what)


def headers_too_large(most_bytes: int) -> ClientError:
    return ClientError(431, "header_size", f"the header section is longer than {most_bytes} bytes")


def body_too_large(most_bytes: int) -> ClientError:
    return ClientError(413, "body_size", f"the body is longer than {most_bytes} bytes")


def parse_request_line(line: bytes) -> RequestLine:
    """Return what a request line says (RFC 9112 section 3); ClientError for what is none, or is not spoken here."""
    try:
        token, target, version = line.split(b" ")
        minor = _MINORS[version]
    except (ValueError, KeyError):
        raise _no_start(line) from None
    method = METHODS.get(token) or _method(token, line)
    if target.translate(None, _TARGET):
        raise bad_request("the target holds what no URI does: controls, other than ASCII, or a fragment")
    if target[:1] == b"/" and method != "CONNECT":
        return method, target, minor, b""
    return method, target, minor, _authority_of(method, target)


def _method(token: bytes, line: bytes) -> str:
    """Return a method that is in none of our tables. Methods are case-sensitive, but ASGI has them in capital letters:
    to an application `get` would be GET, which it is not.
    """
    if not TOKEN.fullmatch(token):
        raise _no_start(line)
    if token != token.upper():
        raise ClientError(501, "malformed", "no method with small letters is implemented here (RFC 9110 section 9.1)")
    return token.decode("ascii")


def _no_start(line: bytes) -> ClientError:
    """Return why this line is refused: because it is not HTTP, or because of its version."""
    words = line.split(b" ")
    is_text = not line.translate(None, _VISIBLE) and all(words) and TOKEN.fullmatch(words[0])
    if is_text and len(words) == 2 and words[0] in METHODS and words[1][:1] == b"/":
        return _unspoken("HTTP/0.9")
    if not is_text or len(words) != 3 or not _VERSION.fullmatch(words[2]):
        return _no_http(line, "the request line is not a method, a target and a version with one space between them")
    return _unspoken(words[2].decode())


def _no_http(part: bytes, what: str) -> ClientError:
    return bad_request("this is TLS, and HTTP is spoken here: https:// should be http://" if part[:2] == _TLS else what)


def _unspoken(version: str) -> ClientError:
    return ClientError(505, "malformed", f"{version} is not spoken here; HTTP/1.1 and 1.0 are")


def _authority_of(method: str, target: bytes) -> bytes:
    """Return whom a target that is no path names (RFC 9112 section 3.2): (1) a host and a port, (2) the whole server,
    (3) a URI.
    """
    if method == "CONNECT":  # 1, and no other with it
        if not is_authority(target) or not target.rpartition(b":")[2].isdigit():
            raise bad_request("the target of CONNECT is a host and a port (RFC 9112 section 3.2.3)")
        return target
    if target == b"*" and method == "OPTIONS":  # 2
        return b""
    absolute = _ABSOLUTE.match(target)  # 3
    if absolute is None or not is_authority(absolute[1]):
        raise bad_request("the target is neither a path nor a URI of http or https (RFC 9112 section 3.2)")
    return absolute[1]


def check_partial_request_line(part: bytes, most_bytes: int) -> None:
    """Refuse the beginning of a request line that nothing can make good; `most_bytes` is how long a target may be."""
    check_request_line_length(part, most_bytes)
    words = part.split(b" ")
    if part.translate(None, _VISIBLE) or not all(words[:-1]) or not TOKEN.fullmatch(words[0]):
        raise _no_http(part, "this is not the beginning of a request line")
    if len(words) > 3 or (len(words) == 3 and len(words[2]) > _VERSION_BYTES):
        raise bad_request("the request line does not end with a version")


def check_request_line_length(line: bytes, most_bytes: int) -> None:
    """Refuse a target, or a method, that is too long. What is wrong before that is not this function's to say."""
    token, _, rest = line.partition(b" ")
    if len(token) > most_bytes:
        if TOKEN.fullmatch(token, 0, most_bytes + 1):
            raise ClientError(501, "malformed", "no method is as long as this")
        return
    target = rest.partition(b" ")[0]
    if len(target) > most_bytes and TOKEN.fullmatch(token) and not target[:most_bytes].translate(None, _VISIBLE):
        raise ClientError(414, "request_line", f"the request target is longer than {most_bytes} bytes")


def parse_field_line(line: bytes) -> bytes:
    """Return a field line, in which is no control character, without the white space around its value."""
    name, colon, value = line.partition(b":")
    # Folded lines (section 5.2) and a space before the colon (section 5.1) end here, too.
    if not colon or not TOKEN.fullmatch(name):
        raise bad_request("a header line is not a name that is a token, a colon and a value (RFC 9112 section 5)")
    return b"%s: %s" % (name, value.strip(b" \t"))


def is_authority(value: bytes) -> bool:
    """Return whether this is a host with or without a port (RFC 9110 section 7.2), as URIs of http have it."""
    if value in VALID_HOSTS:
        return True
    parts = _AUTHORITY.fullmatch(value)
    if parts is None or not _is_host(parts[1]):
        return False
    port = (parts[2] or b"").lstrip(b"0")
    if len(port) > 5 or int(port or b"0") > _MOST_PORTS:
        return False
    if len(value) <= _MAX_HOST_BYTES:
        if len(VALID_HOSTS) >= _MAX_HOSTS:
            VALID_HOSTS.clear()
        VALID_HOSTS.add(value)
    return True


def _is_host(host: bytes) -> bool:
    """Return whether this is a literal in brackets, an IPv4 address or a name; the last two look alike."""
    if host[:1] != b"[":
        return bool(_NAME.fullmatch(host))
    literal = host[1:-1]
    if _FUTURE.fullmatch(literal):
        return True
    try:
        IPv6Address(literal.decode("ascii"))
    except (AddressValueError, UnicodeDecodeError):
        return False
    return b"%" not in literal  # a zone means something on one machine only, and Python takes it
