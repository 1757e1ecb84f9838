"""The two pipes of a lifeline, one in each direction: they carry bytes only.

A unix socket would carry descriptors as well (SCM_RIGHTS, unix(7)). A reader that does not take them closes them, and
the close of a TCP socket with SO_LINGER sleeps: a worker could stop its master. This file does not know the messages.
"""

import os
import select
from dataclasses import dataclass

from asgid import descriptors

_MAX_READ_BYTES = 65536  # capacity of a pipe (pipe(7))


@dataclass(slots=True)
class PipeEnd:
    """One process's end of a lifeline."""

    reader: int
    writer: int  #: -1 after `close_writer`

    def read(self) -> bytes | None:
        """Return bytes that arrived, b"" at the end of the stream; None if a nonblocking end has nothing to read."""
        try:
            return os.read(self.reader, _MAX_READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        """Write all bytes, or raise OSError. A nonblocking end writes all or nothing, up to 4096 bytes (PIPE_BUF)."""
        while data:
            data = data[os.write(self.writer, data) :]

    def is_at_end(self) -> bool:
        """Return whether no process holds the other end open, even if bytes of it wait to be read."""
        poll = select.poll()
        poll.register(self.reader, 0)
        return bool(poll.poll(0))

    def set_nonblocking(self) -> None:
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)

    def close_writer(self) -> None:
        """End the stream of the other process."""
        os.close(self.writer)
        self.writer = -1

    def close(self) -> None:
        os.close(self.reader)
        if self.writer >= 0:
            self.close_writer()


def pair() -> tuple[PipeEnd, PipeEnd]:
    """Return the two ends of a lifeline, blocking. Raises OSError; nothing stays open then."""
    first_reader, second_writer = os.pipe()
    try:
        second_reader, first_writer = os.pipe()
    except OSError:
        os.close(first_reader)
        os.close(second_writer)
        raise
    first = PipeEnd(descriptors.own(first_reader), descriptors.own(first_writer))
    return first, PipeEnd(descriptors.own(second_reader), descriptors.own(second_writer))
