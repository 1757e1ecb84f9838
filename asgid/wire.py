"""The wire: the few small messages between the master and a worker, JSON, one a line, over one socketpair a worker.

What a worker is *doing* stands on the board; the wire only carries what *happened* and what is *wanted*. That the other
side is gone is not a message: it is the end of the stream.
"""

import json
from dataclasses import asdict, dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Ready:
    """Worker to master: the application has started and connections are being accepted."""

    interface: str  #: what the application speaks


@dataclass(frozen=True, slots=True)
class Failed:
    """Worker to master: it cannot boot, for `reason` (one line); its exit follows."""

    reason: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Master to worker: accept no more, finish what is begun, leave."""

    grace_s: float  #: then what still runs is cancelled
    linger_s: float  #: how long idle connections may still bring a request, to be answered with `Connection: close`


@dataclass(frozen=True, slots=True)
class Reopen:
    """Master to worker: log files were rotated; open them by name again."""


Message: TypeAlias = Ready | Failed | Drain | Reopen
_KINDS: dict[str, type[Message]] = {kind.__name__.lower(): kind for kind in (Ready, Failed, Drain, Reopen)}


def encode(message: Message) -> bytes:
    """Return the message as one line."""
    return json.dumps({"is": type(message).__name__.lower(), **asdict(message)}).encode() + b"\n"


class Decoder:
    """Lines out of a byte stream, however it was cut up."""

    def __init__(self, half_read: str = "") -> None:
        self._rest = half_read.encode("latin-1")

    @property
    def half_read(self) -> str:
        """The beginning of a message whose end has not come."""
        return self._rest.decode("latin-1")

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that `data` completes; raises ValueError on what no asgid of this version writes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [_decode(line) for line in lines]


def _decode(line: bytes) -> Message:
    try:
        fields = json.loads(line)
        return _KINDS[fields.pop("is")](**fields)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(f"no such message on the wire: {line[:80]!r}") from None
