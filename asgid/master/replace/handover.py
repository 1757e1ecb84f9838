"""The handover of an upgrade in place: the state that the old program passes to the new one, as JSON and back.

The process keeps its pid and its open descriptors; the handover holds everything else. Its reader may be an older or a
newer version, so unknown fields are ignored, and a new field has a default. Field names are the keys of the JSON: to
rename one takes a new FORMAT. This file replaces no program and opens no descriptor.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from asgid import __version__, board
from asgid.master.net.listener_state import ListenerState
from asgid.master.status.history import StatusHistory
from asgid.master.supervision.state import SupervisorState
from asgid.master.workers.process_state import ProcessState

FORMAT = 1


@dataclass(frozen=True)
class Handover:
    """The whole state. Descriptors are open in the new program under the same numbers."""

    config: str  #: the settings in force, as a complete file
    generation: int  #: the highest number in use
    supervisor: SupervisorState
    children: tuple[ProcessState, ...]
    listeners: tuple[ListenerState, ...]
    history: StatusHistory
    board_fd: int
    endpoint_fd: int | None
    pid_file_fd: int | None
    inherited: Mapping[str, list[int]]  #: systemd's sockets, by name
    outlives_terminal: bool = False  #: whether nohup(1) started the first program
    version: str = __version__
    format: int = FORMAT
    layout: Mapping[str, Any] = field(default_factory=lambda: board.LAYOUT)

    @property
    def descriptors(self) -> list[int]:
        """Every descriptor that must stay open."""
        fixed = [self.board_fd, self.endpoint_fd, self.pid_file_fd]
        children = [
            fd for child in self.children for fd in (child.lifeline_fd, child.lifeline_writer_fd, child.stack_dump_fd)
        ]
        sockets = [listener.fd for listener in self.listeners] + [fd for fds in self.inherited.values() for fd in fds]
        return [fd for fd in fixed if fd is not None] + children + sockets


def receipt(left: Handover) -> str:
    """Return the receipt of a trial: its version and a part of the handover, as proof that it was read."""
    workers = [worker.slot for worker in left.supervisor.workers]
    read = {"generation": left.generation, "workers": workers, "descriptors": left.descriptors}
    return json.dumps({"version": __version__, "read": read})


def is_receipt_for(left: Handover, answer: str) -> bool:
    """Return whether `answer`, from a trial of any version, is the receipt for this handover."""
    try:
        given = json.loads(answer)
        return bool(given["version"]) and given["read"] == json.loads(receipt(left))["read"]
    except (KeyError, TypeError, ValueError):
        return False


def encode(handover: Handover) -> str:
    """Return the handover as one line of JSON; `Infinity` is a deadline that never comes."""
    return json.dumps(asdict(handover), default=list)


def decode(text: str) -> Handover:
    """Return the handover that `encode` of any version wrote. Raises ValueError with the part that is not usable."""
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - memory, which most masters never need

    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise ValueError(f"the handover has format {document['format']}, this version reads {FORMAT}")
        if part := board.layout_difference(document["layout"]):
            raise ValueError(f"the board has another layout: {part}")
        return TypeAdapter(Handover).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is not a handover: {error!r}") from error
