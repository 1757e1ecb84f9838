"""A cork holds answers back in their order, and not without bound."""

import asyncio  # noqa: TC003 - it is loaded anyway
from math import inf
from typing import cast

from asgid.worker.net.cork import Cork


class _Transport:
    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def writelines(self, parts: list[bytes]) -> None:
        self.writes.append(b"|".join(parts))


def _corked(most_joined: float = inf) -> tuple[Cork, list[bytes]]:
    transport = _Transport()
    return Cork(cast("asyncio.WriteTransport", transport), most_joined), transport.writes


def test_what_is_held_back_leaves_in_one_write():
    """In the order in which it came; and nothing is written twice, or where there is nothing."""
    cork, writes = _corked()
    cork.write(b"a")
    cork.writelines((b"b", b"c"))

    assert [] == writes
    cork.flush()
    cork.flush()
    assert [b"abc"] == writes


def test_what_is_large_is_not_copied():
    """The transport is given the parts as they are."""
    cork, writes = _corked(most_joined=3)
    for part in (b"ab", b"cd"):
        cork.write(part)
    cork.flush()

    assert [b"ab|cd"] == writes


def test_no_more_is_held_back_than_gains_anything():
    """Beyond that the transport has it, which knows whether the client keeps up."""
    cork, writes = _corked()
    for _ in range(10):
        cork.write(b"x" * 10_000)

    assert [70_000] == [len(write) for write in writes]
    cork.flush()
    assert [70_000, 30_000] == [len(write) for write in writes]
