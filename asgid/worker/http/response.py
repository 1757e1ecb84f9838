"""ASGI's response messages for every version of HTTP: their order, the promised length, a WebSocket's answer."""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from asgid.errors import AppError


class State(IntEnum):
    """The progress of a response."""

    WAITING = 0  # for http.response.start
    HEAD_PENDING = 1  # start came; the head is sent with the first part of the body
    STREAMING = 2  # the head is sent
    SENDING_FILE = 3  # bytes of a file are being sent
    TRAILERS = 4  # the body has ended, and the announced trailers have not come
    COMPLETE = 5


# A name of the module costs less than an attribute of a class.
WAITING, HEAD_PENDING, STREAMING, SENDING_FILE, TRAILERS, COMPLETE = State


_NAMES = {
    WAITING: "waiting",
    HEAD_PENDING: "started",
    STREAMING: "streaming",
    SENDING_FILE: "sending a file",
    TRAILERS: "waiting for trailers",
    COMPLETE: "complete",
}


def named(state: State) -> str:
    """Return the state as messages and the log name it."""
    return _NAMES[state]


def as_bytes(payload: object) -> bytes:
    """Return the body of a message. Raises AppError if it is not bytes-like.

    The result is a copy: bytes that the transport has queued must not change.
    """
    if isinstance(payload, bytearray | memoryview | bytes):
        return bytes(payload)
    raise AppError(f"http.response.body: the body is bytes, not {type(payload).__name__}")


def length_mismatch(left: int) -> AppError:
    """Return the error for a body that has `left` bytes less than its content-length, or -`left` more."""
    if left < 0:
        return AppError(f"the body is {-left} bytes longer than its content-length")
    return AppError(f"the body ended {left} bytes short of its content-length")


class WebSocketAnswer(NamedTuple):
    """The response that accepts a WebSocket."""

    key: bytes  #: sec-websocket-key of the request
    subprotocol: str | None
    extensions: bytes  #: the value of sec-websocket-extensions; empty without one
    headers: Sequence[tuple[bytes, bytes]]  #: of the application
