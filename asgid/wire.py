"""The wire: the few small messages between the master and a worker, JSON, one a line, over one socketpair a worker.

What a worker is *doing* stands on the board; the wire only carries what *happened* and what is *wanted*. That the other
side is gone is not a message: it is the end of the stream.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from math import inf
from typing import Generic, TypeAlias, TypeVar

#: A longer line is no message. It bounds what a reader holds of one that has no end.
MAX_BYTES = 65536
#: As much of a reason is told: JSON writes a character in twelve bytes at most.
REASON_CHARACTERS = 4096
#: At a stop idle connections may bring a request for so long: each second more would delay the end by a second.
STOP_LINGER_S = 1.0
#: Exit code of a worker whose end of the wire the application has closed: it cannot send why it ends.
CUT_OFF = 76  # EX_PROTOCOL of sysexits.h
#: A worker sends each of its messages once at most. More of them are a flood, which would keep its master busy.
MAX_MESSAGES = 3


@dataclass(frozen=True, slots=True)
class Ready:
    """Worker to master: the application has started and connections are being accepted."""

    interface: str  #: what the application speaks


@dataclass(frozen=True, slots=True)
class Failed:
    """Worker to master: it cannot boot, and exits; or it serves, and is to be replaced."""

    reason: str  #: one line, of REASON_CHARACTERS at most


@dataclass(frozen=True, slots=True)
class Leaving:
    """Worker to master: it got TERM, not from the master, and has begun to drain."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Master to worker: accept no more, finish what is begun, leave."""

    grace_s: float  #: then what still runs is cancelled
    linger_s: float  #: how long idle connections may still bring a request, to be answered with `Connection: close`


@dataclass(frozen=True, slots=True)
class Reopen:
    """Master to worker: log files were rotated; open them by name again."""


FromWorker: TypeAlias = Ready | Failed | Leaving
FromMaster: TypeAlias = Drain | Reopen
_Message = TypeVar("_Message", FromWorker, FromMaster)


def encode(message: FromWorker | FromMaster) -> bytes:
    """Return the message as one line."""
    return json.dumps({"is": _name(type(message)), **asdict(message)}).encode() + b"\n"


def from_worker(half_read: str = "") -> "Decoder[FromWorker]":
    """Return the decoder of a master, which may have read the beginning of a message already."""
    return Decoder((Ready, Failed, Leaving), half_read, MAX_MESSAGES)


def from_master() -> "Decoder[FromMaster]":
    """Return the decoder of a worker."""
    return Decoder((Drain, Reopen))


class Decoder(Generic[_Message]):
    """Messages of `kinds` out of a byte stream, however it was cut up.

    Where anything else has come, the stream is garbled and stays so: what was read is kept, and fails again.
    """

    def __init__(self, kinds: Iterable[type[_Message]], half_read: str = "", most: float = inf) -> None:
        """`most` is how many messages may come."""
        self._kinds: dict[str, type[_Message]] = {_name(kind): kind for kind in kinds}
        self._left = most
        self._rest = half_read.encode("latin-1")

    @property
    def half_read(self) -> str:
        """The beginning of a message whose end has not come."""
        return self._rest.decode("latin-1")

    def feed(self, data: bytes) -> list[_Message]:
        """Return the messages that `data` completes; raises ValueError on what no asgid of this version writes."""
        self._rest += data
        *lines, rest = self._rest.split(b"\n")
        for line in (*lines, rest):
            if len(line) > MAX_BYTES:
                raise ValueError(f"no message on the wire is so long: {line[:80]!r}...")
        if len(lines) > self._left:
            raise ValueError(f"no more than {MAX_MESSAGES} messages come from a worker: {lines[-1][:80]!r}")
        messages = [self._decode(line) for line in lines]
        self._rest, self._left = rest, self._left - len(lines)
        return messages

    def _decode(self, line: bytes) -> _Message:
        try:
            values = json.loads(line)
            message = self._kinds[values.pop("is")](**values)
            if _is_typed(message):
                return message
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):  # the last: brackets in brackets
            pass
        raise ValueError(f"no such message on the wire: {line[:80]!r}")


def _name(kind: type) -> str:
    return kind.__name__.lower()


def _is_typed(message: FromWorker | FromMaster) -> bool:
    """Whether every field has its type, and no text is longer than a reason: neither JSON nor a dataclass asks."""
    values = [(getattr(message, field.name), field.type) for field in fields(message)]
    return all(type(value) is kind and len(str(value)) <= REASON_CHARACTERS for value, kind in values)
