"""The assignment: the value that a worker receives from the master, by fork.

Master and worker share this file, `wire.py` and `board.py`, and know no other file of each other. So a test can give
the master a worker that crashes, sleeps or ignores signals, and give the worker an assignment without a master.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from asgid.board import Board, Row, counting
from asgid.config import Config
from asgid.pipes import PipeEnd


@dataclass(frozen=True)
class Listener:
    """A listening socket as the worker receives it; `fd` is open in master and worker."""

    name: str  #: the label in metrics and logs
    fd: int
    backlog: int
    proxy_protocol: str = "off"  #: the setting of [[listen]]


@dataclass(frozen=True)
class Assignment:
    """The slot, the settings and the descriptors of one worker."""

    slot: int
    generation: int
    config: Config
    listeners: tuple[Listener, ...]
    lifeline: PipeEnd  #: the worker's end of the wire; end of stream means that the master has ended
    last_words_fd: int  #: a memory file for stacks; the master reads it after the worker has ended
    board: Board  #: only the row of the slot is writable; the others show the load of the siblings

    @property
    def row(self) -> Row:
        return counting(self.board.row(self.slot))


#: Runs one worker to its end and returns the exit code of its process.
WorkerMain: TypeAlias = Callable[[Assignment], int]

#: The signal for a stack of a serving worker. Applications do not use real-time signals.
DUMP = signal.SIGRTMIN

#: The first line in the memory file for stacks, if the worker was ended while its startup awaited something.
STARTUP_WAITS = "the startup waits here:"
