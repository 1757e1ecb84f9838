"""Parses the lines of a request head, each for itself: the request line, a field line, the authority in Host.

The rules are strict: a line that two servers could read differently allows request smuggling, so it is rejected with
ClientError (RFC 9112 section 11.2). This module does not know how the lines arrived, nor their meaning together.
"""

import re
from ipaddress import AddressValueError, IPv6Address
from typing import TypeAlias

from asgid.errors import ClientError
from asgid.worker.http.fields import TOKEN

#: Method, target, minor version, and the authority in the target, b"" without one.
RequestLine: TypeAlias = tuple[str, bytes, int, bytes]

#: The methods in common use. Any other token is decoded for each request (RFC 9110 section 9.1).
METHODS = {
    method.encode(): method
    for method in (
        *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "QUERY", "PURGE"),
        *("PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "SEARCH", "BIND", "REBIND", "UNBIND"),
        *("ACL", "REPORT", "MKACTIVITY", "CHECKOUT", "MERGE", "MKCALENDAR", "LINK", "UNLINK"),
        *("M-SEARCH", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE"),
    )
}
_TARGET = bytes(range(0x21, 0x7F)).replace(b"#", b"")  # a fragment is not sent to a server (RFC 9110 section 7.1)
_VISIBLE = bytes(range(0x20, 0x7F))
_VERSION = re.compile(rb"HTTP/\d\.\d")
_VERSION_BYTES = len("HTTP/1.1")
#: Supported version -> minor version of the response. A higher minor version gets 1.1 (RFC 9110 section 2.5).
_MINORS = {b"HTTP/1.0": 0, **{b"HTTP/1.%d" % minor: 1 for minor in range(1, 10)}}
_TLS = b"\x16\x03"  # the first bytes of a TLS handshake (RFC 8446 section 5.1)
# RFC 3986 section 3.2.2, without the comma: it is allowed in a name, but it also separates a list of hosts.
_CHARS = rb"[A-Za-z0-9\-._~!$&'()*+;=]"
_NAME = re.compile(rb"(?:%s|%%[0-9A-Fa-f]{2})+" % _CHARS)
_FUTURE = re.compile(rb"[vV][0-9A-Fa-f]+\.(?:%s|:)+" % _CHARS)
_AUTHORITY = re.compile(rb"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]*))?")
_ABSOLUTE = re.compile(rb"https?://([^/?]*)", re.IGNORECASE)
_MAX_PORT = 65535

#: Hosts that were already found valid. The limits bound the memory that hosts of a single request can take.
VALID_HOSTS: set[bytes] = set()
_MAX_HOSTS, _MAX_HOST_BYTES = 1024, 256


def bad_request(reason: str) -> ClientError:
    return ClientError(400, "malformed", reason)


def headers_too_large(max_bytes: int) -> ClientError:
    return ClientError(431, "header_size", f"the header section is longer than {max_bytes} bytes")


def body_too_large(max_bytes: int) -> ClientError:
    return ClientError(413, "body_size", f"the body is longer than {max_bytes} bytes")


def parse_request_line(line: bytes) -> RequestLine:
    """Return the parts of a request line (RFC 9112 section 3). Raises ClientError if it is malformed or unsupported."""
    try:
        token, target, version = line.split(b" ")
        minor = _MINORS[version]
    except (ValueError, KeyError):
        raise _invalid_request_line(line) from None
    method = METHODS.get(token) or _uncommon_method(token, line)
    if target.translate(None, _TARGET):
        raise bad_request("the request target has a control character, a non-ASCII character or a fragment")
    if target[:1] == b"/" and method != "CONNECT":
        return method, target, minor, b""
    return method, target, minor, _target_authority(method, target)


def _uncommon_method(token: bytes, line: bytes) -> str:
    """Return a method that is not in METHODS.

    Methods are case-sensitive, and ASGI passes them in capital letters: an application would take `get` for GET.
    """
    if not TOKEN.fullmatch(token):
        raise _invalid_request_line(line)
    if token != token.upper():
        raise ClientError(501, "malformed", "methods with small letters are not supported (RFC 9110 section 9.1)")
    return token.decode("ascii")


def _invalid_request_line(line: bytes) -> ClientError:
    """Return the error for a line that is not an HTTP request line, or that has an unsupported version."""
    words = line.split(b" ")
    is_text = not line.translate(None, _VISIBLE) and all(words) and TOKEN.fullmatch(words[0])
    if is_text and len(words) == 2 and words[0] in METHODS and words[1][:1] == b"/":
        return _unsupported_version("HTTP/0.9")
    if not is_text or len(words) != 3 or not _VERSION.fullmatch(words[2]):
        return _not_http(line, "the request line is not a method, a target and a version with one space between them")
    return _unsupported_version(words[2].decode())


def _not_http(part: bytes, reason: str) -> ClientError:
    is_tls = part[:2] == _TLS
    return bad_request("a TLS handshake was sent to a plain HTTP port; use http://" if is_tls else reason)


def _unsupported_version(version: str) -> ClientError:
    return ClientError(505, "malformed", f"{version} is not supported; use HTTP/1.1")


def _target_authority(method: str, target: bytes) -> bytes:
    """Return the authority in a target that is not a path (RFC 9112 section 3.2).

    The target is (1) a host and a port, (2) `*` for the whole server, or (3) a URI.
    """
    if method == "CONNECT":  # (1), the only form with this method
        if not is_authority(target) or not target.rpartition(b":")[2].isdigit():
            raise bad_request("the target of CONNECT must be a host and a port (RFC 9112 section 3.2.3)")
        return target
    if target == b"*" and method == "OPTIONS":  # (2)
        return b""
    absolute = _ABSOLUTE.match(target)  # (3)
    if absolute is None or not is_authority(absolute[1]):
        raise bad_request("the request target is neither a path nor an http or https URI (RFC 9112 section 3.2)")
    return absolute[1]


def check_partial_request_line(part: bytes, max_bytes: int) -> None:
    """Raise ClientError if no request line can begin with `part`; `max_bytes` is the limit of a target."""
    check_request_line_length(part, max_bytes)
    words = part.split(b" ")
    if part.translate(None, _VISIBLE) or not all(words[:-1]) or not TOKEN.fullmatch(words[0]):
        raise _not_http(part, "the first bytes are not an HTTP request line")
    if len(words) > 3 or (len(words) == 3 and len(words[2]) > _VERSION_BYTES):
        raise bad_request("the request line does not end with an HTTP version")


def check_request_line_length(line: bytes, max_bytes: int) -> None:
    """Raise ClientError for a method or a target that is too long.

    A fault before the limit is left to the other functions: the error must not depend on how the line was cut.
    """
    token, _, rest = line.partition(b" ")
    if len(token) > max_bytes:
        if TOKEN.fullmatch(token, 0, max_bytes + 1):
            raise ClientError(501, "malformed", "the request method is too long")
        return
    target = rest.partition(b" ")[0]
    if len(target) > max_bytes and TOKEN.fullmatch(token) and not target[:max_bytes].translate(None, _VISIBLE):
        raise ClientError(414, "request_line", f"the request target is longer than {max_bytes} bytes")


def parse_field_line(line: bytes) -> bytes:
    """Return a field line without the white space around its value. The caller has checked for control characters."""
    name, colon, value = line.partition(b":")
    # This also rejects folded lines (section 5.2) and a space before the colon (section 5.1).
    if not colon or not TOKEN.fullmatch(name):
        raise bad_request("a header line is not a token, a colon and a value (RFC 9112 section 5)")
    return b"%s: %s" % (name, value.strip(b" \t"))


def is_authority(value: bytes) -> bool:
    """Return whether `value` is a host with an optional port, as in an http URI (RFC 9110 section 7.2)."""
    if value in VALID_HOSTS:
        return True
    parts = _AUTHORITY.fullmatch(value)
    if parts is None or not _is_host(parts[1]):
        return False
    port = (parts[2] or b"").lstrip(b"0")
    if len(port) > 5 or int(port or b"0") > _MAX_PORT:
        return False
    if len(value) <= _MAX_HOST_BYTES:
        if len(VALID_HOSTS) >= _MAX_HOSTS:
            VALID_HOSTS.clear()
        VALID_HOSTS.add(value)
    return True


def _is_host(host: bytes) -> bool:
    """Return whether `host` is a literal in brackets, an IPv4 address or a name; the last two share a pattern."""
    if host[:1] != b"[":
        return bool(_NAME.fullmatch(host))
    literal = host[1:-1]
    if _FUTURE.fullmatch(literal):
        return True
    try:
        IPv6Address(literal.decode("ascii"))
    except (AddressValueError, UnicodeDecodeError):
        return False
    return b"%" not in literal  # a zone has a meaning on one machine only, and Python accepts it
