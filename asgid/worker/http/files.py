"""The files of http.response.pathsend and http.response.zerocopysend: which bytes are sent, and in which way.

A regular file is sent as a range, past this process's memory. A pipe, or a file in memory, is read in parts, which are
sent as an ordinary body.
"""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from asgid.errors import AppError, ClientDisconnectedError
from asgid.worker.asgi import Message
from asgid.worker.http.exchange import Exchange
from asgid.worker.http.responder import Responder
from asgid.worker.net.file_range import FileRange

#: No file is longer (off_t has 64 bits).
_MAX_OFFSET = (1 << 63) - 1
#: How much is read at a time from a file that is not sent as a range.
_PART_BYTES = 32768


async def send_path(responder: Responder, exchange: Exchange, message: Message) -> None:
    """Send the file of http.response.pathsend as the whole body. Raises AppError if it cannot be sent."""
    with _open_range(message.get("path")) as whole:
        if whole.length:
            await responder.send_range(whole, more=False)
        else:  # empty, or a file of proc(5), which reports no size
            await send_app_file(responder, exchange, {"file": whole.fd})


async def send_app_file(responder: Responder, exchange: Exchange, message: Message) -> None:
    """Send the file of http.response.zerocopysend as a part of the body. Raises AppError if it cannot be sent."""
    file, more = AppFile(message), message.get("more_body", False)
    part = file.range()
    if part is not None:
        with part:
            await responder.send_range(part, more=more)
        file.skip(part)
        return
    if not responder.is_bodiless:
        with suppress(ClientDisconnectedError):  # while it waited for a pipe
            async for data in file.parts(responder, exchange):
                await responder.send({"type": "http.response.body", "body": data, "more_body": True})
                if responder.is_disconnected:
                    break
    await responder.send({"type": "http.response.body", "more_body": more})


def _open_range(path: object) -> FileRange:
    # The specification requires an absolute path. But Starlette's FileResponse passes on the path that it was given. On
    # a server without the extension the application opens it, relative to the working directory.
    if not isinstance(path, str):
        raise AppError(f"http.response.pathsend: the path {path!r} is not text")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)  # a FIFO would block otherwise
    except (OSError, ValueError) as error:  # ValueError: a NUL in it
        reason = error.strerror if isinstance(error, OSError) else error
        # Not an OSError: raised by send(), it would mean that the client has gone.
        raise AppError(f"http.response.pathsend: {path!r} cannot be opened: {reason}") from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise AppError(f"http.response.pathsend: {path!r} is not a regular file")
    return FileRange(fd, 0, status.st_size)


class AppFile:
    """The file of http.response.zerocopysend, which stays the application's, with the offset and count to send."""

    __slots__ = ("_count", "_fd", "_file", "_offset")

    def __init__(self, message: Message) -> None:
        self._file: Any = message.get("file")  # any object that the application uses as a file
        self._offset, self._count = message.get("offset"), message.get("count")
        for name in ("offset", "count"):
            value = message.get(name)
            if not (value is None or (isinstance(value, int) and 0 <= value <= _MAX_OFFSET)):
                raise AppError(f"http.response.zerocopysend: {name} {value!r} is not a number of bytes up to 2^63 - 1")
        self._fd = _fileno(self._file)

    def range(self) -> FileRange | None:
        """Return the range for sendfile(2); None if the file has to be read, such as one that reports no size."""
        if self._fd is None:
            return None
        try:
            status = os.fstat(self._fd)
        except OSError as error:
            raise AppError(f"http.response.zerocopysend: descriptor {self._fd}: {error.strerror}") from error
        if not (stat.S_ISREG(status.st_mode) and status.st_size):
            return None
        offset = self._position() if self._offset is None else self._offset
        rest = max(0, status.st_size - offset)
        return FileRange(os.dup(self._fd), offset, rest if self._count is None else min(rest, self._count))

    def skip(self, part: FileRange) -> None:
        """Move the file's position behind a range that began at it."""
        if self._offset is None:
            self._seek(part.offset + part.length)

    async def parts(self, responder: Responder, exchange: Exchange) -> AsyncIterator[bytes]:
        """Yield the bytes to send as they come. Raises ClientDisconnectedError if the client leaves meanwhile."""
        if self._offset is not None:
            self._seek(self._offset)
        left = self._count
        while left is None or left:
            size = _PART_BYTES if left is None else min(left, _PART_BYTES)
            if self._fd is None:  # perhaps in memory, perhaps decompressed from a disk: reading may take long
                part = await asyncio.get_running_loop().run_in_executor(None, self._file.read, size)
            else:
                await _wait_readable(responder, exchange, self._fd)
                part = os.read(self._fd, size)
            if not part:
                return
            yield part
            left = None if left is None else left - len(part)

    def _position(self) -> int:
        # An object that reads ahead is at another position than its descriptor.
        tell = getattr(self._file, "tell", None)
        position: int = tell() if tell else os.lseek(self._fd or 0, 0, os.SEEK_CUR)
        return position

    def _seek(self, offset: int) -> None:
        try:
            seek = getattr(self._file, "seek", None)
            if seek:
                seek(offset)
            else:
                os.lseek(self._fd or 0, offset, os.SEEK_SET)
        except OSError as error:
            raise AppError(f"http.response.zerocopysend: {self._file!r} has no offset: {error}") from error


def _fileno(file: Any) -> int | None:
    """Return the descriptor of an application's file; None if the file can only be read."""
    if isinstance(file, int):
        return file
    try:
        return int(file.fileno())
    except (AttributeError, OSError, ValueError) as error:  # io.BytesIO raises io.UnsupportedOperation
        if hasattr(file, "read") and not getattr(file, "closed", False):
            return None
        raise AppError(f"http.response.zerocopysend: {file!r} is not an open file") from error


async def _wait_readable(responder: Responder, exchange: Exchange, fd: int) -> None:
    """Wait until a pipe has bytes. Raises ClientDisconnectedError if the client leaves before."""

    def on_readable() -> None:
        is_readable.set()
        exchange.notify()

    is_readable = asyncio.Event()
    loop, own = asyncio.get_running_loop(), os.dup(fd)  # a descriptor has one reader, which may be the application's
    try:
        loop.add_reader(own, on_readable)
        while not is_readable.is_set():
            await exchange.wait_for_event()
            if responder.is_disconnected:
                raise ClientDisconnectedError("the client has disconnected")
    except PermissionError:  # epoll(7) on a device such as /dev/zero, which never blocks
        return
    finally:
        loop.remove_reader(own)
        os.close(own)
