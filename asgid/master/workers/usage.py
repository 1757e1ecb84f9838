"""The resources that a process uses, as the kernel counts them: memory, processor time, threads, descriptors."""

import psutil

from asgid.master.workers.process_state import ProcessUsage


def process_usage(pid: int) -> ProcessUsage | None:
    """Return the usage of a process (in 90 µs). None if it is reaped, or if no descriptor is left to read it."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info()
            return ProcessUsage(
                cpu_s=round(times.user + times.system, 2),  # a number of ticks; the sum of two floats may miss it
                threads=process.num_threads(),
                virtual_bytes=memory.vms,
                resident_bytes=memory.rss,
                open_fds=_open_fds(process),
            )
    except (psutil.Error, OSError):
        return None


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, 0 if its usage is not known."""
    usage = process_usage(pid)
    return usage.resident_bytes if usage else 0


def _open_fds(process: psutil.Process) -> int | None:
    """Return None if the kernel hides them: those of a zombie, and those of a process with more privileges."""
    try:
        return int(process.num_fds())
    except (psutil.Error, OSError):
        return None
