"""What the kernel says of a process: memory, processor time, threads, descriptors."""

import psutil

from asgid.master.status.snapshot import ProcessUsage


def look(pid: int) -> ProcessUsage | None:
    """Return what is known of a process now (90 µs); None for one that is gone, or if no descriptor is left to look."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info()
            return ProcessUsage(
                cpu_s=round(times.user + times.system, 2),  # in ticks, which a sum of floats misses
                threads=process.num_threads(),
                virtual_bytes=memory.vms,
                resident_bytes=memory.rss,
                open_fds=_open_fds(process),
            )
    except (psutil.Error, OSError):
        return None


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, 0 for one that is gone."""
    view = look(pid)
    return view.resident_bytes if view else 0


def _open_fds(process: psutil.Process) -> int | None:
    """Count them where the kernel lets us: it hides those of a process that has ended, and of one with more rights."""
    try:
        return int(process.num_fds())
    except (psutil.Error, OSError):
        return None
