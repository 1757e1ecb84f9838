"""The opening handshake of a WebSocket: parses the request, and makes the head that accepts it (RFC 6455 section 4.2).

The module does not know the transport, nor frames.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from asgid.errors import AppError, ClientError
from asgid.worker.asgi import Scope
from asgid.worker.http.fields import TOKEN, Field, list_elements
from asgid.worker.http.response import WebSocketAnswer

_VERSION = b"13"  # of RFC 6455; lower versions were drafts
#: Fields of the response to another version (RFC 6455 section 4.4, RFC 9110 section 15.5.22).
_VERSIONS = ((b"connection", b"upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-version", _VERSION))
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64


class HandshakeRequest(NamedTuple):
    """The parameters of a handshake."""

    key: bytes
    subprotocols: tuple[str, ...]
    extensions: str


def parse_handshake(headers: Iterable[Field]) -> HandshakeRequest:
    """Return the parameters of a handshake. Raises ClientError if it breaks RFC 6455.

    The caller has checked that the request is a GET with an upgrade to a WebSocket.
    """
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if name.startswith(b"sec-websocket-"):  # repeated lines are joined to a list, which is not a key or a version
            fields[name] = fields[name] + b"," + value if name in fields else value
    version = fields.get(b"sec-websocket-version")
    if version != _VERSION:
        reason = "the only supported WebSocket version is 13 (RFC 6455 section 4.4)"
        raise ClientError(426, "websocket", reason, _VERSIONS)
    key = fields.get(b"sec-websocket-key", b"")
    if not _KEY.fullmatch(key):
        raise ClientError(400, "websocket", "the sec-websocket-key is not 16 bytes in base64 (RFC 6455 section 4.1)")
    protocols = list_elements(fields.get(b"sec-websocket-protocol", b""))
    if not all(map(TOKEN.fullmatch, protocols)):
        raise ClientError(400, "websocket", "a sec-websocket-protocol is not a token (RFC 6455 section 4.1)")
    extensions = fields.get(b"sec-websocket-extensions", b"").decode("latin-1")
    return HandshakeRequest(key, tuple(protocol.decode() for protocol in protocols), extensions)


def answer_handshake(
    request: HandshakeRequest, subprotocol: object, headers: Iterable[tuple[bytes, bytes]], extensions: bytes
) -> WebSocketAnswer:
    """Return the answer that accepts `request`; `extensions` answers those of the client.

    Raises AppError for a subprotocol that the client does not offer.
    """
    # "" is none: Starlette, among others, passes on the empty header of a client that offers none.
    if subprotocol in (None, ""):
        return WebSocketAnswer(request.key, None, extensions, tuple(headers))
    if not isinstance(subprotocol, str) or subprotocol not in request.subprotocols:
        raise AppError(_not_offered(subprotocol, request.subprotocols))
    return WebSocketAnswer(request.key, subprotocol, extensions, tuple(headers))


def _not_offered(subprotocol: object, offered: Sequence[str]) -> str:
    known = ", ".join(offered) or "none"
    return f"websocket.accept: the client does not offer the subprotocol {subprotocol!r}; it offers {known}"


_SCHEMES = {"http": "ws", "https": "wss"}
#: The version of the ASGI WebSocket specification: after a disconnect send() raises OSError; a disconnect has a reason.
SPEC_VERSION = "2.5"


def websocket_scope(scope: Scope, request: HandshakeRequest) -> None:
    """Change the scope of a request to that of a WebSocket (ASGI specification, "WebSocket Connection Scope")."""
    del scope["method"]
    scope["type"] = "websocket"
    scope["asgi"]["spec_version"] = SPEC_VERSION  # this dict belongs to the scope alone
    scope["scheme"] = _SCHEMES.get(scope["scheme"], scope["scheme"])
    scope["subprotocols"] = list(request.subprotocols)
    scope["extensions"] = {"websocket.http.response": {}}
