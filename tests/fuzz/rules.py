"""What must hold for every stream: the same requests however it is cut, each answered once, and as h11 reads it."""

import re
from collections.abc import Callable, Sequence
from random import Random

import h11

from tests.fuzz import second_reading
from tests.fuzz.delivery import CONTINUE, READS, WAITS, BrokenRuleError, End, Outcome, World, answers_unread

#: What asgid itself may answer; 503 is for a client that lets too many requests wait.
REFUSALS = frozenset({400, 408, 413, 414, 417, 431, 501, 503, 505})
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
#: More requests than this may meet the bound of those that wait on a connection, and that depends on the cuts.
_MANY = 90


class Rules:
    """Worlds to deliver to; each method raises BrokenRuleError."""

    def __init__(self, **limits: int) -> None:
        self._worlds = [World(app, limits) for app in (READS, WAITS)]
        self._others = [World(answers_unread, limits)]
        self._is_limited = bool(limits)

    def close(self) -> None:
        for world in (*self._worlds, *self._others):
            world.close()

    @property
    def delivered(self) -> int:
        return sum(world.delivered for world in (*self._worlds, *self._others))

    def whole(self, stream: bytes) -> list[Outcome]:
        """Deliver a stream in one read; return what becomes of it with an application that does not wait, and one that
        does.
        """
        outcomes = []
        for world in self._worlds:
            outcome = world.deliver([stream])
            answers_are_whole(stream, outcome)
            second_reading.agree(stream, outcome.seen)
            outcomes.append(outcome)
        self._same(stream, outcomes[0], outcomes[1], [stream])
        return outcomes

    def cut(self, stream: bytes, pieces: Sequence[bytes], room: int | None = None) -> None:
        """The pieces have the outcome of the whole."""
        for world in self._worlds:
            self._same(stream, self._remembered(world, stream), world.deliver(pieces, room=room), pieces)

    def every_cut(self, stream: bytes, step: int = 1) -> None:
        """Whole, byte by byte, and in two at every place; at every `step`th for long ones."""
        self.whole(stream)
        self.cut(stream, [stream[at : at + 1] for at in range(len(stream))])
        for at in range(1, len(stream), step):
            self.cut(stream, [stream[:at], stream[at:]])

    def every_cut_in_turn(self, stream: bytes, step: int = 1) -> None:
        """The same, but each place is cut before one of the two applications only."""
        self.whole(stream)
        self.cut(stream, [stream[at : at + 1] for at in range(len(stream))])
        for number, at in enumerate(range(1, len(stream), step)):
            world, pieces = self._worlds[number % len(self._worlds)], [stream[:at], stream[at:]]
            self._same(stream, self._remembered(world, stream), world.deliver(pieces), pieces)

    def every_way(self, stream: bytes) -> None:
        """All that a stream alone can show: what found a broken rule had perhaps more in hand."""
        self.every_cut(stream, 1 if len(stream) < 300 else 5)
        for at in range(0, len(stream), 1 if len(stream) < 100 else 7):
            self.cut(stream, [piece for piece in (stream[:at], stream[at:]) if piece], 0)
            for end in End:
                self.broken_off(stream, at, end)

    def broken_off(self, stream: bytes, at: int, end: End) -> None:
        """A client that leaves in the middle has had no more than one that stays."""
        for world in self._worlds:
            self._begins_alike(stream, self._remembered(world, stream), world.deliver([stream[:at]], end))

    def in_weather(self, stream: bytes, pieces: Sequence[bytes], weather: Random) -> None:
        """Whatever else happens, with a client that reads slowly or not; nothing is left, nothing is done twice."""
        room = weather.choice((None, 0, 60))
        end = weather.choice(tuple(End))
        for world in self._worlds:
            self._begins_alike(stream, self._remembered(world, stream), world.deliver(pieces, end, room, weather))
        for world in self._others:
            world.deliver(pieces, end, room, weather)

    def _remembered(self, world: World, stream: bytes) -> Outcome:
        """Return the outcome in one read; the last one is kept, for a stream is cut in many ways."""
        if world.last is None or world.last[0] is not stream:
            world.last = stream, world.deliver([stream])
        return world.last[1]

    def _same(self, stream: bytes, whole: Outcome, cut: Outcome, pieces: Sequence[bytes]) -> None:
        if self._is_limited or len(whole.seen) > _MANY or len(cut.seen) > _MANY:
            # Where in a read a head began only the parser knows, so a limit may be met by pieces and not by the whole.
            self._begins_alike(stream, whole, cut)
            return
        if whole.seen != cut.seen:
            raise BrokenRuleError("the cut changes what is seen", _told(pieces, whole, cut), stream)
        if whole.is_closed != cut.is_closed:
            raise BrokenRuleError("the cut changes whether the connection stays", _told(pieces, whole, cut), stream)
        if _without_leave(whole) != _without_leave(cut) and _statuses(whole) != _statuses(cut):
            raise BrokenRuleError("the cut changes the answers", _told(pieces, whole, cut), stream)

    def _begins_alike(self, stream: bytes, whole: Outcome, part: Outcome) -> None:
        shorter = min(len(whole.seen), len(part.seen))
        if whole.seen[:shorter] != part.seen[:shorter]:
            raise BrokenRuleError("other requests are seen", _told([stream], whole, part), stream)
        if not self._is_limited and len(part.seen) > len(whole.seen):
            raise BrokenRuleError("more requests are seen", _told([stream], whole, part), stream)


def _without_leave(outcome: Outcome) -> bytes:
    return outcome.written.replace(CONTINUE, b"")


def _statuses(outcome: Outcome) -> list[int]:
    """Return the final ones. Which refusal ends them is left out: of two faults in one read the parser tells either."""
    statuses = [int(status) for status in _STATUS.findall(_without_leave(outcome))]
    return [400 if status in REFUSALS else status for status in statuses]


def _told(pieces: Sequence[bytes], whole: Outcome, cut: Outcome) -> str:
    return f"in pieces {list(pieces)[:9]!r}\n  whole {whole}\n  cut   {cut}"


def answers_are_whole(stream: bytes, outcome: Outcome) -> None:
    """One answer for each request that was seen, in turn; then at most one refusal, and the end."""
    unread = outcome.written
    for number, request in enumerate(outcome.seen, 1):
        answer, unread = _answer(unread, request.method, stream)
        if answer is None or answer.status_code != 200 or (b"x-number", b"%d" % number) not in list(answer.headers):
            raise BrokenRuleError("a request has no answer, or another's", f"{number}: {answer}", stream)
    while unread.startswith(CONTINUE):
        unread = unread.removeprefix(CONTINUE)
    if not unread:
        return
    refusal, rest = _answer(unread, "GET", stream)
    if refusal is None or rest:  # perhaps of a HEAD, which has no body
        refusal, rest = _answer(unread, "HEAD", stream)
    if refusal is None or refusal.status_code not in REFUSALS or rest or not outcome.is_closed:
        raise BrokenRuleError("something is written that answers nothing", unread, stream)
    if (b"connection", b"close") not in list(refusal.headers):
        raise BrokenRuleError("a refusal does not say that it is the end", refusal, stream)


def _answer(written: bytes, method: str, stream: bytes) -> tuple[h11.Response | None, bytes]:
    """Return the first final answer as h11 reads it, and what follows it; None where it is not whole."""
    reader = h11.Connection(our_role=h11.CLIENT)
    reader.send(h11.Request(method=method, target="a:1" if method == "CONNECT" else "/", headers=[("host", "a")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(written)
    answer = None
    try:
        while True:
            match event := reader.next_event():
                case h11.Response():
                    answer = event
                    if method == "CONNECT" and event.status_code < 300:  # what follows it is a tunnel's to h11
                        return answer, b""
                case h11.EndOfMessage():
                    return answer, reader.trailing_data[0]
                case h11.InformationalResponse() | h11.Data():
                    pass
                case _:
                    return None, b""
    except h11.RemoteProtocolError as error:
        raise BrokenRuleError("h11 does not read an answer", f"{error}: {written!r}", stream) from error


def smallest(stream: bytes, judge: Callable[[bytes], None], rule: str) -> bytes:
    """Return a shorter stream that breaks the same rule: blocks of bytes are left out as long as it does."""

    def breaks(candidate: bytes) -> bool:
        try:
            judge(candidate)
        except BrokenRuleError as error:
            return error.rule == rule
        return False

    size = max(1, len(stream) // 2)
    while True:
        at, before = 0, len(stream)
        while at < len(stream):
            candidate = stream[:at] + stream[at + size :]
            if breaks(candidate):
                stream = candidate
            else:
                at += size
        if size > 1:
            size //= 2
        elif len(stream) == before:
            return stream
