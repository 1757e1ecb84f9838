"""CRC32c is the one of the standards."""

import pytest

from asgid.worker.net.crc32c import crc32c

#: RFC 3720 appendix B.4, with its bytes as they stand there.
_READ = "01c00000" + "00000000" * 3 + "14000000" + "00000400" + "00000014" + "00000018" + "28000000" + "00000000"
EXAMPLES = {
    "zeros": (bytes(32), "aa36918a"),
    "ones": (b"\xff" * 32, "43aba862"),
    "counting up": (bytes(range(32)), "4e79dd46"),
    "counting down": (bytes(reversed(range(32))), "5cdb3f11"),
    "a command of iSCSI": (bytes.fromhex(_READ + "02000000" + "00000000"), "563a96d9"),
}


@pytest.mark.parametrize(("data", "expected"), EXAMPLES.values(), ids=EXAMPLES)
def test_a_checksum_is_that_of_the_standard(data, expected):
    """By the examples of RFC 3720, which writes the last byte of the number first."""
    assert bytes.fromhex(expected) == crc32c(data).to_bytes(4, "little")


def test_nothing_has_a_checksum_too():
    """It is 0."""
    assert 0 == crc32c(b"")
