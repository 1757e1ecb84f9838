"""glibc keeps memory that a worker needs again."""

import subprocess
import sys

import pytest

from asgid.worker.process.malloc import raise_trim_threshold

_PROGRAM = """
import resource, sys
from asgid.worker.process.malloc import raise_trim_threshold
if sys.argv[1] == "raised":
    assert raise_trim_threshold({})
for _ in range(100):
    blocks = [bytes(bytearray(200_000)) for _ in range(8)]
    blocks.clear()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def _page_faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", _PROGRAM, how], check=True, capture_output=True, text=True).stdout)


def test_freed_memory_is_not_returned_to_the_kernel():
    """Eight large blocks, a hundred times. By default each block causes a page fault for every four KiB."""
    assert 4 * _page_faults("raised") < _page_faults("default")


@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_"])
def test_an_allocator_that_the_operator_tuned_is_not_changed(name):
    """The environment has the settings of the operator."""
    assert not raise_trim_threshold({name: "1"})
