"""A blocked worker of a dead master: the kernel sends it a signal, which sets a timer that ends the worker."""

import signal
import subprocess
import sys

import pytest

#: A worker with a blocked loop. It runs its first argument before it requests the signal for its master's death.
BUSY = """
import os, sys, time
from asgid import pipes
from asgid.worker.process.lifeline import Lifeline

ours, theirs = pipes.pair()
lifeline = Lifeline(theirs)
exec(sys.argv[1])
lifeline.end_with_master(0.2)
time.sleep(float(sys.argv[2]))
"""


def exit_code(before: str, blocked_s: float) -> int:
    return subprocess.run([sys.executable, "-c", BUSY, before, str(blocked_s)], timeout=60, check=False).returncode


def test_a_master_that_died_before_the_request_for_its_death_signal_is_noticed():
    """Its end of the lifeline is closed, and the kernel would send no signal."""
    assert -signal.SIGALRM == exit_code("ours.close()", 120)


@pytest.mark.parametrize("before", ["pass", "ours.write(b'drain')"], ids=["has-sent-nothing", "has-sent"])
def test_a_worker_of_a_living_master_is_not_ended(before):
    """Neither before its first message, nor while a message waits to be read."""
    assert 0 == exit_code(before, 0.5)
