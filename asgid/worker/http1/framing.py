"""What the fields of a request head mean together: its framing, whether the connection is kept, what is expected.

Where a body ends must not be a matter of opinion, for that is how a request is smuggled past whoever looked at the last
one (RFC 9112 section 11.2): what two readers could understand differently is refused. It does not know the lines.
"""

from collections.abc import Mapping
from typing import TypeAlias

from asgid.errors import ClientError
from asgid.worker.http.fields import TOKEN, list_elements
from asgid.worker.http1.request_syntax import VALID_HOSTS, bad_request, is_authority

#: Whether the connection is kept, whether the client waits for 100, the length of the body, whether it is in chunks,
#: whether the client asks for a WebSocket.
MessageInfo: TypeAlias = tuple[bool, bool, int, bool, bool]

#: Longer than any body: what others keep in 63 bits must not wrap around there.
MAX_BODY_BYTES = (1 << 63) - 1
_LENGTH_DIGITS = len(str(MAX_BODY_BYTES))


def interpret(told: Mapping[bytes, bytes], minor: int) -> MessageInfo:
    """Return what `told` says, values by name, of several lines one list; `minor` is that of the HTTP version.

    Raises ClientError for what may not be said, or is not met here.
    """
    if told.get(b"host") not in VALID_HOSTS:
        _check_host(told, minor)
    length, is_chunked, expects_continue = 0, False, False
    if b"transfer-encoding" in told:
        _check_codings(told, minor)
        is_chunked = True
    elif b"content-length" in told:
        length = _length(told[b"content-length"])
    if b"expect" in told and minor:  # 1.0 knows nothing of it (RFC 9110 section 10.1.1)
        expects_continue = _expects_continue(told[b"expect"])
    keep_alive = _is_kept(told[b"connection"], minor) if b"connection" in told else bool(minor)
    asks_for_websocket = b"upgrade" in told and _asks_for_websocket(told, minor)
    return keep_alive, expects_continue, length, is_chunked, asks_for_websocket


def _expects_continue(value: bytes) -> bool:
    """Return whether 100-continue is in a list of expectations, which may be empty (RFC 9110 section 10.1.1)."""
    expectations = list_elements(value.lower())
    if any(expectation != b"100-continue" for expectation in expectations):
        raise ClientError(417, "expect", "the only expectation that is met here is 100-continue")
    return bool(expectations)


def _check_host(told: Mapping[bytes, bytes], minor: int) -> None:
    host = told.get(b"host")
    if host is None:
        if minor:
            raise bad_request("there is no host header (RFC 9112 section 3.2)")
    elif not is_authority(host):
        raise bad_request("the host header is not a host with or without a port (RFC 9112 section 3.2)")


def _is_kept(connection: bytes, minor: int) -> bool:
    """Return whether another request may follow (RFC 9112 section 9.3)."""
    value = connection.lower()
    if value == b"close":  # the one option that anybody sends to HTTP/1.1
        return False
    if minor and value.find(b"close") < 0:
        return True
    options = list_elements(value)
    return b"close" not in options and (bool(minor) or b"keep-alive" in options)


def _asks_for_websocket(told: Mapping[bytes, bytes], minor: int) -> bool:
    """Whether a WebSocket is among the protocols to change to; 1.0 knows no upgrade (RFC 9110 section 7.8)."""
    offered = list_elements(told[b"upgrade"].lower())
    options = list_elements(told.get(b"connection", b"").lower())
    return bool(minor) and b"websocket" in offered and b"upgrade" in options


def _check_codings(told: Mapping[bytes, bytes], minor: int) -> None:
    """Refuse every transfer coding but chunked alone: where a body ends must not be a matter of opinion.

    A list that could be right elsewhere is answered 501 (RFC 9112 section 6.1), the rest 400 (section 6.3).
    """
    if not minor:
        raise ClientError(400, "framing", "HTTP/1.0 has no transfer-encoding (RFC 9112 section 6.1)")
    if b"content-length" in told:
        raise ClientError(400, "framing", "there are a content-length and a transfer-encoding (RFC 9112 section 6.3)")
    *others, last = [coding.strip(b" \t").lower() for coding in told[b"transfer-encoding"].split(b",")]
    if last != b"chunked" or b"chunked" in others or not all(TOKEN.fullmatch(coding) for coding in others):
        raise ClientError(400, "framing", "the transfer-encoding does not end with chunked, said once")
    if others:
        raise ClientError(501, "framing", "the only transfer-encoding spoken here is chunked")


def _length(value: bytes) -> int:
    digits = value.lstrip(b"0") or b"0"
    # int() of thousands of digits is slow, and raises from 4300 on.
    if not value.isdigit() or len(digits) > _LENGTH_DIGITS or int(digits) > MAX_BODY_BYTES:
        raise _bad_length()
    return int(digits)


def _bad_length() -> ClientError:
    return ClientError(400, "framing", "the content-length is not one number of bytes (RFC 9112 section 6.3)")
