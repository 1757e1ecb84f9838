"""The client's half of a WebSocket (RFC 6455), as far as a load needs it: a handshake, and one frame per message.

It offers no extension, so nothing is compressed. This file does not depend on the measurement.
"""

import socket
from enum import IntEnum

# The key of section 1.3 and its answer. A constant key is fine without a cache in between.
_KEY, _ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
_MASK = b"\x5a\x0f\xc3\x96"  # any mask but zero: on loopback there is no proxy to protect
_HEAD_END = b"\r\n\r\n"
_NORMAL_CLOSURE = (1000).to_bytes(2)


class Opcode(IntEnum):
    """The first byte of a frame: its opcode with the FIN bit (section 5.2)."""

    TEXT = 0x81
    CLOSE = 0x88
    PING = 0x89
    PONG = 0x8A


def connect(port: int, path: str, timeout: float) -> socket.socket:
    """Return a connection to 127.0.0.1:`port` after its handshake, with `timeout` seconds for each call on it.

    Raises OSError if the server refuses, does not answer in time, or sends more than the head of its answer.
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


def echo(connection: socket.socket, message: bytes) -> bytes:
    """Send `message` and return the echo, which has the same length. Raises OSError if another answer comes."""
    head = _head(Opcode.TEXT, len(message), 0)
    connection.sendall(from_client(Opcode.TEXT, message))
    data = b""
    while len(data) < len(head) + len(message) and (chunk := connection.recv(len(head) + len(message) - len(data))):
        data += chunk
    if not data.startswith(head):
        raise ConnectionError(f"a message of {len(message)} bytes was answered by {data[:60]!r}")
    return data[len(head) :]


def close(connection: socket.socket) -> None:
    """Close by section 7.1: send a frame, read the server's or the end, then close the socket."""
    connection.sendall(from_client(Opcode.CLOSE, _NORMAL_CLOSURE))
    connection.recv(64)
    connection.close()


def from_client(opcode: Opcode, payload: bytes) -> bytes:
    """Return the frame of a client: masked."""
    mask = int.from_bytes((_MASK * (len(payload) // 4 + 1))[: len(payload)])
    masked = (int.from_bytes(payload) ^ mask).to_bytes(len(payload))
    return _head(opcode, len(payload), 0x80) + _MASK + masked


def from_server(opcode: Opcode, payload: bytes) -> bytes:
    """Return the frame of a server: not masked."""
    return _head(opcode, len(payload), 0) + payload


def _head(opcode: Opcode, length: int, mask_bit: int) -> bytes:
    """Return the bytes before mask and payload, with the length in its shortest form (section 5.2)."""
    if length < 126:
        return bytes((opcode, mask_bit | length))
    if length < 2**16:
        return bytes((opcode, mask_bit | 126)) + length.to_bytes(2)
    return bytes((opcode, mask_bit | 127)) + length.to_bytes(8)
