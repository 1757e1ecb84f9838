"""Counts the instructions of running processes with `perf stat`, if kernel and processor allow it.

Other load on the machine hardly affects them, so they show a change of 1 % that is lost in the noise of times. Virtual
machines often hide the counter.
"""

import shutil
import signal
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager

EVENT = "instructions:u"  # in user space: a container may not count the kernel's, and asgid's code does not change them


class PerfError(Exception):
    """perf cannot count here; the message has perf's output."""


@contextmanager
def counting_instructions(pids: Collection[int]) -> Iterator[list[int]]:
    """Count while the block runs; then the list has one number for all `pids`, or none without pids."""
    counted: list[int] = []
    if not pids:
        yield counted
        return
    if shutil.which("perf") is None:
        raise PerfError("perf is not on PATH (Debian: apt-get install linux-perf)")
    command = ["perf", "stat", "-x", ",", "-e", EVENT, "-p", ",".join(map(str, sorted(pids)))]
    perf = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        yield counted
    finally:
        perf.send_signal(signal.SIGINT)  # ends a count of perf
        _, output = perf.communicate(timeout=10)
    counted.append(parse(output))


def parse(output: str) -> int:
    """Return the count in the output of `perf stat -x ,`: `1234567,,instructions:u,...`. Raises PerfError."""
    for line in output.splitlines():
        count, *rest = line.split(",")
        if EVENT in rest and count.isdigit():
            return int(count)
    raise PerfError(f"perf counts no instructions here: {output.strip()[-200:]!r}")
