"""The core of `websockets` for a server, where it has to be ours: text is judged in its turn among the other frames.

Frames come out of it as whole messages. It does not know the connection.
"""

import logging

from websockets.frames import BINARY, CLOSE, CONT, TEXT, Frame
from websockets.protocol import SERVER, Protocol

from asgid.worker.fragments import Fragments

# What the library would say is counted on the board, or in the access log.
_SILENT = logging.Logger("silent", logging.CRITICAL + 1)  # noqa: LOG001 - no application's logging reaches it


class Core(Protocol):
    """The protocol of one client. The last frame of a message has the whole of it for its data, and text is a str."""

    def __init__(self, max_message: int) -> None:
        super().__init__(SERVER, max_size=max_message, logger=_SILENT)
        self._fragments: Fragments | None = None  # of a message that is not whole yet

    def recv_frame(self, frame: Frame) -> None:
        """Take a frame; what is no text fails here, so that nothing behind it is read, answered or believed."""
        opcode = frame.opcode
        if opcode is CLOSE:  # also between two fragments (RFC 6455 section 5.4): what was begun is not awaited
            self.current_size = None
        elif opcode is CONT or ((opcode is TEXT or opcode is BINARY) and not frame.fin):
            self._take_fragment(frame)
        elif opcode is TEXT:
            frame.data = str(frame.data, "utf-8")  # type: ignore[assignment] # bytes to the library, which asks only for the length
        super().recv_frame(frame)

    def _take_fragment(self, frame: Frame) -> None:
        if frame.opcode is not CONT:
            self._fragments = Fragments(is_text=frame.opcode is TEXT)
        if self._fragments is None:  # a fragment of nothing: the library says so
            return
        self._fragments.add(frame.data, frame.fin)
        if frame.fin:
            frame.data, self._fragments = self._fragments.whole(), None  # type: ignore[assignment] # as above
