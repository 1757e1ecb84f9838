"""The server's protocol of `websockets`, changed in three points: lengths, UTF-8 and the limit are judged by the frame.

Messages come out of it whole. It does not know the connection.
"""

import logging
from collections.abc import Generator

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import BINARY, CLOSE, CONT, TEXT, Frame
from websockets.protocol import SERVER, Protocol
from websockets.streams import StreamReader

from asgid.worker.fragments import Fragments

#: What a control frame may hold (RFC 6455 section 5.5).
_CONTROL_BYTES = 125
TOO_BIG = 1009  # RFC 6455 section 7.4.1
#: By the seven bits that tell a length or its form: the least length that the form is for, as it is written in it.
_LEAST = (b"",) * 126 + (b"\0\x7e", b"\0\0\0\0\0\1\0\0")
_HEAD_IS_NEXT = b"head"
# What the library would say is counted on the board, or in the access log.
_SILENT = logging.Logger("silent", logging.CRITICAL + 1)  # noqa: LOG001 - no application's logging reaches it


class Core(Protocol):
    """The protocol of one client. The last frame of a message has the whole of it for its data, and text is a str."""

    def __init__(self, max_message: int) -> None:
        # The library holds a ping to the limit on messages too, less what the fragments around it have used. So it is
        # told a limit with room for a ping, and messages are held to theirs here.
        super().__init__(SERVER, max_size=max(max_message, _CONTROL_BYTES), logger=_SILENT)
        self._max_message = max_message
        self._fragments: Fragments | None = None  # of a message that is not whole yet

    def parse(self) -> Generator[None]:
        """Return the parser, which then reads with our reader: the library has no other place for one."""
        self.reader = _Reader()
        return super().parse()

    def recv_frame(self, frame: Frame) -> None:
        """Take a frame; what is no text fails here, so that nothing behind it is read, answered or believed."""
        opcode = frame.opcode
        if frame.fin and (opcode is TEXT or opcode is BINARY) and self.current_size is None:  # mostly
            self._hold_to_limit(len(frame.data))
            if opcode is TEXT:
                frame.data = str(frame.data, "utf-8")  # type: ignore[assignment] # for the library it is not to look at
            self.events.append(frame)
        elif opcode is CONT or not frame.fin:
            self._take_fragment(frame)
        else:
            if opcode is CLOSE:  # also between two fragments (RFC 6455 section 5.4): what was begun is not awaited
                self.current_size = None
            super().recv_frame(frame)

    def _take_fragment(self, frame: Frame) -> None:
        is_first = frame.opcode is not CONT
        if is_first:
            self._fragments = Fragments(is_text=frame.opcode is TEXT)
        if self._fragments is not None:  # else it is one of nothing, and the library says so
            self._hold_to_limit(self._fragments.size + len(frame.data))
            self._fragments.add(frame.data, frame.fin)
            if frame.fin:
                frame.data, self._fragments = self._fragments.whole(), None  # type: ignore[assignment] # the same
        super().recv_frame(frame)
        if is_first and self.current_size is not None:
            self.current_size -= _CONTROL_BYTES

    def _hold_to_limit(self, size: int) -> None:
        if size > self._max_message:
            raise PayloadTooBig(size, self._max_message)

    def fail(self, code: int, reason: str = "") -> None:
        """Fail; of the limit, the one that was configured is told."""
        super().fail(code, f"a message exceeds {self._max_message} bytes" if code == TOO_BIG else reason)


class _Reader(StreamReader):
    """Where the library takes its bytes from: it asks `at_eof` before each frame, then reads its first two bytes, then
    its length if that has a form of its own. That has to be the shortest one (RFC 6455 section 5.2), which the library
    does not look at. Its own two methods are not called: a generator more for each read costs 0.5 µs a frame, of 3.1.
    """

    def __init__(self) -> None:
        super().__init__()
        self._least = b""  # that may be read next, where that is a length

    def at_eof(self) -> Generator[None, None, bool]:
        self._least = _HEAD_IS_NEXT
        while not self.buffer:
            if self.eof:
                return True
            yield
        return False

    def read_exact(self, n: int) -> Generator[None, None, bytearray]:
        buffer = self.buffer
        while len(buffer) < n:
            if self.eof:
                raise EOFError("the stream ended within a frame")
            yield
        data = buffer[:n]
        del buffer[:n]
        if least := self._least:
            if least is _HEAD_IS_NEXT:
                self._least = _LEAST[data[1] & 127]
            elif data < least:
                raise ProtocolError("a length is not in its shortest form")
            else:
                self._least = b""
        return data
