"""The resources that a process uses, as the kernel counts them in /proc: memory, CPU time, threads, descriptors."""

import os
from mmap import PAGESIZE
from pathlib import Path

from asgid.master.workers.process_state import ProcessUsage

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def process_usage(pid: int) -> ProcessUsage | None:
    """Return the usage of a process (in 0.1 ms). None if it is reaped, or if no descriptor is left to read it."""
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The fields of proc_pid_stat(5), from the third on. The second one, the name in parentheses, may have spaces.
    fields = line.rpartition(b")")[2].split()
    user, system, threads, virtual, resident = (int(fields[number - 3]) for number in (14, 15, 20, 23, 24))
    return ProcessUsage(
        cpu_s=(user + system) / _TICKS_PER_S,
        threads=threads,
        virtual_bytes=virtual,
        resident_bytes=resident * PAGESIZE,
        open_fds=_open_fds(pid),
    )


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, 0 if its usage is not known."""
    usage = process_usage(pid)
    return usage.resident_bytes if usage else 0


def _open_fds(pid: int) -> int | None:
    """Return None if the kernel hides them, as those of a process with more privileges."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
