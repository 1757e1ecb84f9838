"""A trial says of an application whether it boots and leaves, and why not; nothing of it is left behind."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from asgid import wire
from asgid.assignment import Assignment, WorkerMain
from asgid.config import parse
from asgid.errors import BootError, ExitCode
from asgid.master.workers.trial import boot_once
from tests.process import fakes
from tests.process.fakes import Fake

# Threads of the test tools stand still in the child, which runs nothing that waits for them.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")

SETTINGS = """
[app]
target = "shop:application"
[timeouts]
boot = "{boot}"
graceful = "{graceful}"
kill = "4s"
[log]
output = "asgid.log"
[log.access]
output = "access.log"
"""
PATIENT, IMPATIENT = "60s", "2s"
#: Those that do not leave by themselves; all others have the time to.
STUBBORN = (fakes.hangs, fakes.never_drains)


def trial(worker: WorkerMain, boot: str = PATIENT) -> str:
    """Return what the application of `worker` speaks; raises BootError."""
    graceful = "200ms" if worker in STUBBORN else PATIENT
    return boot_once(parse(SETTINGS.format(boot=boot, graceful=graceful), "asgid.toml"), worker)


def fault(worker: WorkerMain, boot: str = PATIENT) -> str:
    """Return what the trial says is wrong, and what led there."""
    with pytest.raises(BootError) as caught:
        trial(worker, boot)
    return f"{caught.value}\n{caught.value.story}".strip()


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Each trial ends its worker and reaps it, and gives back every signal and descriptor."""

    def held() -> tuple[object, ...]:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        handlers = [signal.getsignal(signum) for signum in sorted(signal.valid_signals())]
        return psutil.Process().children(), mask, handlers, sorted(os.listdir("/proc/self/fd"))

    before = held()
    yield
    assert before == held()


# What workers do here, beside the fakes


def aborts(_: Assignment) -> int:
    os.abort()


def never_ready_and_deaf(assignment: Assignment) -> int:
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
    return fakes.never_ready(assignment)


def closes_its_lifeline(assignment: Assignment) -> int:
    os.close(assignment.lifeline_fd)
    signal.pause()
    return 0


def writes_garbage(assignment: Assignment) -> int:
    Fake(assignment).say(b"hello\n")
    return 0


def says_what_only_a_master_says(assignment: Assignment) -> int:
    Fake(assignment).say(wire.encode(wire.Reopen()))
    return 0


def says_it_piece_by_piece(assignment: Assignment) -> int:
    fake = Fake(assignment)
    for byte in wire.encode(wire.Failed("no database")):
        fake.say(bytes((byte,)))
    return int(ExitCode.NO_WORKER)


# A good one


def test_a_worker_that_gets_ready_and_leaves_is_all_that_is_asked():
    """Its lifeline ends, it drains, it exits 0: what it speaks is all there is to say."""
    assert trial(fakes.well) == "asgi3"


def test_what_it_is_given_leaves_no_trace():
    """It has no listener and no log file to open: it writes to standard error, for a person."""

    def tells_its_assignment(assignment: Assignment) -> int:
        log = assignment.config.log
        said = f"{assignment.listeners} {log.output} {log.format} {log.access.enabled}"
        Fake(assignment).say(wire.encode(wire.Failed(said)))
        return int(ExitCode.NO_WORKER)

    assert fault(tells_its_assignment) == "() stderr text False"


# The others, each with the words that must be in what is said


@pytest.mark.parametrize(
    ("worker", "words"),
    [
        (fakes.says_why_it_cannot_boot, ["no module named shop"]),
        (says_it_piece_by_piece, ["no database"]),
        (fakes.crashes_at_boot, ["ended while it booted", "with code 1"]),
        (fakes.raises_at_boot, ["ended while it booted", "with code 70"]),
        (aborts, ["ended while it booted", "by SIGABRT", "in aborts"]),
        (closes_its_lifeline, ["closed its lifeline"]),
        (writes_garbage, ["no such message", "hello"]),
        (says_what_only_a_master_says, ["no such message", "reopen"]),
        (fakes.crashes_after_ready, ["it boots", "with code 1"]),
        (fakes.hangs, ["it boots", "timeouts.graceful", "in _sleeps_in_here"]),
        (fakes.never_drains, ["it boots", "timeouts.graceful"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_is_wrong_is_said(worker: WorkerMain, words: list[str]):
    """A reason that the worker gave, or how it ended, or where it stands."""
    said = fault(worker)

    assert [word for word in words if word not in said] == []


@pytest.mark.parametrize("worker", [fakes.never_ready, never_ready_and_deaf])
def test_one_that_is_never_ready_is_ended_at_its_deadline(worker: WorkerMain):
    """After timeouts.boot, also where it does not mind ABRT; where it does, its stack is shown."""
    began = time.monotonic()
    said = fault(worker, IMPATIENT)

    assert time.monotonic() - began >= 2
    assert "timeouts.boot" in said
    assert ("in hear" in said) == (worker is fakes.never_ready)


def test_a_program_that_holds_the_lifeline_open_holds_nothing_up(tmp_path: Path):
    """The end of the worker is seen, whoever else has its descriptors."""

    def leaves_a_child(_: Assignment) -> int:
        child = os.fork()
        if child == 0:
            signal.pause()
        (tmp_path / "child").write_text(str(child))
        return 1

    try:
        assert "with code 1" in fault(leaves_a_child)
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_where_nothing_can_be_forked_signals_work_on(monkeypatch: pytest.MonkeyPatch):
    """The fault is the machine's and goes to the caller."""

    def fails() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fails)

    with pytest.raises(BlockingIOError):
        trial(fakes.well)
