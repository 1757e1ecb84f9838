"""How a worker comes to life and leaves: fork, what a child must forget, and reaping. The only file that forks.

A child keeps its end of the lifeline, the listening sockets and the descriptor for its last words, and closes every
other descriptor of asgid's. Above all the master's ends of the siblings' lifelines: a sibling that held one open would
keep a worker waiting for a master that is dead. What other code has opened in this process stays open.
"""

import atexit
import gc
import os
import re
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import NoReturn

from asgid import descriptors, faults
from asgid.assignment import DUMP, WAITS, Assignment, WorkerMain
from asgid.board import Board
from asgid.command_signals import COMMANDS
from asgid.errors import ExitCode
from asgid.master.system import terminal
from asgid.wire import Decoder, FromWorker, from_worker

#: The signals that mean something to the master; a worker ignores all but TERM.
SIGNALS = (*COMMANDS, signal.SIGCHLD)
_WORKER_IGNORES = (*(signum for signum in COMMANDS if signum != signal.SIGTERM), DUMP)
_JOB_CONTROL = (signal.SIGTTIN, signal.SIGTTOU)
#: In a stack of faulthandler's, innermost call first: the way to the fork, which is the master's and no worker's.
_BENEATH = re.compile(rf'  File "{re.escape(__file__)}", line \d+ in _live\n(?:  File .*\n)*')

#: Begins what faulthandler writes at ABRT.
_DUMP = "Fatal Python error: Aborted"
#: In the stack of a thread that waits for work.
_IDLE = re.compile(r'\(most recent call first\):\n  File ".*/concurrent/futures/thread\.py", line \d+ in _worker')


@dataclass(slots=True)
class Child:
    """What the master holds of one worker's process."""

    slot: int
    generation: int
    pid: int
    born: float
    lifeline: socket.socket
    last_words: int  #: a memory file that faulthandler writes to
    decoder: Decoder[FromWorker] = field(default_factory=from_worker)
    interface: str = ""  #: what its application speaks; known once it is ready
    is_garbled: bool = False  #: something came on the lifeline that no worker sends

    def read_last_words(self) -> str:
        """Return the stacks that the worker wrote when a signal ended it; "" where it wrote none."""
        words = _BENEATH.sub("", os.pread(self.last_words, 65536, 0).decode(errors="replace"))
        if words.startswith(WAITS):  # then the thread of the event loop shows only that this waits
            where, _, dump = words.partition(_DUMP)
            threads = [part for part in dump.split("\n\n") if part.startswith("Thread ") and not _IDLE.search(part)]
            words = "\n\n".join([where.strip(), *threads])
        return words.strip()

    def close(self) -> None:
        self.lifeline.close()
        os.close(self.last_words)


@dataclass(frozen=True, slots=True)
class Death:
    """A reaped process: its exit code or minus its signal, and the CPU seconds it used."""

    pid: int
    status: int
    cpu_s: float


def fork_worker(
    slot: int,
    born: float,
    assign: Callable[[int, int], Assignment],
    worker: WorkerMain,
    confine: Callable[[int], Board] | None = None,
) -> Child:
    """Fork a worker for the assignment that `assign` makes of the descriptors of its lifeline and its last words.

    `confine` is called in the child, and returns the board that it may write to; None if it has one of its own.
    Returns in the master only. Raises OSError where the system has no process or descriptor left; then nothing is left
    open.
    """
    with ExitStack() as undo:
        ours, theirs = (undo.enter_context(descriptors.own_socket(end)) for end in socket.socketpair())
        last_words = descriptors.own(os.memfd_create("asgid-last-words"))
        undo.callback(os.close, last_words)
        assignment = assign(theirs.fileno(), last_words)
        _flush_streams()  # or parent and child would each write what is in the buffers
        # A signal between the fork and the child's own handlers must neither be lost nor run the master's handlers in
        # the child.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                _live(assignment, worker, confine)
        finally:  # where the fork failed, too: a master that stays deaf cannot be stopped
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        undo.pop_all()
    theirs.close()
    ours.setblocking(False)
    return Child(slot, assignment.generation, pid, born, ours, last_words)


def is_any_dead() -> bool:
    """Return whether a child has ended that is not reaped yet."""
    with suppress(ChildProcessError):
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return False


def reap() -> Iterator[Death]:
    """Yield every process that has ended, also those that are not ours: as PID 1 we are handed orphans."""
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield Death(pid, os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime)


def _live(assignment: Assignment, worker: WorkerMain, confine: Callable[[int], Board] | None) -> NoReturn:
    """Be the worker, from the fork to the exit. Nothing that the master had on its stack is ever returned to."""
    code = int(ExitCode.INTERNAL)
    try:
        if confine:
            assignment = replace(assignment, board=confine(assignment.slot))
        _forget(assignment)
        faults.enable(assignment.last_words_fd)
        try:
            code = worker(assignment)
        finally:
            # Those of the application, and those of agents that were in the process before asgid. The master runs its
            # copy of the latter at its own end.
            atexit._run_exitfuncs()  # noqa: SLF001 - as multiprocessing does in its children
    except BaseException:  # noqa: BLE001 - the border of the process: what comes here is told, and ends here
        traceback.print_exc()
    finally:
        try:
            _flush_streams()
        finally:  # also where nobody reads these streams any more: a child that went on would be a second master
            # No destructors: what they would close and flush is the master's.
            os._exit(code)


def _ignore(_signum: int, _frame: object) -> None:
    """Nothing: it was meant for the master."""


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # nobody reads it, it was closed, or it is an object of the application's
            stream.flush()


def _forget(assignment: Assignment) -> None:
    signal.set_wakeup_fd(-1)
    has_terminal = terminal.has_terminal()
    for signum in _WORKER_IGNORES:
        # Not SIG_IGN: that would pass to every program that the application starts, which then cannot be interrupted.
        # Except for what a terminal sends to a background group that reads, or writes under `stty tostop`: with a
        # handler the kernel begins the call again and sends the signal again, forever (tcsetattr(3), setpgid(2)).
        signal.signal(signum, signal.SIG_IGN if has_terminal and signum in _JOB_CONTROL else _ignore)
        signal.siginterrupt(signum, False)
    # While it boots, TERM ends a worker at once: it has accepted nothing that could be lost.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    listeners = (one.fd for one in assignment.listeners)
    descriptors.close_all_but((assignment.lifeline_fd, assignment.last_words_fd, *listeners))
    if "multiprocessing.process" in sys.modules:  # an agent's: its exit handler would end the master's children
        sys.modules["multiprocessing.process"]._children.clear()  # noqa: SLF001 - as multiprocessing does
    # The master's objects stay where they are, unused: collecting them would close descriptors that are somebody else's
    # by now.
    gc.freeze()
