"""The number of processors that this process may use, for `workers.count = "auto"`.

It is the minimum of the affinity mask (taskset, cpusets) and the CPU quotas of the cgroup (docker --cpus, CPUQuota=).
Both versions of cgroups are read. A fraction is rounded up, because half a processor still needs a worker.
"""

import os
from math import ceil, inf
from pathlib import Path


def usable_cpus(root: Path = Path("/")) -> int:
    """Return the number, at least 1. `root` is the directory of /proc and /sys."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, ceil(min(affinity, *_quotas(root))))


def _quotas(root: Path) -> list[float]:
    """Return the quota of our cgroup and of each parent, in processors; inf for none."""
    quotas = [inf]
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            quotas += [_v2(group / "cpu.max") for group in _with_parents(root / "sys/fs/cgroup", path)]
        elif "cpu" in controllers.split(","):
            quotas += [_v1(group) for group in _with_parents(root / "sys/fs/cgroup/cpu", path)]
    return quotas


def _with_parents(mount: Path, path: str) -> list[Path]:
    # In a container our own group is often mounted as the root of the tree, while `path` is that of the host. So the
    # root is read too.
    inner = mount / path.strip("/")
    return [inner, *[parent for parent in inner.parents if parent.is_relative_to(mount)]]


def _v2(file: Path) -> float:
    quota, _, period = _read(file).strip().partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else inf


def _v1(group: Path) -> float:
    quota, period = _read(group / "cpu.cfs_quota_us").strip(), _read(group / "cpu.cfs_period_us").strip()
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else inf


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
