"""The opening handshake of a WebSocket: what a request says, and the head that accepts it (RFC 6455 section 4.2).

It does not know the transport, nor what is said afterwards.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha1
from typing import NamedTuple

from asgid.errors import AppError, ClientError
from asgid.worker.http.fields import TOKEN, Field, list_elements
from asgid.worker.http.scope import Scope
from asgid.worker.http1.response_head import accept_lines

_VERSION = b"13"  # the one of RFC 6455; others were drafts
#: What is answered to another version (RFC 6455 section 4.4, RFC 9110 section 15.5.22).
_VERSIONS = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: %s\r\n" % _VERSION
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3


class HandshakeRequest(NamedTuple):
    """What a client asks for."""

    key: bytes
    subprotocols: tuple[str, ...]
    extensions: str


def parse_handshake(headers: Iterable[Field]) -> HandshakeRequest:
    """Return what the request offers; raises ClientError where it is no handshake of RFC 6455.

    That it is a GET which asks for the upgrade to a WebSocket is known already.
    """
    told: dict[bytes, bytes] = {}
    for name, value in headers:
        if name.startswith(b"sec-websocket-"):  # of several lines one list is made, which as a key or version is none
            told[name] = told[name] + b"," + value if name in told else value
    version = told.get(b"sec-websocket-version")
    if version != _VERSION:
        raise ClientError(426, "websocket", "the WebSocket version spoken here is 13 (RFC 6455 section 4.4)", _VERSIONS)
    key = told.get(b"sec-websocket-key", b"")
    if not _KEY.fullmatch(key):
        raise ClientError(400, "websocket", "the sec-websocket-key is not 16 bytes in base64 (RFC 6455 section 4.1)")
    protocols = list_elements(told.get(b"sec-websocket-protocol", b""))
    if not all(map(TOKEN.fullmatch, protocols)):
        raise ClientError(400, "websocket", "a sec-websocket-protocol is not a token (RFC 6455 section 4.1)")
    extensions = told.get(b"sec-websocket-extensions", b"").decode("latin-1")
    return HandshakeRequest(key, tuple(protocol.decode() for protocol in protocols), extensions)


def accept(
    offer: HandshakeRequest,
    subprotocol: object,
    headers: Iterable[tuple[bytes, bytes]],
    extensions: bytes,
    common: bytes,
) -> bytes:
    """Return the head that accepts `offer`; AppError for what the application may not say.

    `extensions` is the answer to those that were offered, `common` the lines that every answer carries.
    """
    lines = [
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ",
        b64encode(sha1(offer.key + _GUID, usedforsecurity=False).digest()),
        b"\r\n",
    ]
    # "" stands for none: Starlette, among others, passes on what a client did not offer.
    if subprotocol not in (None, ""):
        if not isinstance(subprotocol, str) or subprotocol not in offer.subprotocols:
            raise AppError(_not_offered(subprotocol, offer.subprotocols))
        lines.append(b"sec-websocket-protocol: %s\r\n" % subprotocol.encode())
    if extensions:
        lines.append(b"sec-websocket-extensions: %s\r\n" % extensions)
    return b"".join((*lines, *accept_lines(headers, common), b"\r\n"))


def _not_offered(subprotocol: object, offered: Sequence[str]) -> str:
    known = ", ".join(offered) or "none"
    return f"websocket.accept: the subprotocol {subprotocol!r} is not one that the client offers ({known})"


_SCHEMES = {"http": "ws", "https": "wss"}
#: Of the WebSocket specification: send() raises OSError after a disconnect, and a disconnect has a reason.
SPEC_VERSION = "2.5"


def websocket_scope(scope: Scope, offer: HandshakeRequest) -> None:
    """Make the scope of a request that of a WebSocket (ASGI specification, "WebSocket Connection Scope")."""
    del scope["method"]
    scope["type"] = "websocket"
    scope["asgi"]["spec_version"] = SPEC_VERSION  # the dictionary is this scope's own
    scope["scheme"] = _SCHEMES.get(scope["scheme"], scope["scheme"])
    scope["subprotocols"] = list(offer.subprotocols)
    scope["extensions"] = {"websocket.http.response": {}}
