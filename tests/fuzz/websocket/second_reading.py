"""wsproto as a second decoder, and the client of `websockets` as a second reader of the server's frames.

`read` returns the messages that a server may read; a comment has the reason if asgid and wsproto may differ. `answered`
returns the frames that both clients read. Neither knows asgid.
"""

import codecs
import zlib
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from websockets.extensions.permessage_deflate import PerMessageDeflate as Websockets
from websockets.frames import CLOSE, DATA_OPCODES, PONG, TEXT
from websockets.frames import Frame as TheirFrame
from websockets.protocol import CLIENT, SERVER, Protocol
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed

from tests.fuzz.delivery import BrokenRuleError

if TYPE_CHECKING:
    from collections.abc import Sequence

ABNORMAL, PROTOCOL_ERROR, NO_TEXT, TOO_BIG = 1006, 1002, 1007, 1009
_BITS, _TAIL_BYTES = 12, 4
_MIN_MASKED = 6  # bytes of a head with a mask


@dataclass(slots=True)
class Heard:
    """Messages that a server reads. `ends` are the permitted codes: of two faults it may report either. `reason` is
    the client's, if the client closes.
    """

    messages: list[str | bytes] = field(default_factory=list)
    pings: list[bytes] = field(default_factory=list)
    ends: frozenset[int] = frozenset()
    reason: str | None = None


def read(frames: bytes, *, is_deflated: bool, max_message: int) -> Heard:
    """Return the messages that wsproto reads under a limit, which wsproto itself does not have."""
    return _Reading(frames, max_message, is_deflated=is_deflated).heard()


class _Reading:
    """Reads one frame at a time. wsproto reads whole ones; the content of an unfinished last one is checked here."""

    def __init__(self, frames: bytes, max_message: int, *, is_deflated: bool) -> None:
        self._extension = _deflate() if is_deflated else None
        self._protocol = FrameProtocol(client=False, extensions=[self._extension] if self._extension else [])
        self._protocol.receive_bytes(frames)
        self._max_message = max_message
        self._heard = Heard()
        self._parts: list[str | bytes] = []
        self._content = b""  # of the message that has begun
        self._behind_final: float = inf  # bytes; inf without a final block

    def heard(self) -> Heard:
        while not self._heard.ends:
            self._heard.ends = self._next()
        return self._heard

    def _next(self) -> frozenset[int]:
        """Read a frame; return the codes with which it may end, or none."""
        decoder, extension = self._protocol._frame_decoder, self._extension
        buffer = decoder.buffer
        length, head, size = _declared(buffer.buffer)
        is_control = bool(buffer.buffer) and bool(buffer.buffer[0] & 8)
        of_head = frozenset({TOO_BIG} if length > self._max_message - len(self._content) and not is_control else ())
        compressed = extension._inbound_compressed if extension else None
        is_fragment = len(buffer.buffer) > 1 and buffer.buffer[0] & 15 == Opcode.CONTINUATION
        is_begun = self._protocol._message_decoder.opcode is not None
        if len(buffer.buffer) > 1 and not is_control and is_fragment != is_begun:  # wsproto inflates before it checks
            return frozenset({PROTOCOL_ERROR})
        if size > len(buffer.buffer):
            part = (
                self._fault_in_part(bytes(buffer.buffer), head)
                if head >= _MIN_MASKED and not is_control
                else frozenset()
            )
            return (of_head or part or frozenset({ABNORMAL})) | self._fault_in_head()
        try:
            frame = decoder.process_buffer()
        except ParseFailed as error:
            inflates = str(error) == "error in extension" and not is_control
            return of_head | {
                int(error.code),
                *([TOO_BIG] if inflates else []),
            }  # asgid inflates no further than the limit
        assert frame is not None
        if is_control:
            if extension:  # after a ping wsproto forgets that the message is compressed
                extension._inbound_compressed = compressed
            return self._control(frame.opcode, bytes(frame.payload))  # type: ignore[arg-type] # not decoded yet
        if extension and extension._decompressor:
            self._behind_final += length + (_TAIL_BYTES if frame.message_finished else 0)
            try:
                frame = frame._replace(payload=bytes(frame.payload) + self._inflated_behind_final(extension))  # type: ignore[arg-type] # not decoded yet
            except zlib.error:
                return of_head | {NO_TEXT, TOO_BIG}
            if frame.message_finished and self._behind_final == _TAIL_BYTES:  # of a block that the client has left out
                extension._decompressor, self._behind_final = zlib.decompressobj(-_BITS), inf
        self._content += bytes(frame.payload)  # type: ignore[arg-type] # the same
        return self._message(frame) or of_head  # compressed, and longer than its content

    def _message(self, frame: Frame) -> frozenset[int]:
        """Read a frame of a message."""
        of_size = frozenset({TOO_BIG} if len(self._content) > self._max_message else ())
        try:
            frame = self._protocol._message_decoder.process_frame(frame)
        except ParseFailed as error:
            return of_size | {int(error.code)}
        self._parts.append(frame.payload)  # type: ignore[arg-type] # a close has another way
        if frame.message_finished and not of_size:
            self._heard.messages.append(_joined(self._parts))
            self._parts, self._content = [], b""
        return of_size

    def _fault_in_part(self, frame: bytes, head: int) -> frozenset[int]:
        """Return the faults in the content of an unfinished frame."""
        opcode, extension = frame[0] & 15, self._extension
        content = _unmasked(frame[head:], frame[head - 4 : head])
        is_compressed = extension is not None and (
            extension._inbound_compressed if opcode == Opcode.CONTINUATION else bool(frame[0] & 0x40)
        )
        if is_compressed and extension:
            try:
                content = _inflated(extension._decompressor, content)
            except zlib.error:
                return frozenset({NO_TEXT, TOO_BIG})
        whole = self._content + content
        of_size = frozenset({TOO_BIG} if len(whole) > self._max_message else ())
        begun = self._protocol._message_decoder.opcode or opcode
        is_text = begun != Opcode.TEXT or _begins_text(whole)
        return of_size if is_text else of_size | {NO_TEXT}

    def _inflated_behind_final(self, extension: PerMessageDeflate) -> bytes:
        """Return the data behind a final block. It begins with a new context (RFC 7692 section 7.2.1), and wsproto
        ignores it.
        """
        inflated = b""
        while extension._decompressor and extension._decompressor.eof:
            rest = extension._decompressor.unused_data
            self._behind_final = len(rest)
            extension._decompressor = zlib.decompressobj(-_BITS)
            inflated += extension._decompressor.decompress(rest)
        return inflated

    def _fault_in_head(self) -> set[int]:
        buffer = self._protocol._frame_decoder.buffer.buffer
        if len(buffer) > 1 and not buffer[1] & 128:  # no mask: wsproto reports it only after the length
            return {PROTOCOL_ERROR}
        try:
            self._protocol._frame_decoder.process_buffer()
        except ParseFailed as error:
            return {int(error.code)}
        return set()

    def _control(self, opcode: Opcode, payload: bytes) -> frozenset[int]:
        if opcode is Opcode.PING:
            self._heard.pings.append(payload)
        if opcode is not Opcode.CLOSE:
            return frozenset()
        code = int.from_bytes(payload[:2]) if len(payload) > 1 else 1005
        if code == 1014:  # registered by IANA after wsproto
            payload = b"\x03\xe8" + payload[2:]
        try:
            closed = self._protocol._process_close(Frame(opcode, payload, True, True)).payload
        except ParseFailed as error:
            return frozenset({int(error.code)} if _is_text(payload[2:]) else {int(error.code), NO_TEXT})
        assert isinstance(closed, tuple)
        self._heard.reason = closed[1]
        return frozenset({code})


def _is_text(data: bytes) -> bool:
    try:
        return data.decode() is not None
    except UnicodeDecodeError:
        return False


def _joined(parts: "Sequence[str | bytes]") -> str | bytes:
    if isinstance(parts[0], str):
        return "".join(part for part in parts if isinstance(part, str))
    return b"".join(part for part in parts if isinstance(part, bytes))


def _begins_text(data: bytes) -> bool:
    try:
        codecs.utf_8_decode(data, "strict", False)
    except UnicodeDecodeError:
        return False
    return True


def _unmasked(data: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


def _inflated(inflater: "zlib._Decompress | None", data: bytes) -> bytes:
    """Return the content of a part of a message, with all data behind final blocks."""
    inflater = inflater.copy() if inflater else zlib.decompressobj(-_BITS)
    inflated = inflater.decompress(data)
    while inflater.eof:
        data, inflater = inflater.unused_data, zlib.decompressobj(-_BITS)
        inflated += inflater.decompress(data)
    return inflated


def _declared(buffer: bytearray) -> tuple[int, int, int]:
    """Return the declared length of the next frame, the bytes of its head, and of all; no head if it has not
    arrived.
    """
    if len(buffer) < 2:
        return 0, 0, 2
    short = buffer[1] & 127
    more = {126: 2, 127: 8}.get(short, 0)
    if len(buffer) < 2 + more:
        return 0, 0, 2 + more
    length = int.from_bytes(buffer[2 : 2 + more]) if more else short
    head = 2 + more + (4 if buffer[1] & 128 else 0)
    return length, head if head <= len(buffer) else 0, head + length


def _deflate() -> PerMessageDeflate:
    extension = PerMessageDeflate(client_max_window_bits=_BITS, server_max_window_bits=_BITS)
    extension._enabled = True
    return extension


def messages_by_websockets(frames: bytes) -> list[bytes]:
    """Return the messages that the server of `websockets` reads before the first fault. It accepts longer forms of
    a length, and any text.
    """
    protocol = Protocol(SERVER, max_size=None)
    protocol.receive_data(frames)
    received: Sequence[TheirFrame] = protocol.events_received()  # type: ignore[assignment] # its others are of the handshake
    messages, parts = list[bytes](), b""
    for one in received:
        if one.opcode in DATA_OPCODES:
            parts += bytes(one.data)
            if one.fin:
                messages.append(parts)
                parts = b""
    return messages


# -- the client's side -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Answered:
    """Messages and pongs that a client reads, and the close, or None."""

    messages: list[str | bytes] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    close: tuple[int, str] | None = None


def answered(frames: bytes, *, is_deflated: bool) -> Answered:
    """Return the frames that both clients read. BrokenRuleError if one fails, if they differ, or if a frame follows
    the close.
    """
    ours, theirs = _by_wsproto(frames, is_deflated=is_deflated), _by_websockets(frames, is_deflated=is_deflated)
    if ours not in (None, theirs):
        raise BrokenRuleError("two clients read something else", f"{ours}, {theirs}")
    return theirs


def _by_wsproto(frames: bytes, *, is_deflated: bool) -> Answered | None:
    protocol = FrameProtocol(client=True, extensions=[_deflate()] if is_deflated else [])
    read, parts = Answered(), list[str | bytes]()
    protocol.receive_bytes(frames)
    try:
        for frame in protocol.received_frames():
            if frame.opcode is Opcode.CLOSE:
                assert isinstance(frame.payload, tuple)
                read.close = int(frame.payload[0]), frame.payload[1]
                break  # it would read on, and this function checks it
            if frame.opcode is Opcode.PONG:
                read.pongs.append(bytes(frame.payload))  # type: ignore[arg-type] # of a close alone it is no bytes
            elif not frame.opcode.iscontrol():
                parts.append(frame.payload)  # type: ignore[arg-type] # the same
                if frame.message_finished:
                    read.messages.append(_joined(parts))
                    parts = []
        if read.close:
            _only_pongs(bytes(protocol._frame_decoder.buffer.buffer))
    except ParseFailed as error:
        if str(error) == "CLOSE with unknown reserved code":  # 1014: registered by IANA after wsproto
            return None
        raise BrokenRuleError("wsproto does not read the written frames", f"{error}: {frames!r}") from error
    return read


def _only_pongs(frames: bytes) -> None:
    """Check that only pongs follow the server's close: it responds to pings until the client's close (section
    5.5.2).
    """
    protocol = FrameProtocol(client=True, extensions=[])
    protocol.receive_bytes(frames)
    for frame in protocol.received_frames():
        if frame.opcode is not Opcode.PONG:
            raise BrokenRuleError("something is written after the close", frame)


def _by_websockets(frames: bytes, *, is_deflated: bool) -> Answered:
    protocol = Protocol(CLIENT, max_size=None)
    protocol.extensions = [Websockets(False, False, _BITS, _BITS)] if is_deflated else []
    protocol.receive_data(frames)
    if protocol.parser_exc:
        raise BrokenRuleError("websockets does not read the written frames", f"{protocol.parser_exc}: {frames!r}")
    read = Answered()
    received: Sequence[TheirFrame] = protocol.events_received()  # type: ignore[assignment] # its others are of the handshake
    for one in received:
        data = bytes(one.data)
        if one.opcode in DATA_OPCODES:
            read.messages.append(data.decode() if one.opcode is TEXT else data)
        elif one.opcode is CLOSE:
            assert protocol.close_rcvd
            read.close = int(protocol.close_rcvd.code), protocol.close_rcvd.reason
        elif one.opcode is PONG:
            read.pongs.append(data)
    return read
