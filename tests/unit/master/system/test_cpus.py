"""The number of usable processors is the smallest of the affinity mask and all quotas, rounded up."""

import os
from pathlib import Path

import pytest

from asgid.master.system.cpus import usable_cpus

# name: (files under the root, expected with eight processors in the affinity mask)
CASES: dict[str, tuple[dict[str, str], int]] = {
    "no /proc": ({}, 8),
    "v2 without a quota": ({"proc/self/cgroup": "0::/shop", "sys/fs/cgroup/shop/cpu.max": "max 100000\n"}, 8),
    "v2 of two": ({"proc/self/cgroup": "0::/shop", "sys/fs/cgroup/shop/cpu.max": "200000 100000\n"}, 2),
    "v2 of one and a half": ({"proc/self/cgroup": "0::/shop", "sys/fs/cgroup/shop/cpu.max": "150000 100000\n"}, 2),
    "v2 of a tenth": ({"proc/self/cgroup": "0::/shop", "sys/fs/cgroup/shop/cpu.max": "10000 100000\n"}, 1),
    "v2 of more than the machine has": (
        {"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/cpu.max": "6400000 100000\n"},
        8,
    ),
    "v2 of the parent": (
        {
            "proc/self/cgroup": "0::/system.slice/shop.service",
            "sys/fs/cgroup/system.slice/shop.service/cpu.max": "600000 100000\n",
            "sys/fs/cgroup/system.slice/cpu.max": "300000 100000\n",
        },
        3,
    ),
    "v2 in a container that sees its own group as the root": (
        {"proc/self/cgroup": "0::/docker/0a1b", "sys/fs/cgroup/cpu.max": "400000 100000\n"},
        4,
    ),
    "v1": (
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/docker/0a1b\n3:memory:/docker/0a1b\n0::/x",
            "sys/fs/cgroup/cpu/docker/0a1b/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu/docker/0a1b/cpu.cfs_period_us": "100000\n",
        },
        3,
    ),
    "v1 without a quota": (
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        8,
    ),
    "v1 whose name only begins like it": (
        {
            "proc/self/cgroup": "4:cpuset:/",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        8,
    ),
    "a quota that is not a number": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "nonsense"}, 8),
    "an empty quota": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": ""}, 8),
}


@pytest.mark.parametrize("case", CASES)
def test_the_smallest_of_mask_and_quotas_is_used(case, tmp_path: Path, monkeypatch):
    """Half a processor still needs a worker."""
    files, expected = CASES[case]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))

    assert expected == usable_cpus(tmp_path)


def test_the_mask_is_used_if_it_is_smaller(tmp_path: Path, monkeypatch):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/")
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("800000 100000")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3})

    assert usable_cpus(tmp_path) == 1


def test_this_machine_has_at_least_one_processor():
    """And not more than its mask."""
    assert 1 <= usable_cpus() <= len(os.sched_getaffinity(0))
