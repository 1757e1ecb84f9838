"""The start and end of a worker process: fork, the reset of inherited state, and reaping. The only module that forks.

The child keeps its end of the lifeline, the listening sockets and the file for its stacks. It closes every other
descriptor of asgid, above all the master's ends of its siblings' lifelines. While any process holds that end open, a
sibling does not notice the death of the master. Descriptors that other code has opened in this process stay open.
"""

import atexit
import gc
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import NoReturn

from asgid import descriptors, faults, pipes, wire
from asgid.assignment import DUMP, STARTUP_WAITS, Assignment, WorkerMain
from asgid.board import Board
from asgid.command_signals import COMMANDS
from asgid.errors import ExitCode, UnavailableError
from asgid.master.system import terminal
from asgid.master.system.signals import SIGNALS
from asgid.pipes import PipeEnd
from asgid.wire import Decoder, FromWorker, from_worker

#: Signals of the master that a worker ignores: all but TERM.
_WORKER_IGNORES = (*(signum for signum in COMMANDS if signum != signal.SIGTERM), DUMP)
_JOB_CONTROL = (signal.SIGTTIN, signal.SIGTTOU)
#: The frames below the fork in a stack of faulthandler, innermost first. They belong to the master, not to the worker.
_FORK_FRAMES = re.compile(rf'  File "{re.escape(__file__)}", line \d+ in _run_child\n(?:  File .*\n)*')

#: The first line that faulthandler writes at ABRT.
_ABORT_HEADER = "Fatal Python error: Aborted"
#: Matches the stack of a pool thread that waits for work.
_IDLE_THREAD = re.compile(
    r'\(most recent call first\):\n  File ".*/concurrent/futures/thread\.py", line \d+ in _worker'
)


@dataclass(slots=True)
class Child:
    """A worker process and the master's descriptors for it."""

    slot: int
    generation: int
    pid: int
    started_at: float
    lifeline: PipeEnd
    last_words_fd: int  #: a memory file that faulthandler writes to
    decoder: Decoder[FromWorker] = field(default_factory=from_worker)
    interface: str = ""  #: of its application; known once it is ready
    has_sent_invalid_message: bool = False

    def read_last_words(self) -> str:
        """Return the stacks that the worker wrote when a signal ended it; "" if it wrote none."""
        dump = _FORK_FRAMES.sub("", os.pread(self.last_words_fd, 65536, 0).decode(errors="replace"))
        if dump.startswith(STARTUP_WAITS):  # the event loop's own thread adds nothing: it only waits for the startup
            where, _, stacks = dump.partition(_ABORT_HEADER)
            threads = [
                part for part in stacks.split("\n\n") if part.startswith("Thread ") and not _IDLE_THREAD.search(part)
            ]
            dump = "\n\n".join([where.strip(), *threads])
        return dump.strip()

    def close(self) -> None:
        self.lifeline.close()
        os.close(self.last_words_fd)


@dataclass(frozen=True)
class ExitedProcess:
    """A reaped process: its exit code or minus its signal, and the CPU seconds that it used."""

    pid: int
    status: int
    cpu_s: float


def fork_worker(
    slot: int,
    started_at: float,
    assign: Callable[[PipeEnd, int], Assignment],
    worker: WorkerMain,
    confine: Callable[[int], Board] | None = None,
) -> Child:
    """Fork a worker, and return it; the child never returns.

    `assign` is called with the worker's end of the lifeline and the descriptor of the stack dump, and returns the
    assignment. `confine` is called in the child with the slot, and returns the board that the child may write to; None
    leaves the assigned one. Raises OSError if the system has no process or descriptor left; nothing stays open then.
    """
    with ExitStack() as undo:
        ours, theirs = pipes.pair()
        undo.callback(ours.close)
        undo.callback(theirs.close)
        last_words_fd = descriptors.own(os.memfd_create("asgid-last-words"))
        undo.callback(os.close, last_words_fd)
        assignment = assign(theirs, last_words_fd)
        _flush_streams()  # otherwise parent and child would each write the buffered text
        # A signal between the fork and the child's own handlers may neither be lost nor run the master's handlers.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                _run_child(assignment, worker, confine)
        finally:  # also after a fork that failed: a master with blocked signals could not be stopped
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        undo.pop_all()
    theirs.close()
    ours.set_nonblocking()
    return Child(slot, assignment.generation, pid, started_at, ours, last_words_fd)


def has_exited_child() -> bool:
    """Return whether a child has exited that is not reaped yet."""
    with suppress(ChildProcessError):
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return False


def reap() -> Iterator[ExitedProcess]:
    """Yield every process that has exited. As PID 1 the master also reaps orphans, which it did not start."""
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield ExitedProcess(pid, os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime)


def _run_child(assignment: Assignment, worker: WorkerMain, confine: Callable[[int], Board] | None) -> NoReturn:
    """Run the worker from the fork to the exit. No frame of the master below this one is ever resumed."""
    code = int(ExitCode.INTERNAL)
    try:
        if confine:
            assignment = replace(assignment, board=confine(assignment.slot))
        _reset_inherited(assignment)
        faults.enable(assignment.last_words_fd)
        try:
            code = worker(assignment)
        finally:
            try:
                _save_coverage()  # before its exit handler, which only stops it
            finally:
                # The exit handlers of the application, and those of agents that were loaded before asgid. The master
                # runs its copy of the latter at its own exit.
                atexit._run_exitfuncs()  # noqa: SLF001 - as multiprocessing does in its children
    except UnavailableError as error:
        assignment.lifeline.write(wire.encode(wire.Failed(str(error))))
        code = int(ExitCode.NO_WORKER)
    except BaseException:  # noqa: BLE001 - the border of the process: the error is printed, and goes no further
        traceback.print_exc()
    finally:
        try:
            _flush_streams()
        finally:  # whatever happens above: a child that went on would be a second master
            # No destructors: they would close and flush objects of the master.
            os._exit(code)


def _ignore(_signum: int, _frame: object) -> None:
    """Do nothing: the signal was meant for the master."""


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # its reader is gone, it is closed, or the application has replaced it
            stream.flush()


def _save_coverage() -> None:
    """Save the data of `coverage run`: it has no exit handler for that, and a worker never returns to it."""
    library = getattr(sys.modules.get("coverage"), "Coverage", None)
    if current := getattr(library, "current", lambda: None)():  # a module of the application may have that name
        current.save()


def _reset_inherited(assignment: Assignment) -> None:
    """Drop the state of the master that a fork copies: signal handlers, descriptors, children, garbage."""
    signal.set_wakeup_fd(-1)
    if assignment.config.process.user or assignment.config.process.group:
        terminal.leave_terminal()
    has_terminal = terminal.has_terminal()
    for signum in _WORKER_IGNORES:
        # Not SIG_IGN: every program that the application starts would inherit it, and could not be interrupted. The
        # exceptions are signals that a terminal sends to a background group that reads, or writes under `stty tostop`.
        # With a handler the kernel restarts the call and sends the signal again, forever (tcsetattr(3), setpgid(2)).
        signal.signal(signum, signal.SIG_IGN if has_terminal and signum in _JOB_CONTROL else _ignore)
        signal.siginterrupt(signum, False)
    # While a worker boots, TERM ends it at once: it has accepted no connection yet.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    listeners = (one.fd for one in assignment.listeners)
    lifeline = assignment.lifeline
    descriptors.close_all_but((lifeline.reader, lifeline.writer, assignment.last_words_fd, *listeners))
    if "multiprocessing.process" in sys.modules:  # an agent's: its exit handler would end children of the master
        sys.modules["multiprocessing.process"]._children.clear()  # noqa: SLF001 - as multiprocessing does
    # Keep the master's objects, unused: collecting them would close descriptor numbers that now belong to other files.
    gc.freeze()
