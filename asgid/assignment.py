"""What a worker is born with: the one value that passes from the master to a worker, by fork.

Both halves know this file and no other of each other's, so a test can hand the master a worker that crashes, sleeps or
ignores signals, and hand the worker an assignment that no master made.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from asgid.board import Board, Row, counting
from asgid.config import Config


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound, listening socket that the master holds; `fd` is open in the worker too."""

    name: str  #: the label in metrics and logs
    fd: int
    backlog: int
    proxy_protocol: str = "off"  #: as in [[listen]]


@dataclass(frozen=True, slots=True)
class Assignment:
    """One worker's place and work."""

    slot: int
    generation: int
    config: Config
    listeners: tuple[Listener, ...]
    lifeline_fd: int  #: the worker's end of the wire; its end of stream means that the master is gone
    last_words_fd: int  #: a memory file for stacks; the master reads it when the worker has ended
    board: Board  #: the slot's row is the worker's to write, and no other; those show how its siblings fare

    @property
    def row(self) -> Row:
        return counting(self.board.row(self.slot))


#: Runs one worker to its end and returns the exit code of its process.
WorkerMain: TypeAlias = Callable[[Assignment], int]

#: Asks a worker that serves for the stack of what it is doing. Real-time signals are used by no application.
DUMP = signal.SIGRTMIN

#: Begins the last words of a worker that was ended while its startup awaited something.
WAITS = "the startup waits here:"
