"""How a worker comes to life and leaves: what its process keeps, what it forgets, and how its end is told.

The workers here are functions in this file, forked from the test itself.
"""

import atexit
import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from asgid.assignment import DUMP, Assignment, Listener
from asgid.board import BYTES, HEARTBEAT_NS, STRIDE, Board
from asgid.config import Config, parse
from asgid.master.workers.board_memory import Memory
from asgid.master.workers.spawn import SIGNALS, Child, Death, fork_worker, reap
from tests.daemon import eventually

CONFIG: Config = parse('[app]\ntarget = "shop:application"', "asgid.toml")

Fork = Callable[..., Child]


# Threads of the test tools stand still in the child, which runs nothing that waits for them.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory.made()
    yield memory
    os.close(memory.fd)


@pytest.fixture
def board(memory: Memory) -> Board:
    return memory.board


@pytest.fixture
def fork(memory) -> Iterator[Fork]:
    """Fork a worker into slot 0; it and what the master holds of it go with the test."""
    with ExitStack() as stack:

        def make(worker: Callable[[Assignment], int], *listeners: Listener) -> Child:
            def assign(lifeline_fd: int, last_words_fd: int) -> Assignment:
                return Assignment(0, 3, CONFIG, listeners, lifeline_fd, last_words_fd, memory.board)

            child = fork_worker(0, 17.0, assign, worker, memory.confine)
            stack.callback(child.close)
            stack.callback(_end, child.pid)
            return child

        yield make


def _end(pid: int) -> None:
    """End a child that a failed test has left behind; one that was reaped is gone."""
    with suppress(ProcessLookupError, ChildProcessError):
        if os.waitpid(pid, os.WNOHANG) == (0, 0):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def end_of(child: Child) -> Death:
    """Wait until the child is reaped, and return how it ended."""
    deaths: dict[int, Death] = {}

    def is_reaped() -> bool:
        deaths.update({death.pid: death for death in reap()})
        return child.pid in deaths

    eventually(is_reaped)
    return deaths[child.pid]


def told_by(child: Child) -> Any:
    """Return what the child wrote on its lifeline before it ended, read as JSON."""
    child.lifeline.setblocking(True)
    return json.loads(b"".join(iter(lambda: child.lifeline.recv(65536), b"")))


def tell(assignment: Assignment, value: object) -> int:
    with socket.socket(fileno=assignment.lifeline_fd) as lifeline:
        lifeline.sendall(json.dumps(value).encode())
    return 0


def raises(_: Assignment) -> int:
    raise LookupError("no such thing")


def exits(_: Assignment) -> int:
    sys.exit(0)


def aborts(_: Assignment) -> int:
    os.abort()


def waits(_: Assignment) -> int:
    signal.pause()
    return 0


# The end


@pytest.mark.parametrize("code", [0, 3, 70])
def test_what_the_worker_returns_is_the_exit_code_of_its_process(fork, code):
    """The master knows it by its pid."""
    child = fork(lambda _: code)
    death = end_of(child)

    assert (death.pid, death.status) == (child.pid, code)


@pytest.mark.parametrize(("worker", "word"), [(raises, "LookupError: no such thing"), (exits, "SystemExit")])
def test_whatever_escapes_from_a_worker_is_shown_and_ends_its_process(fork, capfd, monkeypatch, worker, word):
    """70, also for a SystemExit that says 0: a worker returns."""
    # pytest's stand-in writes to a descriptor of its own, which a child does not keep.
    monkeypatch.setattr(sys, "stderr", open(2, "w", closefd=False))  # noqa: SIM115 - it owns nothing
    assert end_of(fork(worker)).status == 70
    assert word in capfd.readouterr().err


def test_a_signal_that_ends_a_worker_is_its_negative_status(fork):
    """As subprocess tells it."""
    child = fork(waits)
    os.kill(child.pid, signal.SIGKILL)

    assert end_of(child).status == -signal.SIGKILL


def test_the_processor_time_of_a_worker_comes_with_its_end(fork):
    """The kernel's account, user and system; in ticks it would be five at least."""

    def works(_: Assignment) -> int:
        begun = time.process_time()
        while time.process_time() - begun < 0.05:
            pass
        return 0

    assert 0.05 <= end_of(fork(works)).cpu_s < 4.0


def test_an_aborted_worker_leaves_its_stack(fork):
    """Its last words are read after its end, from memory that both share."""
    child = fork(aborts)

    assert end_of(child).status == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in child.read_last_words()
    assert "in aborts" in child.read_last_words()


def test_last_words_hold_nothing_of_the_master(fork):
    """A worker is forked from within the master's loop, whose calls would be the longer half of every stack."""
    child = fork(aborts)
    end_of(child)
    calls = [line for line in child.read_last_words().splitlines() if line.startswith("  File ")]

    assert "in aborts" in calls[-1]
    assert not [call for call in calls if "fork_worker" in call]


def test_a_worker_that_ends_well_has_no_last_words(fork):
    """Then there is nothing to log."""
    child = fork(lambda _: 0)
    end_of(child)

    assert child.read_last_words() == ""


def test_who_still_runs_is_not_reaped(fork):
    """And where there is no child at all, nothing is waited for."""
    child = fork(waits)

    assert list(reap()) == []

    os.kill(child.pid, signal.SIGTERM)

    assert end_of(child).status == -signal.SIGTERM, "while it boots, TERM ends it by default action"
    assert list(reap()) == []


# The life


def test_a_worker_is_told_its_assignment_and_its_row_is_shared(fork, board):
    """What it writes on the board, the master reads."""

    def writes(assignment: Assignment) -> int:
        assignment.row[HEARTBEAT_NS] = 12345
        return tell(assignment, [assignment.slot, assignment.generation])

    child = fork(writes)

    assert told_by(child) == [0, 3]
    assert board.row(0)[HEARTBEAT_NS] == 12345
    assert (child.slot, child.generation, child.born) == (0, 3, 17.0)

    end_of(child)


def _ignored_in_a_child() -> list[int]:
    status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    mask = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigIgn:"))
    return [number for number in range(1, 65) if mask >> (number - 1) & 1]


def test_what_an_application_registers_for_the_exit_is_called(fork):
    """A WSGI application has no other hook at the end of its process."""

    def registers(assignment: Assignment) -> int:
        atexit.register(tell, assignment, "called")
        return 0

    child = fork(registers)

    assert told_by(child) == "called"
    end_of(child)


def test_what_was_registered_for_the_exit_before_the_fork_is_called(fork):
    """Agents that start with the interpreter send there what they have collected in the worker."""
    marks, writer = os.pipe()
    master = os.getpid()

    def note() -> None:
        os.write(writer, b"worker" if os.getpid() != master else b"master")

    atexit.register(note)
    try:
        end_of(fork(lambda _: 0))
        end_of(fork(raises))
    finally:
        atexit.unregister(note)
        os.close(writer)

    assert os.read(marks, 100) == b"workerworker"
    os.close(marks)


def test_what_waits_in_the_buffer_of_a_stream_is_written_once(fork, tmp_path, monkeypatch):
    """Child and parent would each write their copy."""
    with (tmp_path / "stdout").open("w+") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        print("a line of the master's")
        end_of(fork(lambda _: 0))
        stream.seek(0)

        assert stream.read() == "a line of the master's\n"


def test_a_worker_starts_with_clean_signals(fork):
    """None blocked, the master's without effect but for TERM and CHLD, and no byte on the master's wake-up socket. For
    what a worker starts none is ignored: else it could not be interrupted.
    """

    def looks(assignment: Assignment) -> int:
        return tell(
            assignment,
            {
                "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
                "handled": [s for s in signal.valid_signals() if callable(signal.getsignal(s))],
                "ignored in a child": _ignored_in_a_child(),
                "default": [s for s in SIGNALS if signal.getsignal(s) == signal.SIG_DFL],
                "wake-up": signal.set_wakeup_fd(-1),
            },
        )

    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)
        signal.set_wakeup_fd(writing.fileno())
        try:
            child = fork(looks)
        finally:
            signal.set_wakeup_fd(-1)
        found = told_by(child)
    end_of(child)

    assert found["blocked"] == []
    assert {*SIGNALS, DUMP} - {signal.SIGTERM, signal.SIGCHLD} <= set(found["handled"])
    assert not {*found["ignored in a child"]} & {int(signum) for signum in SIGNALS}
    assert set(found["default"]) == {signal.SIGTERM, signal.SIGCHLD}
    assert found["wake-up"] == -1


def test_a_worker_keeps_none_of_the_masters_descriptors_but_all_of_others(fork):
    """Lifeline, listeners, last words; and what an agent has opened in the process, which goes on to use it."""

    def looks(assignment: Assignment) -> int:
        listed = [int(fd) for fd in os.listdir("/proc/self/fd")]
        held = [fd for fd in listed if os.path.exists(f"/proc/self/fd/{fd}")]  # without that of the listing
        return tell(assignment, {"held": held, "lifeline": assignment.lifeline_fd})

    with socket.create_server(("127.0.0.1", 0)) as listener, open("/dev/null") as other:
        sibling = fork(waits)
        child = fork(looks, Listener("web", listener.fileno(), 7))
        found = told_by(child)
        end_of(child)

        mine = {sibling.lifeline.fileno(), sibling.last_words, child.lifeline.fileno()}
        expected = {0, 1, 2, listener.fileno(), found["lifeline"], child.last_words, other.fileno()}

        assert mine.isdisjoint(found["held"])
        assert expected <= set(found["held"])

    os.kill(sibling.pid, signal.SIGKILL)
    end_of(sibling)


def test_the_end_of_a_worker_is_the_end_of_its_lifeline(fork):
    """Nobody else holds its end: not the master, not a sibling that was forked later."""
    child = fork(waits)
    sibling = fork(waits)
    os.kill(child.pid, signal.SIGKILL)
    child.lifeline.setblocking(True)

    assert child.lifeline.recv(1) == b""

    os.kill(sibling.pid, signal.SIGKILL)
    end_of(sibling)


# Failure


@pytest.mark.parametrize("missing", ["fork", "memfd_create"])
def test_a_fork_that_fails_leaves_nothing_behind(fork, monkeypatch, missing):
    """No descriptor, and no blocked signal: a master that stays deaf could not even be stopped."""

    def fails(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, missing, fails)
    descriptors = os.listdir("/proc/self/fd")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    with pytest.raises(BlockingIOError):
        fork(waits)

    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    assert os.listdir("/proc/self/fd") == descriptors


def test_the_masters_signals_are_as_they_were_after_a_fork(fork):
    """Those that were blocked stay so, and no others."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        child = fork(lambda _: 0)

        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before | {signal.SIGUSR2}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    end_of(child)


# The board


def test_a_worker_can_write_in_its_own_row_and_in_no_other(fork, memory):
    """Neither with the mapping that the master has, nor by mprotect(2), nor through a descriptor: nothing is left."""

    board, file = memory.board, str(os.fstat(memory.fd).st_ino)

    def attacks(assignment: Assignment) -> int:
        assignment.row[HEARTBEAT_NS] = 5
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
        ranges = [(*line[0].split("-"), line[1]) for line in maps if line[4] == file]
        with pytest.raises(TypeError):
            assignment.board.row(1)[HEARTBEAT_NS] = 5
        sizes = [int(end, 16) - int(start, 16) for start, end, _ in ranges]
        refused = [
            libc.mprotect(int(start, 16), size, 3)
            for (start, _, rights), size in zip(ranges, sizes, strict=True)
            if "w" not in rights
        ]
        listed = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
        links = [os.readlink(fd) for fd in listed if os.path.lexists(fd)]  # without that of the listing
        return tell(
            assignment,
            {
                "writable": sum(size for (*_, rights), size in zip(ranges, sizes, strict=True) if "w" in rights),
                "refused": refused,
                "descriptors": [link for link in links if "asgid-board" in link],
                "sibling": assignment.board.row(1)[HEARTBEAT_NS],
            },
        )

    board.row(1)[HEARTBEAT_NS] = 17
    child = fork(attacks)
    told = told_by(child)

    assert end_of(child).status == 0
    assert told == {"writable": STRIDE * 8, "refused": [-1], "descriptors": [], "sibling": 17}
    assert (board.row(0)[HEARTBEAT_NS], board.row(1)[HEARTBEAT_NS]) == (5, 17)


def test_nobody_can_shorten_the_memory_of_the_board(memory):
    """A read beyond the end of a file that is mapped ends the process that reads: that would be the master."""
    with pytest.raises(PermissionError):
        os.ftruncate(memory.fd, 0)


def test_memory_that_is_too_short_for_a_board_is_not_taken_over():
    """A program before this one may have had another idea of it."""
    fd = os.memfd_create("short")
    try:
        with pytest.raises(OSError, match=f"a board has {BYTES}"):
            Memory(fd)
    finally:
        os.close(fd)
