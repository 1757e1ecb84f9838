"""Replacing the program in place: the trial of the new one, and the step into it. The only file that runs a program.

The trial is `asgid check --boot` of whatever is on disk now: a process beside this one, which reads the file, boots the
application once, and answers with a receipt for what it would be handed. Exit code 0 alone proves nothing: any script
can end with it. After the receipt the new program is executed in this process: pid, parent, children and descriptors
stay, and so do signals that wait. This file does not know when.
"""

import os
import selectors
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fcntl import F_GETPIPE_SZ, fcntl
from typing import NoReturn

from asgid import descriptors, pydantic_plugins
from asgid.errors import ExitCode, UnavailableError
from asgid.log import Log
from asgid.master.replace import handover
from asgid.master.replace.handover import Handover
from asgid.master.supervision.steps import EndTrial, UpgradeRefused
from asgid.master.workers.spawn import SIGNALS, Death
from asgid.master.workers.trial import VERDICT

#: Names the descriptor of the handover to the program that is executed.
HANDOVER_VARIABLE = "ASGID_HANDOVER"
#: The trial's copy of it; the first that is not a standard stream.
TRIAL_FD = 3
_KEPT_BYTES = 16384  # of what the trial prints
_RECEIPT_BYTES = 65536  # more than 500 workers and their descriptors take


@dataclass(frozen=True, slots=True)
class Command:
    """How the program on disk is run: in this one's place, and for a trial that finds a handover at TRIAL_FD."""

    command: tuple[str, ...]
    trial: tuple[str, ...]
    place: str = ""  #: the working directory of both, which may be a link that leads elsewhere by then


@dataclass(frozen=True, slots=True)
class _TrialHandover:
    """A handover in a memory file of its own; the trial puts its receipt behind it."""

    left: Handover
    memory: int
    size: int


class NewProgram:
    """The new program: first beside this one, on trial, then in its place. Logs what becomes of it."""

    def __init__(self, program: Command, selector: selectors.BaseSelector, log: Log) -> None:
        self._program, self._selector, self._log = program, selector, log
        self._pid: int | None = None  # of the trial that runs
        self._reader = -1
        self._trial_handover: _TrialHandover | None = None  # to the trial that runs
        self._printed = b""
        self._output = ""  # what the last trial had printed, until it is logged

    @property
    def name(self) -> str:
        """What is executed."""
        return self._program.command[0]

    def start_trial(self, left: Handover) -> None:
        """Run a trial of it, with a handover to read. Raises OSError where it cannot be run."""
        with ExitStack() as undo, ExitStack() as ours:
            memory = _to_memfd(left)
            undo.callback(os.close, memory)
            reader, writer = os.pipe()
            self._reader = descriptors.own(reader)
            ours.callback(os.close, writer)
            undo.callback(os.close, self._reader)
            with _working_in(self._program.place):
                self._pid = os.posix_spawnp(
                    self._program.trial[0],
                    self._program.trial,
                    os.environ,
                    file_actions=[
                        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_DUP2, writer, 1),
                        (os.POSIX_SPAWN_DUP2, writer, 2),
                        (os.POSIX_SPAWN_DUP2, memory, TRIAL_FD),
                    ],
                    setsigmask=(),
                    setsigdef=SIGNALS,
                )
            undo.pop_all()
        self._trial_handover = _TrialHandover(left, memory, os.fstat(memory).st_size)
        self._printed = b""
        os.set_blocking(self._reader, False)
        self._selector.register(self._reader, selectors.EVENT_READ, self._read)
        self._log.info("upgrade begun", trial_pid=self._pid, command=" ".join(self._program.trial))

    def signal_trial(self, step: EndTrial) -> None:
        """Signal the trial, where it is not reaped yet."""
        if self._pid is not None:
            self._log.warning("trial signalled", trial_pid=self._pid, signal=step.signum.name, reason=step.why)
            os.kill(self._pid, step.signum)

    def trial_ended(self, death: Death) -> str | None:
        """Return what was wrong with the trial, "" for nothing; None where it was another process that ended."""
        if death.pid != self._pid:
            return None
        self._read(selectors.EVENT_READ)  # what it printed last; one read takes all that the pipe holds
        with suppress(KeyError):
            self._selector.unregister(self._reader)
        os.close(self._reader)
        self._pid = None
        has_receipt = self._take_back()
        if not death.status and has_receipt:
            return ""
        if not death.status:
            self._output = self._printed.decode(errors="replace").strip()
            return f"{self.name} ended its trial without a receipt for the handover: it is not an asgid that can go on"
        how = f"exited with code {death.status}" if death.status > 0 else f"was ended by signal {-death.status}"
        # A fault of the settings is named in the first lines, one of a boot beside the verdict, another in the last.
        self._output = self._printed.decode(errors="replace").strip()
        lines = self._output.splitlines()
        verdict = [line for line in lines if VERDICT in line] if death.status == ExitCode.NO_WORKER else []
        summary = verdict or (lines[:2] if death.status == ExitCode.CONFIG else lines[-1:])
        return ": ".join([f"its trial {how}", *map(str.strip, summary)])

    def log_refusal(self, step: UpgradeRefused) -> None:
        told, self._output = self._output, ""
        self._log.error("upgrade refused", reason=step.reason, **({"printed": told} if "\n" in told else {}))

    def execute(self, left: Handover, variables: Mapping[str, str]) -> NoReturn:
        """Become it, with `variables` added to its environment. Raises OSError where that cannot be; then all is as it
        was.
        """
        self._log.info("replacing the program", command=" ".join(self._program.command))
        memory = _to_memfd(left)
        kept = [*left.descriptors, memory]
        try:
            for fd in kept:
                os.set_inheritable(fd, True)
            environ = {**os.environ, **variables, HANDOVER_VARIABLE: str(memory)}
            with _working_in(self._program.place):
                os.execvpe(self.name, self._program.command, environ)  # noqa: S606 - the command that started us
        finally:
            for fd in kept:
                os.set_inheritable(fd, False)
            os.close(memory)

    def _take_back(self) -> bool:
        """Close the file of the handover; return whether the trial has put its receipt behind it."""
        if self._trial_handover is None:
            raise AssertionError("a trial has ended that was lent no handover")
        lent, self._trial_handover = self._trial_handover, None
        try:
            answer = os.pread(lent.memory, _RECEIPT_BYTES, lent.size)
        finally:
            os.close(lent.memory)
        return handover.is_receipt_for(lent.left, answer.decode(errors="replace"))

    def _read(self, _mask: int) -> None:
        try:
            data = os.read(self._reader, fcntl(self._reader, F_GETPIPE_SZ))
        except BlockingIOError:  # a program that it has started may hold the other end
            return
        if not data:  # it has closed its streams, and may go on: a pipe at its end stays readable
            with suppress(KeyError):
                self._selector.unregister(self._reader)
        self._printed = (self._printed + data)[-_KEPT_BYTES:]


@contextmanager
def _working_in(place: str) -> Iterator[None]:
    """Be in the directory that `place` leads to now, and be back afterwards; stay here if it leads nowhere."""
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            os.chdir(place)
        yield
    finally:
        os.fchdir(here)
        os.close(here)


def read_inherited(environ: MutableMapping[str, str]) -> Handover | None:
    """Return what the program before this one has left to it, None at an ordinary start. Raises UnavailableError."""
    number = environ.pop(HANDOVER_VARIABLE, None)
    if number is None:
        return None
    try:
        left = read_handover(int(number))
        for fd in left.descriptors:
            os.set_inheritable(fd, False)
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"{HANDOVER_VARIABLE} is for asgid itself to set, and does not lead to a handover: {error}"
        ) from error
    os.close(int(number))
    return left


def read_handover(fd: int) -> Handover:
    """Return the handover in the memory file `fd`. Raises OSError, and ValueError with what cannot be taken over."""
    text = os.pread(fd, os.fstat(fd).st_size, 0).decode().partition("\n")[0]
    with pydantic_plugins.disabled():
        return handover.decode(text)


def write_receipt(fd: int) -> None:
    """Put the receipt behind the handover in the memory file `fd`, for the running program. Raises as `read` does."""
    answer = handover.receipt(read_handover(fd))
    os.pwrite(fd, f"\n{answer}".encode(), os.fstat(fd).st_size)


def _to_memfd(left: Handover) -> int:
    fd = descriptors.own(os.memfd_create("asgid-handover"))
    os.write(fd, handover.encode(left).encode())
    return fd
