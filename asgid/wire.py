"""The wire: messages between the master and a worker, one line of JSON each, over the two pipes of each worker.

The wire has events and requests only; numbers are on the board. The end of the other process is not a message: it is
the end of the stream.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import inf
from typing import Generic, TypeAlias, TypeVar, get_type_hints

#: Limit of a line, which also bounds the buffer for a line without an end.
MAX_BYTES = 65536
#: Limit of a reason: JSON takes twelve bytes at most for a character.
REASON_CHARACTERS = 4096
#: At a stop, the time in which an idle connection may still send a request. It delays the end of the stop.
STOP_LINGER_S = 1.0
#: Exit code of a worker whose end of the wire the application has closed, so that it cannot send a reason.
CUT_OFF = 76  # EX_PROTOCOL of sysexits.h
#: A worker sends each kind of message once at most. More messages are a flood, which would keep the master busy.
MAX_MESSAGES = 3


@dataclass(frozen=True)
class Ready:
    """Worker to master: the application has started and connections are being accepted."""

    interface: str  #: the interface of the application, such as "asgi3"


@dataclass(frozen=True)
class Failed:
    """Worker to master: the worker cannot boot and exits, or it serves and must be replaced."""

    reason: str  #: one line, at most REASON_CHARACTERS long


@dataclass(frozen=True)
class Leaving:
    """Worker to master: the worker received TERM from another process, and has begun to drain."""


@dataclass(frozen=True)
class Drain:
    """Master to worker: stop accepting, complete the requests in progress, exit."""

    grace_s: float  #: after it, requests are cancelled
    linger_s: float  #: time in which idle connections may still send a request; its response has `Connection: close`


@dataclass(frozen=True)
class Reopen:
    """Master to worker: log files were rotated; open them again."""


FromWorker: TypeAlias = Ready | Failed | Leaving
FromMaster: TypeAlias = Drain | Reopen
_Message = TypeVar("_Message", FromWorker, FromMaster)


def encode(message: FromWorker | FromMaster) -> bytes:
    """Return the message as one line."""
    return json.dumps({"is": _name(type(message)), **asdict(message)}).encode() + b"\n"


def from_worker(half_read: str = "") -> "Decoder[FromWorker]":
    """Return the decoder for a master. `half_read` is the part of a message that the program before it had read."""
    return Decoder((Ready, Failed, Leaving), half_read, MAX_MESSAGES)


def from_master() -> "Decoder[FromMaster]":
    """Return the decoder for a worker."""
    return Decoder((Drain, Reopen))


class Decoder(Generic[_Message]):
    """Messages of `kinds` from a byte stream, in any division into reads.

    After an invalid message every call of `feed` fails: the decoder keeps the bytes.
    """

    def __init__(self, kinds: Iterable[type[_Message]], half_read: str = "", max_messages: float = inf) -> None:
        self._kinds: dict[str, type[_Message]] = {_name(kind): kind for kind in kinds}
        self._remaining = max_messages
        self._rest = half_read.encode("latin-1")

    @property
    def half_read(self) -> str:
        """The part of an incomplete message that was received."""
        return self._rest.decode("latin-1")

    def feed(self, data: bytes) -> list[_Message]:
        """Return the messages that `data` completes. Raises ValueError for bytes that this version does not write."""
        self._rest += data
        *lines, rest = self._rest.split(b"\n")
        for line in (*lines, rest):
            if len(line) > MAX_BYTES:
                raise ValueError(f"a message longer than {MAX_BYTES} bytes: {line[:80]!r}...")
        if len(lines) > self._remaining:
            raise ValueError(f"more than {MAX_MESSAGES} messages from a worker: {lines[-1][:80]!r}")
        messages = [self._decode(line) for line in lines]
        self._rest, self._remaining = rest, self._remaining - len(lines)
        return messages

    def _decode(self, line: bytes) -> _Message:
        try:
            values = json.loads(line)
            message = self._kinds[values.pop("is")](**values)
            if _is_typed(message):
                return message
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):  # the last: deeply nested brackets
            pass
        raise ValueError(f"not a message of the wire: {line[:80]!r}")


def _name(kind: type) -> str:
    return kind.__name__.lower()


def _is_typed(message: FromWorker | FromMaster) -> bool:
    """Return whether every field has its type, and no text exceeds a reason; a dataclass does not check that.

    `get_type_hints` returns types; `dataclasses.Field.type` is text if annotations are postponed.
    """
    values = [(getattr(message, name), kind) for name, kind in get_type_hints(type(message)).items()]
    return all(type(value) is kind and len(str(value)) <= REASON_CHARACTERS for value, kind in values)
