"""The new program of an upgrade in place: its trial, then execve(2) into it. No other file executes a program.

The trial runs `asgid check --boot` with the program that is on disk now. It reads the configuration file, boots the
application once, and writes a receipt for the handover. Exit code 0 alone proves nothing: any script can return it.
After the receipt this process executes the new program and keeps its pid, parent, children, open descriptors and
pending signals. This file does not know when an upgrade happens.
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
from asgid.master.supervision.steps import SignalTrial, UpgradeRefused
from asgid.master.system.signals import SIGNALS
from asgid.master.workers.spawn import ExitedProcess

#: The line of `asgid check --boot` that has the reason begins with this.
FAILURE_PREFIX = "failed its trial:"
#: The environment variable with the descriptor of the handover, for the executed program.
HANDOVER_VARIABLE = "ASGID_HANDOVER"
#: The descriptor of the handover in the trial: the first that is not a standard stream.
TRIAL_FD = 3
_MAX_OUTPUT_BYTES = 16384  # that are kept of the output of a trial
_MAX_RECEIPT_BYTES = 65536  # more than 500 workers and their descriptors take


@dataclass(frozen=True)
class Command:
    """The command lines of the program on disk: one that replaces this program, one for a trial (see TRIAL_FD)."""

    argv: tuple[str, ...]
    trial_argv: tuple[str, ...]
    directory: str = ""  #: working directory of both; it may be a link, which is followed at each run


@dataclass(frozen=True)
class _TrialHandover:
    """The handover in a memory file of the trial, which appends its receipt."""

    handover: Handover
    fd: int
    size: int


class NewProgram:
    """The program on disk: first a trial beside this process, then executed in this process. Logs each event."""

    def __init__(self, command: Command, selector: selectors.BaseSelector, log: Log) -> None:
        self._command, self._selector, self._log = command, selector, log
        self._pid: int | None = None  # of the running trial
        self._reader = -1  # of its output
        self._trial_handover: _TrialHandover | None = None
        self._received = b""  # its output so far
        self._output = ""  # all output of the last trial, until it is logged

    @property
    def name(self) -> str:
        """The file that is executed."""
        return self._command.argv[0]

    def start_trial(self, left: Handover) -> None:
        """Start a trial that can read the handover.

        Raises OSError if the program cannot be executed, and UnavailableError without /dev/null.
        """
        with ExitStack() as undo, ExitStack() as always:
            memory = _to_memfd(left)
            undo.callback(os.close, memory)
            reader, writer = os.pipe()
            self._reader = descriptors.own(reader)
            always.callback(os.close, writer)
            undo.callback(os.close, self._reader)
            null = descriptors.open_null(os.O_RDONLY, "a trial of a new program")
            always.callback(os.close, null)
            with _working_in(self._command.directory):
                self._pid = os.posix_spawnp(
                    self._command.trial_argv[0],
                    self._command.trial_argv,
                    os.environ,
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, null, 0),
                        (os.POSIX_SPAWN_DUP2, writer, 1),
                        (os.POSIX_SPAWN_DUP2, writer, 2),
                        (os.POSIX_SPAWN_DUP2, memory, TRIAL_FD),
                    ],
                    setsigmask=(),
                    setsigdef=SIGNALS,
                )
            undo.pop_all()
        self._trial_handover = _TrialHandover(left, memory, os.fstat(memory).st_size)
        self._received = b""
        os.set_blocking(self._reader, False)
        self._selector.register(self._reader, selectors.EVENT_READ, self._read)
        self._log.info("upgrade started", trial_pid=self._pid, command=" ".join(self._command.trial_argv))

    def signal_trial(self, step: SignalTrial) -> None:
        """Send a signal to the trial, unless it has been reaped."""
        if self._pid is not None:
            self._log.warning(
                "trial of new program signalled", trial_pid=self._pid, signal=step.signum.name, reason=step.reason
            )
            os.kill(self._pid, step.signum)

    def trial_ended(self, process: ExitedProcess) -> str | None:
        """Return the reason to refuse the program, "" after a good trial; None if another process has ended."""
        if process.pid != self._pid:
            return None
        self._read(selectors.EVENT_READ)  # the last output; one read empties the pipe
        with suppress(KeyError):
            self._selector.unregister(self._reader)
        os.close(self._reader)
        self._pid = None
        has_receipt = self._collect_receipt()
        if not process.status and has_receipt:
            return ""
        self._output = self._received.decode(errors="replace").strip()
        if not process.status:
            return f"{self.name} wrote no receipt for the handover in its trial: it is not an asgid that can take over"
        how = f"exited with code {process.status}" if process.status > 0 else f"was ended by signal {-process.status}"
        # An error in the settings is in the first lines, and a failed boot in the line of the verdict. Any other error
        # is in the last line.
        lines = self._output.splitlines()
        verdict = [line for line in lines if FAILURE_PREFIX in line] if process.status == ExitCode.NO_WORKER else []
        summary = verdict or (lines[:2] if process.status == ExitCode.CONFIG else lines[-1:])
        return ": ".join([f"its trial {how}", *map(str.strip, summary)])

    def log_refusal(self, step: UpgradeRefused) -> None:
        output, self._output = self._output, ""
        self._log.error("upgrade refused", reason=step.reason, **({"printed": output} if "\n" in output else {}))

    def execute(self, left: Handover, variables: Mapping[str, str]) -> NoReturn:
        """Execute the program in this process, with `variables` in its environment.

        Raises OSError if execve(2) fails; this process is then unchanged.
        """
        self._log.info("replacing the program", command=" ".join(self._command.argv))
        memory = _to_memfd(left)
        kept = [*left.descriptors, memory]
        try:
            for fd in kept:
                os.set_inheritable(fd, True)
            environ = {**os.environ, **variables, HANDOVER_VARIABLE: str(memory)}
            with _working_in(self._command.directory):
                os.execvpe(self.name, self._command.argv, environ)  # noqa: S606 - the command that started this process
        finally:
            for fd in kept:
                os.set_inheritable(fd, False)
            os.close(memory)

    def _collect_receipt(self) -> bool:
        """Return whether the trial has written its receipt, and close the memory file."""
        if self._trial_handover is None:
            raise AssertionError("a trial without a handover has ended")
        trial, self._trial_handover = self._trial_handover, None
        try:
            answer = os.pread(trial.fd, _MAX_RECEIPT_BYTES, trial.size)
        finally:
            os.close(trial.fd)
        return handover.is_receipt_for(trial.handover, answer.decode(errors="replace"))

    def _read(self, _mask: int) -> None:
        try:
            data = os.read(self._reader, fcntl(self._reader, F_GETPIPE_SZ))
        except BlockingIOError:  # a child of the trial may hold the other end open
            return
        if not data:  # the trial has closed its output but may run on; a pipe at its end stays readable
            with suppress(KeyError):
                self._selector.unregister(self._reader)
        self._received = (self._received + data)[-_MAX_OUTPUT_BYTES:]


@contextmanager
def _working_in(directory: str) -> Iterator[None]:
    """Change to `directory` inside, and back afterwards. If it does not exist, stay in the current one."""
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            os.chdir(directory)
        yield
    finally:
        os.fchdir(here)
        os.close(here)


def read_inherited(environ: MutableMapping[str, str]) -> Handover | None:
    """Return the handover of the program before this one; None at an ordinary start. Raises UnavailableError."""
    number = environ.pop(HANDOVER_VARIABLE, None)
    if number is None:
        return None
    try:
        left = read_handover(int(number))
        for fd in left.descriptors:
            os.set_inheritable(fd, False)
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"{HANDOVER_VARIABLE} does not lead to a handover: {error}; asgid sets it, remove it from the environment"
        ) from error
    os.close(int(number))
    return left


def read_handover(fd: int) -> Handover:
    """Return the handover in the memory file `fd`. Raises OSError, and ValueError with the part that is not usable."""
    text = os.pread(fd, os.fstat(fd).st_size, 0).decode().partition("\n")[0]
    with pydantic_plugins.disabled():
        return handover.decode(text)


def write_receipt(fd: int) -> None:
    """Append a receipt to the handover in the memory file `fd`. Raises the errors of `read_handover`."""
    answer = handover.receipt(read_handover(fd))
    os.pwrite(fd, f"\n{answer}".encode(), os.fstat(fd).st_size)


def _to_memfd(left: Handover) -> int:
    fd = descriptors.own(os.memfd_create("asgid-handover"))
    os.write(fd, handover.encode(left).encode())
    return fd
