"""The short part of `make fuzz` for WebSockets: the corpus cut in many ways, and some random streams.

Seeds are fixed, so the streams are the same in each run. `tests/fuzz/run.py` goes on from here.
"""

from contextlib import closing
from itertools import cycle
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz import endless
from tests.fuzz.delivery import BrokenRuleError, End, World
from tests.fuzz.mutations import mutated, pieces
from tests.fuzz.websocket import grammar, second_reading
from tests.fuzz.websocket.corpus import DEFLATED, FIN, GOOD, INTERESTING, STREAMS, TEXT, close, frame, text
from tests.fuzz.websocket.rules import Rules
from tests.worker import apps

#: Streams up to this size are cut at every place here, longer ones at every 41st.
_SHORT = 40
_SETTINGS = settings(
    max_examples=50, derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def plain():
    with closing(Rules()) as rules:
        yield rules


@pytest.fixture(scope="module")
def compressed():
    with closing(Rules(is_deflated=True, queue=1)) as rules:
        yield rules


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_the_messages_do_not_depend_on_the_cuts(plain, stream):
    """Whole, byte by byte, and in two: the same messages as wsproto reads, and the same close."""
    plain.every_cut(stream, 1 if len(stream) < _SHORT else 41)


@pytest.mark.parametrize("stream", DEFLATED.values(), ids=DEFLATED)
def test_compressed_messages_do_not_depend_on_the_cuts(compressed, stream):
    """Even if one message fills the queue."""
    compressed.every_cut(stream, 1 if len(stream) < _SHORT else 41)


def test_a_valid_stream_is_not_closed_as_malformed(plain):
    world = plain._worlds[0]
    ends = {name: world.deliver([plain._handshake + stream]).end for name, stream in GOOD.items()}

    assert {} == {name: end for name, end in ends.items() if end is None or end[0] in (1002, 1007, 1009, 1011)}


def test_a_websocket_client_may_leave_at_any_byte(plain):
    """By a close or a reset, with every application: nothing of it is left."""
    for stream in STREAMS.values():
        for at, end in zip(range(0, len(stream) + 1, 3 if len(stream) < _SHORT else 49), cycle(End), strict=False):
            plain.broken_off(stream, at, end)


def test_no_event_leaves_anything_of_a_websocket(plain, compressed):
    """Slow readers, deadlines and drains, in the middle of any stream."""
    weather = Random(1)
    for stream in STREAMS.values():
        for rules in (plain, compressed):
            rules.in_weather(stream, pieces(stream, weather), weather)


def test_mutated_frames_keep_the_rules(plain, compressed):
    """300 of them; `make fuzz` makes some hundred thousands."""
    chance = Random(1)
    streams = [stream for stream in (*STREAMS.values(), *DEFLATED.values()) if len(stream) < 200]
    for number in range(300):
        stream = mutated(streams, chance, INTERESTING)
        rules = (plain, compressed)[number % 2]
        rules.whole(stream)
        rules.cut(stream, pieces(stream, chance), chance.choice((None, 0, 60)))


@_SETTINGS
@given(cut_stream=grammar.cut_streams(is_deflated=True))
def test_generated_frames_keep_the_rules(compressed, cut_stream):
    """Nearly valid ones are rejected, or read as by wsproto."""
    stream, cut = cut_stream
    compressed.whole(stream)
    compressed.cut(stream, cut)


@pytest.mark.parametrize("app", [apps.echo, apps.never_receives], ids=["that echoes", "that never receives"])
@pytest.mark.parametrize("name", endless.ENDLESS_FRAMES)
def test_endless_frames_do_not_fill_memory(name, app):
    """Compressed, fragmented, or behind the end: a read of 32 KiB is enough to detect it."""
    with closing(World(app, None, endless.FRAMES_LIMITS, is_obliging=app is apps.echo)) as world:
        endless.is_bounded(world, name, total_bytes=1 << 15, read_bytes=1 << 15)


# -- the rules themselves ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "told", "end", "rule"),
    [
        (text("a"), ["b"], (1006, ""), "other messages"),
        (text("a"), ["a"], (1000, ""), "another end"),
        (close(1000, b"x"), [], (1000, "y"), "another reason"),
        (frame(FIN | TEXT, b"\xff"), [], (1002, ""), "another end"),
    ],
)
def test_another_reading_by_wsproto_is_detected(plain, stream, told, end, rule):
    outcome = plain._worlds[0].deliver([plain._handshake + stream])
    plain._agrees(stream, outcome)
    outcome.told, outcome.end, outcome.closes = told, end, (str(end[0]),)

    with pytest.raises(BrokenRuleError, match=f"wsproto reads {rule}"):
        plain._agrees(stream, outcome)


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        (b"\x88\x02\x03\xe8\x88\x02\x03\xe8", "after the close"),
        (b"\x88\x02\x03\xe8\x81\x00", "after the close"),
        (b"\x81\x80\0\0\0\0", "does not read"),
        (b"\xc1\x01\0", "does not read"),
        (b"\x81\x01\xff", "does not read"),
    ],
)
def test_frames_that_no_client_could_read_are_detected(written, rule):
    """A second close, a message behind a close, a mask, compression without agreement, and invalid text."""
    with pytest.raises(BrokenRuleError, match=rule):
        second_reading.answered(written, is_deflated=False)
