"""What one program leaves to the next when a master is replaced in place: a value, as JSON and back.

The process, its pid and its open descriptors stay; everything else that the old program knew is here. The reader may be
an older or a newer version: fields that it does not know are ignored, one that is added later has a default, and FORMAT
grows only where neither would do. This file does not know how a program is replaced, nor what a descriptor is.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from asgid import __version__, board
from asgid.master.net.listener_state import ListenerState
from asgid.master.status.history import StatusHistory
from asgid.master.supervision.backoff import Backoff
from asgid.master.supervision.lifecycle import ExitReason, Plan, StartReason, Worker

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Standing:
    """The supervisor's part: who lives, and how many are wanted. Nothing is under way when a program gives way."""

    committed: Plan
    workers: tuple[Worker, ...]
    backoff: Backoff
    owed: tuple[StartReason, ...]
    starts: Mapping[StartReason, int]
    exits: Mapping[ExitReason, int]


@dataclass(frozen=True, slots=True)
class ChildPart:
    """A worker's process, as its master holds it."""

    slot: int
    generation: int
    pid: int
    born: float
    lifeline_fd: int
    last_words_fd: int
    half_read: str  #: the beginning of a message that has not come whole yet


@dataclass(frozen=True, slots=True)
class Handover:
    """Everything. Descriptors are open in the next program under the same numbers."""

    config: str  #: the settings in force, as a file that says all of them
    generation: int  #: the newest number given
    standing: Standing
    children: tuple[ChildPart, ...]
    listeners: tuple[ListenerState, ...]
    history: StatusHistory
    board_fd: int
    endpoint_fd: int | None
    pid_file_fd: int | None
    inherited: Mapping[str, list[int]]  #: systemd's sockets, by name
    outlives_terminal: bool = False  #: nohup(1) started the first program
    version: str = __version__
    format: int = FORMAT
    layout: Mapping[str, Any] = field(default_factory=lambda: board.LAYOUT)

    @property
    def descriptors(self) -> list[int]:
        """Return every descriptor that must stay open."""
        fixed = [self.board_fd, self.endpoint_fd, self.pid_file_fd]
        children = [fd for child in self.children for fd in (child.lifeline_fd, child.last_words_fd)]
        sockets = [listener.fd for listener in self.listeners] + [fd for fds in self.inherited.values() for fd in fds]
        return [fd for fd in fixed if fd is not None] + children + sockets


def receipt(left: Handover) -> str:
    """Return what a trial answers that could read the handover: its version, and a part of what it read."""
    workers = [worker.slot for worker in left.standing.workers]
    read = {"generation": left.generation, "workers": workers, "descriptors": left.descriptors}
    return json.dumps({"version": __version__, "read": read})


def is_receipt_for(left: Handover, answer: str) -> bool:
    """Whether the answer of a trial, of any version, is the receipt for this handover."""
    try:
        given = json.loads(answer)
        return bool(given["version"]) and given["read"] == json.loads(receipt(left))["read"]
    except (KeyError, TypeError, ValueError):
        return False


def encode(handover: Handover) -> str:
    """Return the handover as one line of JSON (with `Infinity`, which is never a deadline)."""
    return json.dumps(asdict(handover), default=list)


def decode(text: str) -> Handover:
    """Return what `encode` wrote, in this version or another; raises ValueError that says why it cannot be taken."""
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - memory of masters that never take over

    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise ValueError(f"it hands over in format {document['format']}, this version knows {FORMAT}")
        if part := board.layout_difference(document["layout"]):
            raise ValueError(f"its board has another layout: {part}")
        return TypeAdapter(Handover).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is no handover: {error!r}") from error
