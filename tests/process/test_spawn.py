"""The start and end of a worker: what its process keeps and resets, and how its exit is reported.

The workers here are functions of this file, forked from the test itself.
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
from mmap import PAGESIZE
from pathlib import Path
from typing import Any

import pytest

from asgid.assignment import DUMP, Assignment, Listener
from asgid.board import BYTES, CELLS, HEARTBEAT_NS, STRIDE, Board
from asgid.config import Config, parse
from asgid.master.system.signals import SIGNALS
from asgid.master.workers.board_memory import BoardMemory
from asgid.master.workers.spawn import Child, ExitedProcess, fork_worker, reap
from asgid.pipes import PipeEnd
from tests.daemon import eventually

CONFIG: Config = parse('[app]\ntarget = "shop:application"', "asgid.toml")

Fork = Callable[..., Child]

#: mseal(2) of no bytes does nothing, if the kernel has it.
HAS_MSEAL = not ctypes.CDLL(None).syscall(ctypes.c_long(462), None, ctypes.c_size_t(0), ctypes.c_ulong(0))


# Threads of the test tools do not run in the child, and nothing in the child waits for them.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")


@pytest.fixture
def memory() -> Iterator[BoardMemory]:
    memory = BoardMemory.create()
    yield memory
    os.close(memory.fd)


@pytest.fixture
def board(memory: BoardMemory) -> Board:
    return memory.board


@pytest.fixture
def fork(memory) -> Iterator[Fork]:
    """Return a function that forks a worker into slot 0. The end of the test ends the worker."""
    with ExitStack() as stack:

        def make(worker: Callable[[Assignment], int], *listeners: Listener) -> Child:
            def assign(lifeline: PipeEnd, last_words_fd: int) -> Assignment:
                return Assignment(0, 3, CONFIG, listeners, lifeline, last_words_fd, memory.board)

            child = fork_worker(0, 17.0, assign, worker, memory.confine)
            stack.callback(child.close)
            stack.callback(_end, child.pid)
            return child

        yield make


def _end(pid: int) -> None:
    """Kill a child that a failed test has left behind."""
    with suppress(ProcessLookupError, ChildProcessError):
        if os.waitpid(pid, os.WNOHANG) == (0, 0):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def exit_of(child: Child) -> ExitedProcess:
    """Wait until the child is reaped, and return its exit."""
    reaped: dict[int, ExitedProcess] = {}

    def is_reaped() -> bool:
        reaped.update({process.pid: process for process in reap()})
        return child.pid in reaped

    eventually(is_reaped)
    return reaped[child.pid]


def sent_by(child: Child) -> Any:
    """Return the JSON that the child sent on its lifeline before it exited."""
    os.set_blocking(child.lifeline.reader, True)
    return json.loads(b"".join(iter(lambda: child.lifeline.read() or b"", b"")))


def send(assignment: Assignment, value: object) -> int:
    assignment.lifeline.write(json.dumps(value).encode())
    assignment.lifeline.close()
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


# The exit


@pytest.mark.parametrize("code", [0, 3, 70])
def test_the_return_value_of_the_worker_is_the_exit_code_of_its_process(fork, code):
    """The master finds it by its pid."""
    child = fork(lambda _: code)
    process = exit_of(child)

    assert (process.pid, process.status) == (child.pid, code)


@pytest.mark.parametrize(("worker", "word"), [(raises, "LookupError: no such thing"), (exits, "SystemExit")])
def test_an_exception_of_the_worker_is_printed_and_its_process_exits_with_70(fork, capfd, monkeypatch, worker, word):
    """A SystemExit with code 0, too: a worker has to return."""
    # pytest's stream writes to a descriptor of its own, which a child closes.
    monkeypatch.setattr(sys, "stderr", open(2, "w", closefd=False))  # noqa: SIM115 - it owns nothing
    assert exit_of(fork(worker)).status == 70
    assert word in capfd.readouterr().err


def test_the_status_of_a_worker_that_a_signal_ended_is_minus_the_signal(fork):
    child = fork(waits)
    os.kill(child.pid, signal.SIGKILL)

    assert exit_of(child).status == -signal.SIGKILL


def test_a_reaped_worker_has_its_processor_time(fork):
    """User and system time, finer than in ticks."""

    def works(_: Assignment) -> int:
        begun = time.process_time()
        while time.process_time() - begun < 0.05:
            pass
        return 0

    assert 0.05 <= exit_of(fork(works)).cpu_s < 4.0


def test_an_aborted_worker_leaves_its_stack(fork):
    """The master reads it after the exit, from memory that both share."""
    child = fork(aborts)

    assert exit_of(child).status == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in child.read_last_words()
    assert "in aborts" in child.read_last_words()


def test_the_last_words_have_no_frame_of_the_master(fork):
    """A worker is forked inside the master's loop; its frames would be the longer half of every stack."""
    child = fork(aborts)
    exit_of(child)
    calls = [line for line in child.read_last_words().splitlines() if line.startswith("  File ")]

    assert "in aborts" in calls[-1]
    assert not [call for call in calls if "fork_worker" in call]


def test_a_worker_that_returns_leaves_no_stack(fork):
    child = fork(lambda _: 0)
    exit_of(child)

    assert child.read_last_words() == ""


def test_a_running_worker_is_not_reaped(fork):
    child = fork(waits)

    assert list(reap()) == []

    os.kill(child.pid, signal.SIGTERM)

    assert exit_of(child).status == -signal.SIGTERM, "TERM has its default action while a worker boots"
    assert list(reap()) == []


# The start


def test_a_worker_has_its_assignment_and_a_shared_row(fork, board):
    def writes(assignment: Assignment) -> int:
        assignment.row[HEARTBEAT_NS] = 12345
        return send(assignment, [assignment.slot, assignment.generation])

    child = fork(writes)

    assert sent_by(child) == [0, 3]
    assert board.row(0)[HEARTBEAT_NS] == 12345
    assert (child.slot, child.generation, child.started_at) == (0, 3, 17.0)

    exit_of(child)


def _ignored_in_a_child() -> list[int]:
    status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    mask = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigIgn:"))
    return [number for number in range(1, 65) if mask >> (number - 1) & 1]


def test_exit_handlers_of_the_application_are_called(fork):
    """A WSGI application has no other hook for the end of its process."""

    def registers(assignment: Assignment) -> int:
        atexit.register(send, assignment, "called")
        return 0

    child = fork(registers)

    assert sent_by(child) == "called"
    exit_of(child)


def test_exit_handlers_from_before_the_fork_are_called_in_the_worker(fork):
    """Agents that start with the interpreter use them to send their data."""
    marks, writer = os.pipe()
    master = os.getpid()

    def note() -> None:
        os.write(writer, b"worker" if os.getpid() != master else b"master")

    atexit.register(note)
    try:
        exit_of(fork(lambda _: 0))
        exit_of(fork(raises))
    finally:
        atexit.unregister(note)
        os.close(writer)

    assert os.read(marks, 100) == b"workerworker"
    os.close(marks)


def test_buffered_text_is_written_once(fork, tmp_path, monkeypatch):
    with (tmp_path / "stdout").open("w+") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        print("a line of the master")
        exit_of(fork(lambda _: 0))
        stream.seek(0)

        assert stream.read() == "a line of the master\n"


def test_a_worker_starts_with_clean_signals(fork):
    """None is blocked; those of the master have no effect, except TERM and CHLD; no byte reaches the master's wake-up
    socket. A program that a worker starts inherits no ignored signal, so it can be interrupted.
    """

    def inspects(assignment: Assignment) -> int:
        return send(
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
            child = fork(inspects)
        finally:
            signal.set_wakeup_fd(-1)
        found = sent_by(child)
    exit_of(child)

    assert found["blocked"] == []
    assert {*SIGNALS, DUMP} - {signal.SIGTERM, signal.SIGCHLD} <= set(found["handled"])
    assert not {*found["ignored in a child"]} & {int(signum) for signum in SIGNALS}
    assert set(found["default"]) == {signal.SIGTERM, signal.SIGCHLD}
    assert found["wake-up"] == -1


def test_a_worker_closes_the_masters_descriptors_and_keeps_those_of_other_code(fork):
    """It has lifeline, listeners, stack dump, and the descriptor that an agent has opened."""

    def inspects(assignment: Assignment) -> int:
        listed = [int(fd) for fd in os.listdir("/proc/self/fd")]
        held = [fd for fd in listed if os.path.exists(f"/proc/self/fd/{fd}")]  # without the one of the listing
        return send(assignment, {"held": held, "lifeline": [assignment.lifeline.reader, assignment.lifeline.writer]})

    with socket.create_server(("127.0.0.1", 0)) as listener, open("/dev/null") as other:
        sibling = fork(waits)
        child = fork(inspects, Listener("web", listener.fileno(), 7))
        found = sent_by(child)
        exit_of(child)

        lifelines = {fd for each in (sibling, child) for fd in (each.lifeline.reader, each.lifeline.writer)}
        masters = {*lifelines, sibling.last_words_fd}
        expected = {0, 1, 2, listener.fileno(), *found["lifeline"], child.last_words_fd, other.fileno()}

        assert masters.isdisjoint(found["held"])
        assert expected <= set(found["held"])

    os.kill(sibling.pid, signal.SIGKILL)
    exit_of(sibling)


def test_a_lifeline_ends_when_its_worker_exits(fork):
    """Neither the master nor a sibling that was forked later holds the worker's end."""
    child = fork(waits)
    sibling = fork(waits)
    os.kill(child.pid, signal.SIGKILL)
    os.set_blocking(child.lifeline.reader, True)

    assert child.lifeline.read() == b""

    os.kill(sibling.pid, signal.SIGKILL)
    exit_of(sibling)


# Failure


@pytest.mark.parametrize("missing", ["fork", "memfd_create"])
def test_a_fork_that_fails_leaves_nothing_behind(fork, monkeypatch, missing):
    """No descriptor, and no blocked signal: otherwise the master could not be stopped."""

    def fails(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, missing, fails)
    descriptors = os.listdir("/proc/self/fd")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    with pytest.raises(BlockingIOError):
        fork(waits)

    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    assert os.listdir("/proc/self/fd") == descriptors


def test_a_fork_restores_the_signal_mask_of_the_master(fork):
    """The blocked signals stay blocked, and no others."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        child = fork(lambda _: 0)

        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before | {signal.SIGUSR2}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    exit_of(child)


# The board


def test_a_worker_can_write_to_its_own_row_and_to_no_other(fork, memory):
    """Neither through the master's mapping, nor by mprotect(2), nor through a descriptor."""

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
        links = [os.readlink(fd) for fd in listed if os.path.lexists(fd)]  # without the one of the listing
        return send(
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
    found = sent_by(child)

    assert exit_of(child).status == 0
    assert found == {"writable": STRIDE * 8, "refused": [-1], "descriptors": [], "sibling": 17}
    assert (board.row(0)[HEARTBEAT_NS], board.row(1)[HEARTBEAT_NS]) == (5, 17)


@pytest.mark.parametrize("call", ["mremap", "copying mremap", "remap_file_pages"])
def test_the_mapping_of_a_row_can_neither_grow_nor_move_to_another_row(fork, memory, call):
    """Before mseal(2) mremap(2) extended it over the rows behind it, and remap_file_pages(2) moved it to any row."""
    if not HAS_MSEAL:
        pytest.skip("this kernel has no mseal(2)")
    size = STRIDE * 8

    def attacks(assignment: Assignment) -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mremap.restype = ctypes.c_void_p
        libc.mremap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
        libc.remap_file_pages.argtypes = (
            *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
            *(ctypes.c_size_t, ctypes.c_int),
        )
        row = ctypes.addressof(ctypes.c_uint64.from_buffer(assignment.board.row(assignment.slot)))
        if call == "remap_file_pages":
            address = row if libc.remap_file_pages(row, size, 0, size // PAGESIZE, 0) == 0 else None
        else:
            old_size = 0 if call == "copying mremap" else size
            end = libc.mremap(row, old_size, 2 * size, 1)
            address = None if end == ctypes.c_void_p(-1).value else end + size
        if address:
            ctypes.memset(address, 0xFF, 8 * CELLS)
        return send(assignment, {"succeeded": bool(address)})

    child = fork(attacks)

    assert sent_by(child) == {"succeeded": False}
    assert exit_of(child).status == 0
    assert memory.board.row(1)[HEARTBEAT_NS] == 0


def test_the_memory_of_the_board_cannot_be_truncated(memory):
    """A read beyond the end of a mapped file kills the reader, which would be the master."""
    with pytest.raises(PermissionError):
        os.ftruncate(memory.fd, 0)


def test_memory_that_is_too_small_for_a_board_is_not_adopted():
    """The previous program may have had another layout."""
    fd = os.memfd_create("short")
    try:
        with pytest.raises(OSError, match=f"a board has {BYTES}"):
            BoardMemory(fd)
    finally:
        os.close(fd)
