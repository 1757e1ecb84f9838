"""Interprets the fields of a request head together: the framing of its body, keep-alive, `Expect` and `Upgrade`.

Two servers that disagree about the end of a body allow request smuggling, so an ambiguous head is rejected (RFC 9112
section 11.2). This module does not see the lines.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from asgid.errors import ClientError
from asgid.worker.http.fields import TOKEN, list_elements
from asgid.worker.http1.request_syntax import VALID_HOSTS, bad_request, is_authority

#: The max content-length and size of a chunk: other servers keep it in 63 bits, and a larger number wraps around there.
MAX_BODY_BYTES = (1 << 63) - 1
_MAX_DIGITS = len(str(MAX_BODY_BYTES))


@dataclass(slots=True)
class MessageInfo:
    """The meaning of a request head for the connection. Instances are shared: they never change."""

    keep_alive: bool  #: another request may follow on this connection
    expects_continue: bool  #: the client waits for 100 Continue before it sends the body
    body_bytes: int  #: content-length, 0 without one
    is_chunked: bool
    wants_websocket: bool


#: By keep_alive: the infos of nearly all requests without a body. One more object each would cost 2 % of a head.
WITHOUT_BODY = (MessageInfo(False, False, 0, False, False), MessageInfo(True, False, 0, False, False))


def interpret(fields: Mapping[bytes, bytes], minor: int) -> MessageInfo:
    """Return the meaning of `fields` in a request of HTTP/1.`minor`.

    `fields` maps names to values; the values of repeated lines are joined with commas. Raises ClientError.
    """
    if fields.get(b"host") not in VALID_HOSTS:
        _check_host(fields, minor)
    body_bytes, is_chunked, expects_continue = 0, False, False
    if b"transfer-encoding" in fields:
        _check_codings(fields, minor)
        is_chunked = True
    elif b"content-length" in fields:
        body_bytes = _parse_length(fields[b"content-length"])
    if b"expect" in fields and minor:  # HTTP/1.0 does not have it (RFC 9110 section 10.1.1)
        expects_continue = _expects_continue(fields[b"expect"])
    keep_alive = _keeps_alive(fields[b"connection"], minor) if b"connection" in fields else bool(minor)
    wants_websocket = b"upgrade" in fields and _wants_websocket(fields, minor)
    if not (body_bytes or is_chunked or expects_continue or wants_websocket):
        return WITHOUT_BODY[keep_alive]
    return MessageInfo(keep_alive, expects_continue, body_bytes, is_chunked, wants_websocket)


def _expects_continue(value: bytes) -> bool:
    """Return whether the list of expectations, which may be empty, has 100-continue (RFC 9110 section 10.1.1)."""
    expectations = list_elements(value.lower())
    if any(expectation != b"100-continue" for expectation in expectations):
        raise ClientError(417, "expect", "the only supported expectation is 100-continue")
    return bool(expectations)


def _check_host(fields: Mapping[bytes, bytes], minor: int) -> None:
    host = fields.get(b"host")
    if host is None:
        if minor:
            raise bad_request("the host header is missing (RFC 9112 section 3.2)")
    elif not is_authority(host):
        raise bad_request("the host header is not a host with an optional port (RFC 9112 section 3.2)")


def _keeps_alive(connection: bytes, minor: int) -> bool:
    """Return whether another request may follow (RFC 9112 section 9.3)."""
    value = connection.lower()
    if value == b"close":  # nearly the only option that clients of HTTP/1.1 send
        return False
    if minor and value.find(b"close") < 0:
        return True
    options = list_elements(value)
    return b"close" not in options and (bool(minor) or b"keep-alive" in options)


def _wants_websocket(fields: Mapping[bytes, bytes], minor: int) -> bool:
    """Return whether the client asks for an upgrade to a WebSocket, which HTTP/1.0 cannot (RFC 9110 section 7.8)."""
    protocols = list_elements(fields[b"upgrade"].lower())
    options = list_elements(fields.get(b"connection", b"").lower())
    return bool(minor) and b"websocket" in protocols and b"upgrade" in options


def _check_codings(fields: Mapping[bytes, bytes], minor: int) -> None:
    """Raise ClientError unless chunked is the only transfer coding.

    The status is 501 for a list that another server could support (RFC 9112 section 6.1), else 400 (section 6.3).
    """
    if not minor:
        raise ClientError(400, "framing", "HTTP/1.0 has no transfer-encoding (RFC 9112 section 6.1)")
    if b"content-length" in fields:
        raise ClientError(
            400, "framing", "the request has a content-length and a transfer-encoding (RFC 9112 section 6.3)"
        )
    # Empty elements count here: they are malformed.
    *others, last = [coding.strip(b" \t").lower() for coding in fields[b"transfer-encoding"].split(b",")]
    if last != b"chunked" or b"chunked" in others or not all(TOKEN.fullmatch(coding) for coding in others):
        raise ClientError(400, "framing", "the transfer-encoding must end with chunked, and have it once")
    if others:
        raise ClientError(501, "framing", "the only supported transfer-encoding is chunked")


def _parse_length(value: bytes) -> int:
    digits = value.lstrip(b"0") or b"0"
    # int() is slow with thousands of digits, and raises an error above 4300.
    if not value.isdigit() or len(digits) > _MAX_DIGITS or int(digits) > MAX_BODY_BYTES:
        raise ClientError(400, "framing", "the content-length is not one number of bytes (RFC 9112 section 6.3)")
    return int(digits)
