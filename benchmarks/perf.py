"""Instructions of running processes, counted by `perf stat`, where kernel and processor allow it.

They hardly depend on what else the machine does, so they show a change of 1 % where times show noise. Virtual machines
often hide the counter.
"""

import shutil
import signal
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager

EVENT = "instructions:u"  # of the kernel's own a container may not know, and a change of asgid's code makes none


class PerfError(Exception):
    """Nothing can be counted here; the message says what perf said."""


@contextmanager
def counting_instructions(pids: Collection[int]) -> Iterator[list[int]]:
    """Count while the block runs; then the list holds one number, of all `pids` together; without pids, none."""
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
        perf.send_signal(signal.SIGINT)  # perf's own way to end a count
        _, said = perf.communicate(timeout=10)
    counted.append(parse(said))


def parse(said: str) -> int:
    """Return the count in what `perf stat -x ,` said: `1234567,,instructions:u,...`. Raises PerfError."""
    for line in said.splitlines():
        count, *rest = line.split(",")
        if EVENT in rest and count.isdigit():
            return int(count)
    raise PerfError(f"perf counts no instructions here: {said.strip()[-200:]!r}")
