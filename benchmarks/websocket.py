"""The client's half of a WebSocket (RFC 6455), as little of it as a load needs: a handshake, and one frame a message.

No extension is offered, so nothing is compressed. This file does not know what is measured.
"""

import socket
from enum import IntEnum

# The key of section 1.3 and the answer to it. It need not be secret, only fresh enough that no cache answers it.
_KEY, _ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
_MASK = b"\x5a\x0f\xc3\x96"  # any will do on loopback, where no proxy is to be protected; zero would be no mask
_HEAD_END = b"\r\n\r\n"
_NORMAL_CLOSURE = (1000).to_bytes(2)


class Opcode(IntEnum):
    """What a frame is, with the bit that says that it is a whole message (section 5.2)."""

    TEXT = 0x81
    CLOSE = 0x88
    PING = 0x89
    PONG = 0x8A


def connect(port: int, path: str, timeout: float) -> socket.socket:
    """Return a connection to 127.0.0.1:`port` that has shaken hands, each call on it limited to `timeout` seconds.

    Raises OSError where the server refuses, says nothing in time, or says more than the head of its answer.
    """
    request = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", port), timeout)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request.encode())
        _await_acceptance(connection)
    except OSError:
        connection.close()
        raise
    return connection


def _await_acceptance(connection: socket.socket) -> None:
    head = b""
    while _HEAD_END not in head and (chunk := connection.recv(4096)):
        head += chunk
    if not (head.startswith(b"HTTP/1.1 101 ") and _ACCEPT in head and head.endswith(_HEAD_END)):
        raise ConnectionError(f"a WebSocket's handshake was answered by {head[:60]!r}")


def converse(connection: socket.socket, message: bytes) -> bytes:
    """Say `message`, and return what comes back, which has the same length; raises OSError where no such thing does."""
    head = _head(Opcode.TEXT, len(message), 0)
    connection.sendall(from_client(Opcode.TEXT, message))
    data = b""
    while len(data) < len(head) + len(message) and (chunk := connection.recv(len(head) + len(message) - len(data))):
        data += chunk
    if not data.startswith(head):
        raise ConnectionError(f"a message of {len(message)} bytes was answered by {data[:60]!r}")
    return data[len(head) :]


def close(connection: socket.socket) -> None:
    """Close as section 7.1 has it: a frame to the server, then its own or the end, then the socket."""
    connection.sendall(from_client(Opcode.CLOSE, _NORMAL_CLOSURE))
    connection.recv(64)
    connection.close()


def from_client(opcode: Opcode, payload: bytes) -> bytes:
    """Return the frame as a client sends it: masked."""
    mask = int.from_bytes((_MASK * (len(payload) // 4 + 1))[: len(payload)])
    masked = (int.from_bytes(payload) ^ mask).to_bytes(len(payload))
    return _head(opcode, len(payload), 0x80) + _MASK + masked


def from_server(opcode: Opcode, payload: bytes) -> bytes:
    """Return the frame as a server sends it: not masked."""
    return _head(opcode, len(payload), 0) + payload


def _head(opcode: Opcode, length: int, mask_bit: int) -> bytes:
    """Return what comes before mask and payload; a length is written as short as it can be, which section 5.2 asks."""
    if length < 126:
        return bytes((opcode, mask_bit | length))
    if length < 2**16:
        return bytes((opcode, mask_bit | 126)) + length.to_bytes(2)
    return bytes((opcode, mask_bit | 127)) + length.to_bytes(8)
