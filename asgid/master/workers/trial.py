"""Boot an application once, in a worker that is thrown away: `asgid check --boot` asks before a deployment does.

The worker is a real one, with the user, import, environment and lifespan of the settings, but without a listening
socket, and what it logs goes to standard error: a check leaves no log file behind that belongs to whoever checked.
What ends the check ends the worker with it.
"""

import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from asgid import wire
from asgid.assignment import Assignment, WorkerMain
from asgid.board import BYTES, Board
from asgid.config import Config
from asgid.errors import BootError
from asgid.master.workers.spawn import Child, fork_worker

#: What ends a tool in a terminal, a build or a shell. A worker ignores most of it, and one that is stuck all of it.
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
#: Begins the reason in the line that `asgid check --boot` prints.
VERDICT = "failed its trial:"
_LEAVING_S = 1.0  # for a worker that has failed, or was sent ABRT, to write what it has to say


def boot_once(config: Config, worker: WorkerMain) -> str:
    """Return what the application speaks; raises BootError that says why it cannot boot, or cannot leave again.

    Takes at most `timeouts.boot`, `graceful` and `kill`, and two seconds. Raises OSError where nothing can be forked.
    """
    born = time.monotonic()
    own = _with_log_on_stderr(config)
    board = Board(bytearray(BYTES))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)  # until there is a worker to end
    try:
        child = fork_worker(0, born, lambda line, words: Assignment(0, 0, own, (), line, words, board), worker)
        trial = _Trial(child)
        try:
            with _ended_together(child.pid, mask):
                timeouts = config.timeouts
                interface = trial.boot(born + timeouts.boot)
                trial.leave(timeouts.graceful + timeouts.kill)
                return interface
        finally:
            trial.end()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _with_log_on_stderr(config: Config) -> Config:
    access = config.log.access.model_copy(update={"enabled": False})
    log = config.log.model_copy(update={"format": "text", "output": "stderr", "access": access})
    return config.model_copy(update={"log": log})


@contextmanager
def _ended_together(pid: int, mask: Iterable[int]) -> Iterator[None]:
    """Have signals end the worker `pid` and then, by their default action, us. `mask` holds inside."""

    def end(signum: int, _frame: FrameType | None) -> None:
        os.kill(pid, signal.SIGKILL)  # nobody else's: it is reaped when this handler is gone
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    before = {signum: signal.signal(signum, end) for signum in _ENDS}
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
        for signum, handler in before.items():
            signal.signal(signum, handler)


class _Trial:
    """One worker, from its boot to its end."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._process = os.pidfd_open(child.pid)  # readable when it has ended

    def boot(self, deadline: float) -> str:
        """Wait until the worker is ready; return what its application speaks. Raises BootError with what it says."""
        lifeline = self._child.lifeline.fileno()
        while True:
            # Of the process too: a program that the application has started may hold the lifeline open.
            patience_s = max(0.0, deadline - time.monotonic())
            readable, _, _ = select.select([lifeline, self._process], [], [], patience_s)
            if not readable:
                raise BootError("it is not ready within timeouts.boot; it is here:", self._abort())
            data = os.read(lifeline, 65536) if lifeline in readable else b""
            if not data:
                raise BootError(
                    f"the worker ended while it booted, {self._how_it_ended()}", self._child.read_last_words()
                )
            try:
                messages = self._child.decoder.feed(data)
            except ValueError as error:  # an application has got hold of the descriptor
                raise BootError(str(error)) from error
            for message in messages:
                match message:
                    case wire.Ready(interface=interface):
                        return interface
                    case wire.Failed(reason):
                        self._has_ended(_LEAVING_S)  # what led there are its last words
                        raise BootError(reason, self._child.read_last_words())

    def leave(self, within_s: float) -> None:
        """Have the worker drain, its application shut down; raises BootError with what was wrong with that."""
        self._child.lifeline.close()
        if not self._has_ended(within_s):
            raise BootError(
                "it boots, but does not leave within timeouts.graceful and kill; it is here:", self._abort()
            )
        how = self._how_it_ended()
        if how != "with code 0":
            raise BootError(f"it boots, but leaves {how}", self._child.read_last_words())

    def end(self) -> None:
        """Reap the worker, which may take a moment to leave by itself."""
        if not self._has_ended(_LEAVING_S):
            os.kill(self._child.pid, signal.SIGKILL)
        os.waitpid(self._child.pid, 0)
        os.close(self._process)
        self._child.close()

    def _abort(self) -> str:
        """Return the stacks of a worker that is late."""
        os.kill(self._child.pid, signal.SIGABRT)
        self._has_ended(_LEAVING_S)
        return self._child.read_last_words() or "(it does not say where)"

    def _has_ended(self, within_s: float) -> bool:
        return bool(select.select([self._process], [], [], within_s)[0])

    def _how_it_ended(self) -> str:
        if not self._has_ended(_LEAVING_S):
            return "or closed its lifeline"
        end = os.waitid(os.P_PIDFD, self._process, os.WEXITED | os.WNOWAIT)
        if end and end.si_code == os.CLD_EXITED and end.si_status == wire.CUT_OFF:
            return "because the application closed its line to the master, as os.closerange() does"
        if end is None or end.si_code == os.CLD_EXITED:
            return f"with code {end.si_status if end else 'unknown'}"
        return f"by {signal.Signals(end.si_status).name}"
