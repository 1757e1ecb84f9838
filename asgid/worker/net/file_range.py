"""Bytes of a file to a client, past this process's memory: sendfile(2) on a duplicate of the transport's descriptor.

The transport must have written all it holds before, and nothing else is written meanwhile: the response's state sees to
the second. A client that takes nothing is treated as the transport would treat it: the connection's writing is paused,
with the deadline that belongs to it. What has no regular file beneath it (a pipe, a file in memory) is read in parts.
It does not know what a response is.
"""

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Self

from asgid.errors import AppError
from asgid.worker.http1.response import Message

if TYPE_CHECKING:
    from asgid.worker.http1.connection import Connection

#: What one call may send: the others of this worker have their turn after each, however fast the client is.
_MOST = 1 << 20
#: What sendfile(2) says of the file; all else is about the connection.
_FILES_FAULT = (errno.EIO, errno.EINVAL, errno.ENOMEM, errno.EOVERFLOW)
#: No file is longer (off_t has 64 bits).
_MOST_OFFSET = (1 << 63) - 1
#: What is read at a time where it has to be read.
_PART = 32768


class Stretch:
    """`length` bytes of a regular file from `offset` on; `with` closes the descriptor, which is ours."""

    __slots__ = ("fd", "length", "offset")

    def __init__(self, fd: int, offset: int, length: int) -> None:
        self.fd, self.offset, self.length = fd, offset, length

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def read(self) -> bytes:
        """Return all of it; AppError where the file has become shorter."""
        data = os.pread(self.fd, self.length, self.offset)
        if len(data) < self.length:
            raise _shrunk(self.length - len(data))
        return data

    async def transmit(self, connection: "Connection") -> AsyncIterator[int]:
        """Send all of it, and yield how many bytes at a time; ConnectionError where the client has gone, AppError where
        the file has become shorter or cannot be read: in each the response cannot go on.
        """
        await _drained(connection)
        out = os.dup(_descriptor(connection))
        try:
            offset, end = self.offset, self.offset + self.length
            while offset < end:
                try:
                    sent = os.sendfile(out, self.fd, offset, min(end - offset, _MOST))
                except BlockingIOError:
                    await _writable(connection, out)
                    continue
                except OSError as error:
                    if error.errno in _FILES_FAULT:
                        raise AppError(f"the file cannot be read: {error.strerror}") from error
                    raise ConnectionAbortedError(error.errno, error.strerror) from error
                if not sent:
                    raise _shrunk(end - offset)
                offset += sent
                yield sent
                if offset < end:
                    await asyncio.sleep(0)
                    _descriptor(connection)
        finally:
            os.close(out)


def path_stretch(message: Message) -> Stretch:
    """Open the file of http.response.pathsend; AppError where it cannot be sent."""
    path = message.get("path")
    # The specification says "absolute", but Starlette's FileResponse passes on what it was given, and servers without
    # the extension have it read by whoever knows that path: from the working directory.
    if not isinstance(path, str):
        raise AppError(f"http.response.pathsend: the path {path!r} is not text")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)  # else a FIFO would wait
    except (OSError, ValueError) as error:  # ValueError: a NUL in it
        why = error.strerror if isinstance(error, OSError) else error
        # No OSError: from send() that one says that the client has gone.
        raise AppError(f"http.response.pathsend: {path!r} cannot be opened: {why}") from error
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode):
        os.close(fd)
        raise AppError(f"http.response.pathsend: {path!r} is not a regular file")
    return Stretch(fd, 0, about.st_size)


class Handed:
    """The file of http.response.zerocopysend, which stays the application's: what it wants sent of it, and how."""

    __slots__ = ("_count", "_file", "_offset", "fd")

    def __init__(self, message: Message) -> None:
        self._file: Any = message.get("file")  # whatever the application calls a file
        self._offset, self._count = message.get("offset"), message.get("count")
        for name in ("offset", "count"):
            value = message.get(name)
            if not (value is None or (isinstance(value, int) and 0 <= value <= _MOST_OFFSET)):
                raise AppError(f"http.response.zerocopysend: {name} {value!r} is not a number of bytes up to 2^63 - 1")
        self.fd = _fileno(self._file)

    def stretch(self) -> Stretch | None:
        """Return what can be sent by sendfile(2); None if it has to be read, as a file that reports no size."""
        if self.fd is None:
            return None
        try:
            about = os.fstat(self.fd)
        except OSError as error:
            raise AppError(f"http.response.zerocopysend: descriptor {self.fd}: {error.strerror}") from error
        if not (stat.S_ISREG(about.st_mode) and about.st_size):
            return None
        offset = self._position() if self._offset is None else self._offset
        rest = max(0, about.st_size - offset)
        return Stretch(os.dup(self.fd), offset, rest if self._count is None else min(rest, self._count))

    def taken(self, stretch: Stretch) -> None:
        """Leave the file's position after what was sent, where it was sent from its position."""
        if self._offset is None:
            self._seek(stretch.offset + stretch.length)

    async def parts(self, until_readable: Callable[[int], Any]) -> AsyncIterator[bytes]:
        """Yield what there is to be sent, as it comes; `until_readable` waits for a descriptor."""
        if self._offset is not None:
            self._seek(self._offset)
        left = self._count
        while left is None or left:
            most = _PART if left is None else min(left, _PART)
            if self.fd is None:  # perhaps in memory, perhaps unpacked from a disk: it may take its time
                part = await asyncio.get_running_loop().run_in_executor(None, self._file.read, most)
            else:
                await until_readable(self.fd)
                part = os.read(self.fd, most)
            if not part:
                return
            yield part
            left = None if left is None else left - len(part)

    def _position(self) -> int:
        # What an object has read ahead is not at the descriptor's position.
        tell = getattr(self._file, "tell", None)
        position: int = tell() if tell else os.lseek(self.fd or 0, 0, os.SEEK_CUR)
        return position

    def _seek(self, offset: int) -> None:
        try:
            seek = getattr(self._file, "seek", None)
            if seek:
                seek(offset)
            else:
                os.lseek(self.fd or 0, offset, os.SEEK_SET)
        except OSError as error:
            raise AppError(f"http.response.zerocopysend: {self._file!r} has no offset: {error}") from error


def _fileno(file: Any) -> int | None:
    """Return the descriptor beneath what an application hands over; None where it can only be read."""
    if isinstance(file, int):
        return file
    try:
        return int(file.fileno())
    except (AttributeError, OSError, ValueError) as error:  # io.BytesIO has one that raises io.UnsupportedOperation
        if hasattr(file, "read") and not getattr(file, "closed", False):
            return None
        raise AppError(f"http.response.zerocopysend: {file!r} is no open file") from error


def _shrunk(left: int) -> AppError:
    return AppError(f"the file ended {left} bytes short of what it held when it was opened")


def _descriptor(connection: "Connection") -> int:
    """Return the transport's own; ConnectionError where it has let go of it, and the number may be another's."""
    if connection.transport.is_closing():
        raise ConnectionAbortedError("the connection is closing")
    fd: int = connection.transport.get_extra_info("socket").fileno()
    return fd


async def _drained(connection: "Connection") -> None:
    """Wait until all that was written before has left the transport."""
    connection.writer.uncork()
    transport = connection.transport
    transport.set_write_buffer_limits(0)
    try:
        if connection.writer.is_paused:
            await connection.writer.writable()
    finally:
        transport.set_write_buffer_limits()


async def _writable(connection: "Connection", out: int) -> None:
    """Wait for the client as the transport does; the deadline for its taking something is the connection's."""
    loop = connection.service.loop
    connection.pause_writing()
    loop.add_writer(out, connection.resume_writing)
    try:
        await connection.writer.writable()
    finally:
        loop.remove_writer(out)
    _descriptor(connection)
