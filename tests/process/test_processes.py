"""The resource usage of a process agrees with /proc, whatever its name and state are."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from asgid.master.workers.usage import process_usage, resident_bytes

#: A program of three threads, until its standard input ends.
THREADS = """
import sys, threading
for _ in range(2):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print("started", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def zombie() -> Iterator[int]:
    """The pid of a process that has used some ticks, has exited, and is not reaped."""
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


def test_the_usage_of_a_process_is_that_of_proc():
    """Of this process: it changes between two reads, but not by much (proc_pid_status(5))."""
    before = time.process_time()
    usage = process_usage(os.getpid())
    after = time.process_time()
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    resident, virtual = (int(status[key].split()[0]) * 1024 for key in ("VmRSS", "VmSize"))

    assert usage
    assert before - 0.02 <= usage.cpu_s <= after + 0.02  # user and system time, each in ticks of 0.01 s
    assert resident == pytest.approx(usage.resident_bytes, abs=2**20)
    assert virtual == pytest.approx(usage.virtual_bytes, abs=2**24)
    assert len(os.listdir("/proc/self/fd")) == usage.open_fds  # both counts include the descriptor of the listing
    assert resident == pytest.approx(resident_bytes(os.getpid()), abs=2**20)


def test_threads_are_counted():
    with subprocess.Popen([sys.executable, "-c", THREADS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"started\n"
        usage = process_usage(process.pid)
        process.communicate(b"exit")

    assert usage
    assert usage.threads == 3


def test_a_process_name_may_hold_blanks_and_brackets(strange_name):
    """proc_pid_stat(5): the name is in brackets, and no character in it is escaped."""
    usage = process_usage(os.getpid())

    assert psutil.Process().name() == strange_name
    assert usage
    assert usage.resident_bytes > 2**20


def test_a_zombie_still_has_its_processor_time(zombie):
    """Until it is reaped: a counter that fell in between would look like a restart."""
    usage = process_usage(zombie)

    assert usage
    assert usage.cpu_s > 0
    assert usage.resident_bytes == 0
    assert resident_bytes(zombie) == 0


def test_a_reaped_process_has_no_usage():
    with subprocess.Popen(["true"]) as process:
        process.wait()

    assert process_usage(process.pid) is None
    assert resident_bytes(process.pid) == 0


def test_a_hidden_list_of_descriptors_hides_nothing_else(monkeypatch):
    """The list of a zombie belongs to root."""

    def refuse(_path: str) -> list[str]:
        raise PermissionError

    monkeypatch.setattr(os, "listdir", refuse)
    usage = process_usage(os.getpid())

    assert usage
    assert usage.open_fds is None
    assert usage.resident_bytes > 2**20


def test_without_a_free_descriptor_the_usage_is_unknown_and_nothing_is_raised():
    """A check of memory for recycling must not end a master that has no descriptor left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        found = process_usage(os.getpid()), resident_bytes(os.getpid())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert found == (None, 0)
