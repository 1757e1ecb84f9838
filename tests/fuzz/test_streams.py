"""The short part of `make fuzz`: the whole corpus cut at every place, and some random streams.

Seeds are fixed, so the streams are the same in each run. `tests/fuzz/run.py` goes on from here.
"""

import re
from contextlib import closing
from itertools import cycle
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import answers, corpus, endless, grammar, second_reading
from tests.fuzz.corpus import BEYOND_A_LIMIT, GOOD, LARGE, LIMITS, STREAMS
from tests.fuzz.delivery import READS, BrokenRuleError, End, World
from tests.fuzz.mutations import mutated, pieces
from tests.fuzz.rules import Rules, smallest
from tests.fuzz.run import Part, Run
from tests.worker import apps

#: Streams up to this size are cut at every place here, longer ones at every seventh.
_SHORT = 250
_SETTINGS = settings(
    max_examples=150, derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def rules():
    with closing(Rules()) as rules:
        yield rules


@pytest.fixture(scope="module")
def limited():
    with closing(Rules(**LIMITS)) as rules:
        yield rules


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_the_outcome_does_not_depend_on_the_cuts(rules, stream):
    """Whole, byte by byte, and in two: the same requests as h11 reads, the same responses, the same end."""
    rules.every_cut_in_turn(stream, 1 if len(stream) < _SHORT else 7)


@pytest.mark.parametrize("stream", GOOD.values(), ids=GOOD)
def test_a_valid_stream_is_served(rules, stream):
    outcome, _ = rules.whole(stream)

    assert outcome.seen
    assert b"HTTP/1.1 4" not in outcome.written
    assert b"HTTP/1.1 5" not in outcome.written


@pytest.mark.parametrize("stream", BEYOND_A_LIMIT.values(), ids=BEYOND_A_LIMIT)
def test_a_limit_holds_for_any_cuts(limited, stream):
    limited.every_cut_in_turn(stream, 1 if len(stream) < _SHORT else len(stream) // 30)


@pytest.mark.parametrize("stream", LARGE.values(), ids=LARGE)
def test_a_large_body_does_not_depend_on_the_size_of_reads(rules, stream):
    """Even if reading pauses until the application takes a part."""
    rules.whole(stream)
    for size in (1_460, 100_000, 262_144):
        rules.cut(stream, [stream[at : at + size] for at in range(0, len(stream), size)])


def test_a_client_may_leave_at_any_byte(rules):
    """By a close or a reset: nothing of it is left, and it got no more than it had requested."""
    for stream in STREAMS.values():
        for at, end in zip(range(0, len(stream), 2 if len(stream) < _SHORT else 15), cycle(End), strict=False):
            rules.broken_off(stream, at, end)


def test_no_event_leaves_anything_of_a_request(rules):
    """Slow readers, deadlines and drains, in the middle of any stream."""
    weather = Random(1)
    for stream in STREAMS.values():
        for _ in range(3):
            rules.in_weather(stream, pieces(stream, weather), weather)


def test_mutated_streams_keep_the_rules(rules, limited):
    """A thousand of them; `make fuzz` makes some millions."""
    chance = Random(1)
    streams = [stream for stream in (*STREAMS.values(), *BEYOND_A_LIMIT.values()) if len(stream) < 600]
    for number in range(1000):
        stream = mutated(streams, chance)
        either = limited if number % 4 == 0 else rules
        either.whole(stream)
        either.cut(stream, pieces(stream, chance), chance.choice((None, 0, 60)))


@_SETTINGS
@given(cut_stream=grammar.cut_streams())
def test_generated_streams_keep_the_rules(rules, cut_stream):
    """Nearly valid requests are rejected, or read as by h11."""
    stream, cut = cut_stream
    rules.whole(stream)
    rules.cut(stream, cut)


@pytest.fixture(scope="module")
def speaking():
    with closing(World(answers.says)) as world:
        yield world


@_SETTINGS
@given(
    conversation=answers.CONVERSATIONS,
    sizes=st.lists(st.integers(1, 60), max_size=4),
    room=st.sampled_from([None, 0, 100]),
)
def test_responses_are_read_back_by_h11(speaking, conversation, sizes, room):
    """On a whole connection: in order, each with one framing, and nothing after the last one."""
    answers.are_read_back(speaking, conversation, sizes, room)


@pytest.mark.parametrize(
    ("name", "app"),
    [
        *((name, endless.forgets) for name in endless.ENDLESS),
        *((name, apps.never_returns) for name, stream in endless.ENDLESS.items() if stream.has_whole_head),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_endless_streams_do_not_fill_memory(name, app):
    """In several reads: a pause of reading must come in time. 3,000 whole requests are enough to detect a leak."""
    total_bytes = 1 << 17 if name.startswith(("requests", "offers")) else 1 << 18
    with closing(World(app, endless.LIMITS)) as world:
        endless.is_bounded(world, name, total_bytes, read_bytes=1 << 16)


# -- the rules themselves ----------------------------------------------------------------------------------------------


def test_another_end_of_a_body_is_detected():
    """h11 reads each served request: one byte more or less of a body is a broken rule."""
    stream = GOOD["a body"]
    with closing(World(READS)) as world:
        (seen,) = world.deliver([stream]).seen
    second_reading.agree(stream, [seen])

    with pytest.raises(BrokenRuleError, match="h11 reads another body"):
        second_reading.agree(stream, [seen._replace(body=seen.body + b"x")])
    with pytest.raises(BrokenRuleError, match="does not read a request that was served"):
        second_reading.agree(stream, [seen, seen])


def test_the_smallest_stream_that_breaks_a_rule_is_found():
    def judge(stream: bytes) -> None:
        if b"\0" in stream and stream.startswith(b"G"):
            raise BrokenRuleError("a NUL")
        if not stream.startswith(b"G"):
            raise BrokenRuleError("another")

    assert b"G\0" == smallest(b"GET /\0\0\0 HTTP/1.1\r\n\r\n", judge, "a NUL")


def test_a_run_ends_at_a_broken_rule_with_a_row_for_the_corpus(capsys):
    def steps():
        yield 1
        raise BrokenRuleError("a NUL", stream=b"GET /\0 HTTP/1.1")

    def judge(stream: bytes) -> None:
        if b"\0" in stream:
            raise BrokenRuleError("a NUL")

    run = Run(minutes=1, seed=1, parts=[Part("a part", 1, steps(), judge)])

    assert 1 == run.turn_by_turn()
    assert """    "a NUL": b'\\x00',\n""" in capsys.readouterr().out


def test_a_run_without_a_broken_rule_ends_with_0(capsys):
    run = Run(minutes=1, seed=1, parts=[Part("a part", 1, (n for n in (3, 4)))])

    assert 0 == run.turn_by_turn()
    assert re.search(r"a part +7 ", capsys.readouterr().out)


def test_no_stream_is_in_the_corpus_twice():
    tables = (corpus.GOOD, corpus.UNFINISHED, corpus.BAD, corpus.BEYOND_A_LIMIT, corpus.LARGE)
    streams = [stream for table in tables for stream in table.values()]

    assert len(streams) == len(set(streams)) == len({name for table in tables for name in table})
