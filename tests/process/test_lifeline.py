"""A worker whose event loop does not turn, and whose master is gone: the kernel tells it, and a timer ends it."""

import signal
import subprocess
import sys

import pytest

#: A worker that is busy for as long as its test waits. What the first argument says is done before the kernel is asked.
BUSY = """
import socket, sys, time
from asgid.worker.process.lifeline import Lifeline

ours, theirs = socket.socketpair()
lifeline = Lifeline(theirs.detach())
exec(sys.argv[1])
lifeline.end_with_master(0.2)
time.sleep(float(sys.argv[2]))
"""


def end_of(before: str, lasts_s: float) -> int:
    return subprocess.run([sys.executable, "-c", BUSY, before, str(lasts_s)], timeout=60, check=False).returncode


def test_a_master_that_died_before_the_kernel_was_asked_is_noticed():
    """Its end of the line is closed, and no signal would ever come."""
    assert -signal.SIGALRM == end_of("ours.close()", 120)


@pytest.mark.parametrize("before", ["pass", "ours.send(b'drain')"], ids=["silent", "has-spoken"])
def test_a_master_that_lives_ends_nobody(before):
    """Neither one that has said nothing yet, nor one whose words wait to be read."""
    assert 0 == end_of(before, 0.5)
