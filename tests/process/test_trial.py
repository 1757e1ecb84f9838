"""A trial returns whether an application boots and shuts down, and the reason if not; it leaves nothing behind."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from asgid import descriptors, wire
from asgid.assignment import Assignment, WorkerMain
from asgid.config import parse
from asgid.errors import BootError, ExitCode
from asgid.master.workers.trial import boot_once
from tests.process import fakes
from tests.process.fakes import Fake

# Threads of the test tools do not run in the child, and nothing in the child waits for them.
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
#: The workers that do not drain; all others have enough time for it.
STUBBORN = (fakes.hangs, fakes.never_drains)


def trial(worker: WorkerMain, boot: str = PATIENT) -> str:
    """Return the interface of the application of `worker`. Raises BootError."""
    graceful = "200ms" if worker in STUBBORN else PATIENT
    return boot_once(parse(SETTINGS.format(boot=boot, graceful=graceful), "asgid.toml"), worker)


def failure_of(worker: WorkerMain, boot: str = PATIENT) -> str:
    """Return the reason of a failed trial, and the stack with it."""
    with pytest.raises(BootError) as caught:
        trial(worker, boot)
    return f"{caught.value}\n{caught.value.story}".strip()


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Each trial reaps its worker, and restores every signal and descriptor."""

    def state() -> tuple[object, ...]:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        handlers = [signal.getsignal(signum) for signum in sorted(signal.valid_signals())]
        return psutil.Process().children(), mask, handlers, sorted(os.listdir("/proc/self/fd"))

    before = state()
    yield
    assert before == state()


# Workers, beside the fakes


def aborts(_: Assignment) -> int:
    os.abort()


def never_ready_and_ignores_abrt(assignment: Assignment) -> int:
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
    return fakes.never_ready(assignment)


def closes_its_lifeline(assignment: Assignment) -> int:
    assignment.lifeline.close()
    signal.pause()
    return 0


def writes_garbage(assignment: Assignment) -> int:
    Fake(assignment).send(b"hello\n")
    return 0


def sends_a_message_of_the_master(assignment: Assignment) -> int:
    Fake(assignment).send(wire.encode(wire.Reopen()))
    return 0


def sends_a_message_byte_by_byte(assignment: Assignment) -> int:
    fake = Fake(assignment)
    for byte in wire.encode(wire.Failed("no database")):
        fake.send(bytes((byte,)))
    return int(ExitCode.NO_WORKER)


# Success


def test_a_worker_that_becomes_ready_and_drains_passes_its_trial():
    assert trial(fakes.healthy) == "asgi3"


@pytest.mark.parametrize("patience", [PATIENT, "30d"])
def test_a_trial_may_have_descriptors_above_1023_and_wait_for_weeks(patience):
    """select(2) has no such numbers, and one wait of poll(2) is limited to 24.8 days."""
    held = [descriptors.copy(0) for _ in range(520)]
    try:
        assert max(held) > 1023
        assert trial(fakes.healthy, boot=patience) == "asgi3"
    finally:
        for fd in held:
            os.close(fd)


def test_a_trial_has_no_listener_and_logs_to_standard_error():
    """As text, because a person reads it; it opens no log file."""

    def sends_its_assignment(assignment: Assignment) -> int:
        log = assignment.config.log
        reason = f"{assignment.listeners} {log.output} {log.format} {log.access.enabled}"
        Fake(assignment).send(wire.encode(wire.Failed(reason)))
        return int(ExitCode.NO_WORKER)

    assert failure_of(sends_its_assignment) == "() stderr text False"


# Failures, each with the words that its reason must have


@pytest.mark.parametrize(
    ("worker", "words"),
    [
        (fakes.reports_a_failed_boot, ["no module named shop"]),
        (sends_a_message_byte_by_byte, ["no database"]),
        (fakes.crashes_at_boot, ["ended while it booted", "with code 1"]),
        (fakes.raises_at_boot, ["ended while it booted", "with code 70"]),
        (aborts, ["ended while it booted", "by SIGABRT", "in aborts"]),
        (closes_its_lifeline, ["closed its lifeline"]),
        (writes_garbage, ["not a message of the wire", "hello"]),
        (sends_a_message_of_the_master, ["not a message of the wire", "reopen"]),
        (fakes.crashes_after_ready, ["its shutdown ended with code 1"]),
        (fakes.hangs, ["the worker started", "timeouts.graceful", "in _sleeps_in_here"]),
        (fakes.never_drains, ["the worker started", "timeouts.graceful"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_failed_trial_has_a_reason(worker: WorkerMain, words: list[str]):
    """The reason that the worker sent, its exit status, or its stack."""
    reason = failure_of(worker)

    assert [word for word in words if word not in reason] == []


@pytest.mark.parametrize("worker", [fakes.never_ready, never_ready_and_ignores_abrt])
def test_a_worker_that_is_not_ready_in_time_is_aborted(worker: WorkerMain):
    """If it does not ignore ABRT, the reason includes its stack."""
    started = time.monotonic()
    reason = failure_of(worker, IMPATIENT)

    assert time.monotonic() - started >= 2
    assert "timeouts.boot" in reason
    assert ("in messages" in reason) == (worker is fakes.never_ready)


def test_a_child_that_holds_the_lifeline_open_delays_nothing(tmp_path: Path):
    def leaves_a_child(_: Assignment) -> int:
        child = os.fork()
        if child == 0:
            signal.pause()
        (tmp_path / "child").write_text(str(child))
        return 1

    try:
        assert "with code 1" in failure_of(leaves_a_child)
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_a_fork_that_fails_raises_and_restores_the_signals(monkeypatch: pytest.MonkeyPatch):
    def fails() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fails)

    with pytest.raises(BlockingIOError):
        trial(fakes.healthy)
