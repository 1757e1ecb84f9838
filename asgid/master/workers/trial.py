"""Boots an application once, in a worker that is thrown away: `asgid check --boot` tries a deployment in advance.

The worker is a real one, with the user, import, environment and lifespan of the settings. It has no listening socket,
and logs to standard error: the check creates no log file that its user would own. A signal that ends the check ends the
worker, too.
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

#: The signals that end a tool in a terminal, a build or a shell. A worker ignores most of them; a blocked one, all.
_TERMINATING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
#: poll(2) takes 2**31 milliseconds, 24.8 days; Python raises OverflowError above that.
_MAX_POLL_S = 86_400.0
_EXIT_S = 1.0  # for a worker that has failed or was sent ABRT: to write its stacks and exit


def boot_once(config: Config, worker: WorkerMain) -> str:
    """Return the interface of the application. Raises BootError with the reason if the worker cannot boot, or not exit.

    Takes at most `timeouts.boot`, `graceful` and `kill`, and two seconds. Raises OSError if the fork fails.
    """
    started_at = time.monotonic()
    own = _with_log_on_stderr(config)
    board = Board(bytearray(BYTES))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _TERMINATING)  # until there is a worker to end
    try:
        child = fork_worker(
            0, started_at, lambda lifeline, dump: Assignment(0, 0, own, (), lifeline, dump, board), worker
        )
        trial = _Trial(child)
        try:
            with _killed_with_us(child.pid, mask):
                timeouts = config.timeouts
                interface = trial.boot(started_at + timeouts.boot)
                trial.drain(timeouts.graceful + timeouts.kill)
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
def _killed_with_us(pid: int, mask: Iterable[int]) -> Iterator[None]:
    """Have a terminating signal kill the worker `pid`, and then this process. Inside, the signal mask is `mask`."""

    def end(signum: int, _frame: FrameType | None) -> None:
        os.kill(pid, signal.SIGKILL)  # the pid is still the worker's: it is reaped after this handler is removed
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    before = {signum: signal.signal(signum, end) for signum in _TERMINATING}
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _TERMINATING)
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _readable(fds: Iterable[int], within_s: float) -> list[int]:
    """Return those of `fds` that are readable within `within_s` seconds, [] if none is.

    Not by select(2), which refuses numbers from 1,024 on: a master of many listeners and workers has them.
    """
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + within_s
    while True:
        left_s = max(0.0, deadline - time.monotonic())
        found = poll.poll(min(left_s, _MAX_POLL_S) * 1000)
        if found or left_s <= _MAX_POLL_S:
            return [fd for fd, _ in found]


class _Trial:
    """One worker, from its boot to its exit."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._process = os.pidfd_open(child.pid)  # readable after its exit

    def boot(self, deadline: float) -> str:
        """Wait until the worker is ready, and return its interface. Raises BootError with the reason if it fails."""
        lifeline = self._child.lifeline
        while True:
            # The process is watched too: a program that the application has started may hold the lifeline open.
            readable = _readable((lifeline.reader, self._process), deadline - time.monotonic())
            if not readable:
                raise BootError("it is not ready within timeouts.boot; it is here:", self._abort())
            data = lifeline.read() if lifeline.reader in readable else b""
            if not data:
                raise BootError(
                    f"the worker ended while it booted, {self._describe_exit()}", self._child.read_last_words()
                )
            try:
                messages = self._child.decoder.feed(data)
            except ValueError as error:  # the application writes to the descriptor of the lifeline
                raise BootError(str(error)) from error
            for message in messages:
                match message:
                    case wire.Ready(interface=interface):
                        return interface
                    case wire.Failed(reason):
                        self._has_exited(_EXIT_S)  # it writes the stack at its exit
                        raise BootError(reason, self._child.read_last_words())

    def drain(self, within_s: float) -> None:
        """Have the worker drain and the application shut down. Raises BootError if either fails or takes too long."""
        self._child.lifeline.close_writer()
        if not self._has_exited(within_s):
            raise BootError(
                "the worker started, but did not exit within timeouts.graceful and kill; it is here:", self._abort()
            )
        how = self._describe_exit()
        if how != "with code 0":
            raise BootError(f"the worker started, but its shutdown ended {how}", self._child.read_last_words())

    def end(self) -> None:
        """Reap the worker. It is killed if it does not exit by itself within a second."""
        if not self._has_exited(_EXIT_S):
            os.kill(self._child.pid, signal.SIGKILL)
        os.waitpid(self._child.pid, 0)
        os.close(self._process)
        self._child.close()

    def _abort(self) -> str:
        """Abort a worker that is late, and return its stacks."""
        os.kill(self._child.pid, signal.SIGABRT)
        self._has_exited(_EXIT_S)
        return self._child.read_last_words() or "(it wrote no stack)"

    def _has_exited(self, within_s: float) -> bool:
        return bool(_readable((self._process,), within_s))

    def _describe_exit(self) -> str:
        if not self._has_exited(_EXIT_S):
            return "or closed its lifeline"
        end = os.waitid(os.P_PIDFD, self._process, os.WEXITED | os.WNOWAIT)
        if end and end.si_code == os.CLD_EXITED and end.si_status == wire.CUT_OFF:
            return "because the application closed its lifeline, as os.closerange() does"
        if end is None or end.si_code == os.CLD_EXITED:
            return f"with code {end.si_status if end else 'unknown'}"
        return f"by {signal.Signals(end.si_status).name}"
