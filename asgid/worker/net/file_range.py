"""Sends bytes of a regular file past this process's memory: sendfile(2) on a duplicate of the transport's descriptor.

The transport must have written everything before, and nothing else may be written meanwhile; the caller's state ensures
the second. A client that does not read is handled as the transport would: the transport's protocol is paused, with its
deadline for that.
"""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from typing import Self

from asgid.errors import AppError
from asgid.worker.net.writer import Writer

#: One call sends at most so much: however fast a client reads, the others have their turn after each call.
_MAX_BYTES = 1 << 20
#: Errors of sendfile(2) that concern the file; all others concern the connection.
_FILE_ERRORS = (errno.EIO, errno.EINVAL, errno.ENOMEM, errno.EOVERFLOW)


class FileRange:
    """`length` bytes of a regular file from `offset` on; `with` closes the descriptor, which belongs to the range."""

    __slots__ = ("fd", "length", "offset")

    def __init__(self, fd: int, offset: int, length: int) -> None:
        self.fd, self.offset, self.length = fd, offset, length

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def read(self) -> bytes:
        """Return all bytes. Raises AppError if the file has become shorter."""
        data = os.pread(self.fd, self.length, self.offset)
        if len(data) < self.length:
            raise _too_short(self.length - len(data))
        return data

    async def send(self, writer: Writer) -> AsyncIterator[int]:
        """Send all bytes; yield the number that each call sent.

        Raises ConnectionError if the client has gone, and AppError if the file has become shorter or cannot be read.
        The response cannot go on then.
        """
        await _flush(writer)
        out = os.dup(_descriptor(writer))
        try:
            offset, end = self.offset, self.offset + self.length
            while offset < end:
                try:
                    sent = os.sendfile(out, self.fd, offset, min(end - offset, _MAX_BYTES))
                except BlockingIOError:
                    await _wait_writable(writer, out)
                    continue
                except OSError as error:
                    if error.errno in _FILE_ERRORS:
                        raise AppError(f"the file cannot be read: {error.strerror}") from error
                    raise ConnectionAbortedError(error.errno, error.strerror) from error
                if not sent:
                    raise _too_short(end - offset)
                offset += sent
                yield sent
                if offset < end:
                    await asyncio.sleep(0)
                    _descriptor(writer)
        finally:
            os.close(out)


def _too_short(missing: int) -> AppError:
    return AppError(f"the file ended {missing} bytes short of its size when it was opened")


def _descriptor(writer: Writer) -> int:
    """Return the transport's descriptor. Raises ConnectionError once it is closed: the number may be in use again."""
    if writer.transport.is_closing():
        raise ConnectionAbortedError("the connection is closing")
    fd: int = writer.transport.get_extra_info("socket").fileno()
    return fd


async def _flush(writer: Writer) -> None:
    """Wait until everything that was written before has left the transport."""
    writer.uncork()
    transport = writer.transport
    transport.set_write_buffer_limits(0)
    try:
        if writer.is_paused:
            await writer.wait_writable()
    finally:
        transport.set_write_buffer_limits()


async def _wait_writable(writer: Writer, out: int) -> None:
    """Pause the transport's protocol until the client reads; its deadline for that applies."""
    protocol, loop = writer.transport.get_protocol(), asyncio.get_running_loop()
    protocol.pause_writing()
    loop.add_writer(out, protocol.resume_writing)
    try:
        await writer.wait_writable()
    finally:
        loop.remove_writer(out)
    _descriptor(writer)
