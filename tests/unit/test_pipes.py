"""A lifeline carries bytes in both directions, shows its end, and passes no descriptor."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress

import pytest

from asgid import pipes
from asgid.pipes import PipeEnd


@pytest.fixture
def ends() -> Iterator[tuple[PipeEnd, PipeEnd]]:
    ends = pipes.pair()
    yield ends
    for end in ends:
        with suppress(OSError):
            end.close()


def test_each_end_reads_what_the_other_wrote(ends):
    ours, theirs = ends
    ours.write(b"drain\n")
    theirs.write(b"ready\n")

    assert theirs.read() == b"drain\n"
    assert ours.read() == b"ready\n"


def test_both_ends_are_pipes_under_high_numbers_that_no_program_inherits(ends):
    """A unix socket would carry descriptors, which its reader closes: a close may sleep."""
    for end in ends:
        for fd in (end.reader, end.writer):
            assert stat.S_ISFIFO(os.fstat(fd).st_mode)
            assert fd >= 512
            assert not os.get_inheritable(fd)


def test_the_end_of_the_other_process_shows_even_before_its_bytes_are_read(ends):
    ours, theirs = ends
    ours.write(b"drain\n")

    assert not theirs.is_at_end()

    ours.close()

    assert theirs.is_at_end()
    assert theirs.read() == b"drain\n"
    assert theirs.read() == b""
    with pytest.raises(BrokenPipeError):
        theirs.write(b"leaving\n")


def test_a_closed_writer_ends_one_direction(ends):
    """A trial drains its worker that way, and still reads its messages."""
    ours, theirs = ends
    ours.close_writer()
    theirs.write(b"leaving\n")

    assert theirs.read() == b""
    assert ours.read() == b"leaving\n"


def test_a_nonblocking_end_neither_waits_for_bytes_nor_for_a_reader(ends):
    """A worker that reads nothing must not stop its master. A message goes whole or not at all."""
    ours, theirs = ends
    ours.set_nonblocking()

    assert ours.read() is None

    message = bytes(100)
    with suppress(BlockingIOError):
        while True:
            ours.write(message)
    received = 0
    ours.close()
    while data := theirs.read():
        received += len(data)

    assert received % len(message) == 0


def test_a_pair_that_cannot_be_made_leaves_nothing_open(monkeypatch):
    real, calls = os.pipe, []

    def pipe() -> tuple[int, int]:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real()

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "pipe", pipe)
    with pytest.raises(OSError, match="Too many open files"):
        pipes.pair()

    assert os.listdir("/proc/self/fd") == before
