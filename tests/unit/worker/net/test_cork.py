"""A cork collects the bytes of responses in their order, up to a limit."""

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


def _corked(join_limit: float = inf) -> tuple[Cork, list[bytes]]:
    transport = _Transport()
    return Cork(cast("asyncio.WriteTransport", transport), join_limit), transport.writes


def test_flush_writes_all_bytes_in_one_write():
    cork, writes = _corked()
    cork.write(b"a")
    cork.writelines((b"b", b"c"))

    assert [] == writes
    cork.flush()
    cork.flush()
    assert [b"abc"] == writes


def test_large_parts_are_not_joined():
    cork, writes = _corked(join_limit=3)
    for part in (b"ab", b"cd"):
        cork.write(part)
    cork.flush()

    assert [b"ab|cd"] == writes


def test_exceeds_turn_is_true_above_256_kib_of_written_bytes():
    cork, _ = _corked()
    written = 0
    while not cork.exceeds_turn:
        cork.write(b"x" * 65_537)
        written += 65_537

    assert 4 * 65_537 == written


def test_a_cork_writes_at_its_limit():
    """The transport then counts the bytes and pauses the writer if the client is slow."""
    cork, writes = _corked()
    for _ in range(10):
        cork.write(b"x" * 10_000)

    assert [70_000] == [len(write) for write in writes]
    cork.flush()
    assert [70_000, 30_000] == [len(write) for write in writes]
