"""Memory that a worker takes again and again stays its own."""

import subprocess
import sys

import pytest

from asgid.worker.process.malloc import raise_trim_threshold

_PROGRAM = """
import resource, sys
from asgid.worker.process.malloc import raise_trim_threshold
if sys.argv[1] == "kept":
    assert raise_trim_threshold({})
for _ in range(100):
    blocks = [bytes(bytearray(200_000)) for _ in range(8)]
    blocks.clear()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def _page_faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", _PROGRAM, how], check=True, capture_output=True, text=True).stdout)


def test_what_is_freed_is_not_given_back_and_asked_for_again():
    """Eight large blocks a hundred times: without it each is a page fault for every four KiB."""
    assert 4 * _page_faults("kept") < _page_faults("given back")


@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_"])
def test_what_the_operator_has_tuned_is_left_alone(name):
    """The environment is theirs."""
    assert not raise_trim_threshold({name: "1"})
