"""Rules for every stream: the same requests for any cuts, one response for each, and the same reading by h11."""

import re
from collections.abc import Callable, Sequence
from random import Random

import h11

from tests.fuzz import second_reading
from tests.fuzz.delivery import CONTINUE, READS, WAITS, BrokenRuleError, End, Outcome, World, answers_unread

#: Statuses of asgid's own responses; 503 is for a client with too many waiting requests.
REFUSALS = frozenset({400, 408, 413, 414, 417, 431, 501, 503, 505})
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
#: Above this number of requests the bound on waiting ones may be met, and that depends on the cuts.
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
        """Deliver a stream in one read; return the outcomes of an application that does not wait and of one that
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
        """Check that the pieces have the outcome of the whole stream."""
        for world in self._worlds:
            self._same(stream, self._remembered(world, stream), world.deliver(pieces, room=room), pieces)

    def every_cut(self, stream: bytes, step: int = 1) -> None:
        """Check the stream whole, byte by byte, and in two pieces cut at every `step`th place."""
        self.whole(stream)
        self.cut(stream, [stream[at : at + 1] for at in range(len(stream))])
        for at in range(1, len(stream), step):
            self.cut(stream, [stream[:at], stream[at:]])

    def every_cut_in_turn(self, stream: bytes, step: int = 1) -> None:
        """As `every_cut`, but each place is cut for one of the two applications only."""
        self.whole(stream)
        self.cut(stream, [stream[at : at + 1] for at in range(len(stream))])
        for number, at in enumerate(range(1, len(stream), step)):
            world, pieces = self._worlds[number % len(self._worlds)], [stream[:at], stream[at:]]
            self._same(stream, self._remembered(world, stream), world.deliver(pieces), pieces)

    def every_way(self, stream: bytes) -> None:
        """Check all that a stream alone can show: the run that found a broken rule may have had more input."""
        self.every_cut(stream, 1 if len(stream) < 300 else 5)
        for at in range(0, len(stream), 1 if len(stream) < 100 else 7):
            self.cut(stream, [piece for piece in (stream[:at], stream[at:]) if piece], 0)
            for end in End:
                self.broken_off(stream, at, end)

    def broken_off(self, stream: bytes, at: int, end: End) -> None:
        """Check that a client that leaves within the stream gets no more than one that stays."""
        for world in self._worlds:
            self._begins_alike(stream, self._remembered(world, stream), world.deliver([stream[:at]], end))

    def in_weather(self, stream: bytes, pieces: Sequence[bytes], weather: Random) -> None:
        """Check a slow reader and random events: nothing is left, and nothing is done twice."""
        room = weather.choice((None, 0, 60))
        end = weather.choice(tuple(End))
        for world in self._worlds:
            self._begins_alike(stream, self._remembered(world, stream), world.deliver(pieces, end, room, weather))
        for world in self._others:
            world.deliver(pieces, end, room, weather)

    def _remembered(self, world: World, stream: bytes) -> Outcome:
        """Return the outcome in one read. The last one is kept, because a stream is cut many times."""
        if world.last is None or world.last[0] is not stream:
            world.last = stream, world.deliver([stream])
        return world.last[1]

    def _same(self, stream: bytes, whole: Outcome, cut: Outcome, pieces: Sequence[bytes]) -> None:
        if self._is_limited or len(whole.seen) > _MANY or len(cut.seen) > _MANY:
            # Only the parser knows where a head began in a read, so pieces may meet a limit that the whole does not.
            self._begins_alike(stream, whole, cut)
            return
        if whole.seen != cut.seen:
            raise BrokenRuleError("the cut changes the requests", _told(pieces, whole, cut), stream)
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
    """Return the final statuses but for a rejection: of two faults in one read the parser may report either."""
    statuses = [int(status) for status in _STATUS.findall(_without_leave(outcome))]
    return [400 if status in REFUSALS else status for status in statuses]


def _told(pieces: Sequence[bytes], whole: Outcome, cut: Outcome) -> str:
    return f"in pieces {list(pieces)[:9]!r}\n  whole {whole}\n  cut   {cut}"


def answers_are_whole(stream: bytes, outcome: Outcome) -> None:
    """Check that each request has one response in order, followed by at most one rejection and the end."""
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
    if refusal is None or rest:  # perhaps to HEAD, without a body
        refusal, rest = _answer(unread, "HEAD", stream)
    if refusal is None or refusal.status_code not in REFUSALS or rest or not outcome.is_closed:
        raise BrokenRuleError("something is written that answers nothing", unread, stream)
    if (b"connection", b"close") not in list(refusal.headers):
        raise BrokenRuleError("a refusal does not say that it is the end", refusal, stream)


def _answer(written: bytes, method: str, stream: bytes) -> tuple[h11.Response | None, bytes]:
    """Return the first final response as h11 reads it and the bytes behind it; None if it is not whole."""
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
                    if method == "CONNECT" and event.status_code < 300:  # the bytes behind it are a tunnel to h11
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
    """Return a shorter stream that breaks the same rule, by leaving out blocks of bytes."""

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
