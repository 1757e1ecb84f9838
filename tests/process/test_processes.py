"""What is told of a process agrees with /proc, whatever the process is called and however far it is gone."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from asgid.master.workers.usage import look, resident_bytes

#: A program of three threads, until its standard input ends.
THREADS = """
import sys, threading
for _ in range(2):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print("started", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def ended() -> Iterator[int]:
    """The pid of a process that has worked for some ticks, has ended, and was not reaped."""
    with subprocess.Popen([sys.executable, "-c", "sum(range(3_000_000))"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield process.pid


@pytest.fixture
def strange_name() -> Iterator[str]:
    """This process under a name that looks like the fields behind it."""
    comm = Path("/proc/self/comm")
    before = comm.read_text()
    comm.write_text("a) S (1 2")
    yield "a) S (1 2"
    comm.write_text(before)


def test_a_process_is_seen_as_the_kernel_shows_it():
    """This one: it changes between two looks, but not by much (proc_pid_status(5))."""
    before = time.process_time()
    seen = look(os.getpid())
    after = time.process_time()
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    resident, virtual = (int(status[key].split()[0]) * 1024 for key in ("VmRSS", "VmSize"))

    assert seen
    assert before - 0.02 <= seen.cpu_s <= after + 0.02  # counted in ticks of a hundredth, user's and system's
    assert resident == pytest.approx(seen.resident_bytes, abs=2**20)
    assert virtual == pytest.approx(seen.virtual_bytes, abs=2**24)
    assert len(os.listdir("/proc/self/fd")) == seen.open_fds  # each counts the one that it lists with
    assert resident == pytest.approx(resident_bytes(os.getpid()), abs=2**20)


def test_threads_are_counted():
    """All of a process, its first included."""
    with subprocess.Popen([sys.executable, "-c", THREADS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"started\n"
        seen = look(process.pid)
        process.communicate(b"leave")

    assert seen
    assert seen.threads == 3


def test_a_name_may_hold_blanks_and_brackets(strange_name):
    """proc_pid_stat(5): it stands between brackets, and nothing in it is escaped."""
    seen = look(os.getpid())

    assert psutil.Process().name() == strange_name
    assert seen
    assert seen.resident_bytes > 2**20


def test_a_process_that_has_ended_still_has_its_processor_time(ended):
    """Until the kernel hands it out with the reaping: a counter that fell in between would look like a restart."""
    seen = look(ended)

    assert seen
    assert seen.cpu_s > 0
    assert seen.resident_bytes == 0
    assert resident_bytes(ended) == 0


def test_a_process_that_is_gone_is_nothing():
    """It has been reaped, and its number is free."""
    with subprocess.Popen(["true"]) as process:
        process.wait()

    assert look(process.pid) is None
    assert resident_bytes(process.pid) == 0


def test_what_the_kernel_keeps_to_itself_hides_nothing_else(monkeypatch):
    """A process that has ended belongs to root, and so does its list of descriptors."""

    def refuse(_path: str) -> list[str]:
        raise PermissionError

    monkeypatch.setattr(os, "listdir", refuse)
    seen = look(os.getpid())

    assert seen
    assert seen.open_fds is None
    assert seen.resident_bytes > 2**20


def test_without_a_descriptor_nothing_is_known_and_nothing_raised():
    """A look at memory, which decides on a replacement, must not end a master that has none left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        found = look(os.getpid()), resident_bytes(os.getpid())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert found == (None, 0)
