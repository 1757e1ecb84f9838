"""Rules for every stream of frames: the same messages and end for any cuts and for wsproto; two clients can read
the server's frames; the end is counted once.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

from asgid.board import CLOSE_CODES
from tests.fuzz.delivery import BrokenRuleError, End, Outcome, World
from tests.fuzz.websocket import second_reading
from tests.fuzz.websocket.apps import ECHOES, LISTENS, OTHERS, WAITS
from tests.fuzz.websocket.corpus import HANDSHAKE, MAX_MESSAGE, OFFER
from tests.fuzz.websocket.second_reading import ABNORMAL, NO_TEXT, PROTOCOL_ERROR, TOO_BIG, Answered

#: Codes with which asgid may end a valid WebSocket: lost, silent, or drained.
_OWN_ENDS = frozenset({ABNORMAL, 1011, 1012})
#: Codes of faults that `websockets` may accept.
_FAULTS = frozenset({PROTOCOL_ERROR, NO_TEXT, TOO_BIG})


class Rules:
    """Worlds to deliver to; each method raises BrokenRuleError. A stream follows the handshake."""

    def __init__(self, *, is_deflated: bool = False, queue: int = 32) -> None:
        settings = {"max_message": MAX_MESSAGE, "queue": queue}
        self.is_deflated = is_deflated
        self._handshake = OFFER if is_deflated else HANDSHAKE
        self._worlds = [World(app, None, settings) for app in (LISTENS, ECHOES, WAITS)]
        self._others = [World(app, None, settings, is_obliging=is_obliging) for app, is_obliging in OTHERS.items()]

    def close(self) -> None:
        for world in (*self._worlds, *self._others):
            world.close()

    @property
    def delivered(self) -> int:
        return sum(world.delivered for world in (*self._worlds, *self._others))

    def whole(self, stream: bytes) -> None:
        """Deliver a stream in one read, with its handshake."""
        for world in self._worlds:
            with self._of(stream):
                self._agrees(stream, world.deliver([self._handshake + stream]))

    def cut(self, stream: bytes, pieces: Sequence[bytes], room: int | None = None) -> None:
        """Check that the pieces have the outcome of the whole stream."""
        for world in self._worlds:
            with self._of(stream):
                cut = world.deliver([self._handshake, *pieces], room=room)
                self._same(self._remembered(world, stream), cut, pieces)

    def every_cut(self, stream: bytes, step: int = 1) -> None:
        """Check the stream whole, byte by byte, and cut at every `step`th place and within the handshake."""
        self.whole(stream)
        self.cut(stream, [stream[at : at + 1] for at in range(len(stream))])
        for at in range(1, len(stream), step):
            self.cut(stream, [stream[:at], stream[at:]])
        self.cut_in_handshake(stream, 1)
        self.cut_in_handshake(stream, len(self._handshake) - 2)

    def cut_in_handshake(self, stream: bytes, at: int) -> None:
        """Deliver the handshake in two reads."""
        for world in self._worlds:
            with self._of(stream):
                pieces = [self._handshake[:at], self._handshake[at:] + stream]
                self._same(self._remembered(world, stream), world.deliver(pieces), pieces)

    def every_way(self, stream: bytes) -> None:
        """Check all that a stream alone can show: the run that found a broken rule may have had more input."""
        self.every_cut(stream, 1 if len(stream) < 300 else 5)
        for at in range(0, len(stream), 1 if len(stream) < 100 else 7):
            self.cut(stream, [piece for piece in (stream[:at], stream[at:]) if piece], 0)
            for end in End:
                self.broken_off(stream, at, end)

    def broken_off(self, stream: bytes, at: int, end: End) -> None:
        """Check that wsproto reads the same up to the place where the client leaves."""
        pieces = [self._handshake, stream[:at]] if at else [self._handshake]
        for world in self._worlds:
            with self._of(stream):
                outcome = world.deliver(pieces, end)
                if end is End.CLOSE:
                    self._agrees(stream[:at], outcome)
                else:
                    self._begins_alike(self._remembered(world, stream), outcome)
        for world in self._others:
            with self._of(stream):
                self._is_read(world.deliver(pieces, end))

    def in_weather(self, stream: bytes, pieces: Sequence[bytes], weather: Random) -> None:
        """Check a slow reader and random events: nothing is left, and nothing is done twice."""
        room = weather.choice((None, 0, 60))
        end = weather.choice(tuple(End))
        for world in self._worlds:
            with self._of(stream):
                outcome = world.deliver([self._handshake, *pieces], end, room, weather)
                self._begins_alike(self._remembered(world, stream), outcome)
        for world in self._others:
            with self._of(stream):
                self._is_read(world.deliver([self._handshake, *pieces], end, room, weather))

    @contextmanager
    def _of(self, stream: bytes) -> Iterator[None]:
        try:
            yield
        except BrokenRuleError as error:
            error.stream = stream
            raise

    def _remembered(self, world: World, stream: bytes) -> Outcome:
        """Return the outcome in one read. The last one is kept, because a stream is cut many times."""
        if world.last is None or world.last[0] is not stream:
            world.last = stream, world.deliver([self._handshake + stream])
        return world.last[1]

    # Received and written messages

    def _agrees(self, stream: bytes, outcome: Outcome) -> None:
        """Check that the application received the messages that wsproto reads."""
        heard = second_reading.read(stream, is_deflated=self.is_deflated, max_message=MAX_MESSAGE)
        read = self._is_read(outcome)
        messages, (code, reason) = outcome.told, outcome.end or (0, "not told")
        if messages != heard.messages:
            raise BrokenRuleError("wsproto reads other messages", f"{heard.messages}, and we {messages}")
        if not self.is_deflated:
            told = [one.encode() if isinstance(one, str) else one for one in messages]
            theirs = second_reading.messages_by_websockets(stream)
            if told != (theirs[: len(told)] if code in _FAULTS else theirs):
                raise BrokenRuleError("websockets reads other messages", f"{theirs}, and we {told}")
        if code not in heard.ends:
            raise BrokenRuleError("wsproto reads another end", f"{sorted(heard.ends)}, and we {code} {reason!r}")
        if heard.reason not in (None, reason):
            raise BrokenRuleError("wsproto reads another reason", f"{heard.reason!r}, and we {reason!r}")
        if read.pongs != heard.pings:
            raise BrokenRuleError("pings are not answered, or what was none", f"{heard.pings}, {read.pongs}")
        if (read.close or (ABNORMAL, ""))[0] != code:
            raise BrokenRuleError("the client gets another end", f"{read.close}, and the application {code}")
        if outcome.is_closed != (code != ABNORMAL):
            raise BrokenRuleError("a WebSocket is closed that was not over, or the other way", f"{code}")

    def _is_read(self, outcome: Outcome) -> Answered:
        """Check that a client can read the written frames, and that the end is counted once with its code."""
        head, _, frames = outcome.written.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            if outcome.closes and head:  # it has not read anything yet
                raise BrokenRuleError("a WebSocket that was never open is counted as closed", outcome)
            return Answered()
        if (b"permessage-deflate" in head) != self.is_deflated:
            raise BrokenRuleError("something else is agreed than was offered", head)
        read = second_reading.answered(frames, is_deflated=self.is_deflated)
        if len(outcome.closes) != 1:
            raise BrokenRuleError("a WebSocket's end is not counted once", outcome)
        if outcome.end and _label(outcome.end[0]) != outcome.closes[0]:
            raise BrokenRuleError("another end is counted than the application received", outcome)
        return read

    def _same(self, whole: Outcome, cut: Outcome, pieces: Sequence[bytes]) -> None:
        if whole.told != cut.told or not self._is_same_end(whole, cut):
            raise BrokenRuleError("the cut changes the received messages", _shown(pieces, whole, cut))
        if whole.is_closed != cut.is_closed:
            raise BrokenRuleError("the cut changes whether the WebSocket stays", _shown(pieces, whole, cut))
        ours, theirs = self._is_read(whole), self._is_read(cut)
        if ours.pongs != theirs.pongs or (ours.close != theirs.close and whole.end == cut.end):
            raise BrokenRuleError("the cut changes the frames of the server", _shown(pieces, whole, cut))
        # With an application that echoes, the number of messages before the end depends on its time.
        shorter = min(len(ours.messages), len(theirs.messages)) if ours.close else None
        if ours.messages[:shorter] != theirs.messages[:shorter]:
            raise BrokenRuleError("the cut changes the echoes", _shown(pieces, whole, cut))

    def _is_same_end(self, one: Outcome, other: Outcome) -> bool:
        """Return whether both ends are the same. If the next block is here, zlib looks at it behind the last
        permitted byte, so either of two faults in such a frame may be reported.
        """
        codes = {outcome.end[0] for outcome in (one, other) if outcome.end}
        return one.end == other.end or (self.is_deflated and codes == {NO_TEXT, TOO_BIG})

    def _begins_alike(self, whole: Outcome, part: Outcome) -> None:
        """Check that all received messages are those of the whole stream, and that any other end is the server's
        own.
        """
        self._is_read(part)
        if part.told != whole.told[: len(part.told)]:
            raise BrokenRuleError("other messages are received", _shown([], whole, part))
        if part.end and part.end[0] not in _OWN_ENDS and not self._is_same_end(whole, part):
            raise BrokenRuleError("another end is received", _shown([], whole, part))


def _label(code: int) -> str:
    return str(code) if str(code) in CLOSE_CODES else "other"


def _shown(pieces: Sequence[bytes], whole: Outcome, cut: Outcome) -> str:
    return f"in pieces {list(pieces)[:9]!r}\n  whole {whole}\n  cut   {cut}"
