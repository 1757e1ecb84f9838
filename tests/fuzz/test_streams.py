"""The short part of `make fuzz`: the whole corpus cut at every place, and some of what chance makes of it.

The same streams every time: where chance decides, its seed is fixed. `tests/fuzz/run.py` goes on from here.
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
def test_a_stream_has_one_outcome_however_it_is_cut(rules, stream):
    """Whole, byte by byte, and in two: the same requests, as h11 reads them, the same answers, the same end."""
    rules.every_cut_in_turn(stream, 1 if len(stream) < _SHORT else 7)


@pytest.mark.parametrize("stream", GOOD.values(), ids=GOOD)
def test_what_is_good_is_served(rules, stream):
    """Nothing that other servers' clients send every day is refused."""
    outcome, _ = rules.whole(stream)

    assert outcome.seen
    assert b"HTTP/1.1 4" not in outcome.written
    assert b"HTTP/1.1 5" not in outcome.written


@pytest.mark.parametrize("stream", BEYOND_A_LIMIT.values(), ids=BEYOND_A_LIMIT)
def test_a_limit_holds_however_the_stream_is_cut(limited, stream):
    """What is seen of it is the same, as far as it goes."""
    limited.every_cut_in_turn(stream, 1 if len(stream) < _SHORT else len(stream) // 30)


@pytest.mark.parametrize("stream", LARGE.values(), ids=LARGE)
def test_a_large_body_is_the_same_in_reads_of_any_size(rules, stream):
    """Also where reading has to pause until the application takes what came."""
    rules.whole(stream)
    for size in (1_460, 100_000, 262_144):
        rules.cut(stream, [stream[at : at + size] for at in range(0, len(stream), size)])


def test_a_client_may_leave_at_any_byte(rules):
    """It ends its side, or resets: nothing of it is left, and it has had no more than it asked for."""
    for stream in STREAMS.values():
        for at, end in zip(range(0, len(stream), 2 if len(stream) < _SHORT else 15), cycle(End), strict=False):
            rules.broken_off(stream, at, end)


def test_whatever_happens_meanwhile_nothing_is_left(rules):
    """Slow readers, deadlines, a worker that drains, in the middle of any stream."""
    weather = Random(1)
    for stream in STREAMS.values():
        for _ in range(3):
            rules.in_weather(stream, pieces(stream, weather), weather)


def test_what_chance_makes_of_a_stream_keeps_the_rules(rules, limited):
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
def test_what_the_grammar_makes_keeps_the_rules(rules, cut_stream):
    """Requests that are nearly right are refused, or read as h11 does."""
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
def test_what_applications_say_is_read_back(speaking, conversation, sizes, room):
    """Over a whole connection: in turn, each framed once, and nothing after one that says it is the last."""
    answers.are_read_back(speaking, conversation, sizes, room)


@pytest.mark.parametrize("app", [endless.forgets, endless.never_reads], ids=["that reads", "that never reads"])
@pytest.mark.parametrize("name", endless.ENDLESS)
def test_what_has_no_end_fills_no_memory(name, app):
    """In reads as large as the loop makes them; of whole requests a quarter, 3,000 of them, is enough to see it."""
    read_bytes = 1 << 16 if name.startswith(("requests", "offers")) else 1 << 18
    with closing(World(app, endless.LIMITS)) as world:
        endless.is_bounded(world, name, total_bytes=2 * read_bytes, read_bytes=read_bytes)


# -- the rules themselves ----------------------------------------------------------------------------------------------


def test_another_boundary_of_a_body_is_found():
    """h11 is asked about each request that was served: one byte more or less of a body is a broken rule."""
    stream = GOOD["a body"]
    with closing(World(READS)) as world:
        (seen,) = world.deliver([stream]).seen
    second_reading.agree(stream, [seen])

    with pytest.raises(BrokenRuleError, match="h11 reads another body"):
        second_reading.agree(stream, [seen._replace(body=seen.body + b"x")])
    with pytest.raises(BrokenRuleError, match="does not read a request that was served"):
        second_reading.agree(stream, [seen, seen])


def test_the_smallest_stream_that_breaks_a_rule_is_found():
    """What does not matter is left out; what breaks another rule is none of it."""

    def judge(stream: bytes) -> None:
        if b"\0" in stream and stream.startswith(b"G"):
            raise BrokenRuleError("a NUL")
        if not stream.startswith(b"G"):
            raise BrokenRuleError("another")

    assert b"G\0" == smallest(b"GET /\0\0\0 HTTP/1.1\r\n\r\n", judge, "a NUL")


def test_a_run_ends_at_a_broken_rule_with_a_row_for_the_corpus(capsys):
    """The exit code is not 0, and the smallest stream is there to be copied."""

    def steps():
        yield 1
        raise BrokenRuleError("a NUL", stream=b"GET /\0 HTTP/1.1")

    def judge(stream: bytes) -> None:
        if b"\0" in stream:
            raise BrokenRuleError("a NUL")

    run = Run(minutes=1, seed=1, parts=[Part("a part", 1, steps(), judge)])

    assert 1 == run.turn_by_turn()
    assert """    "a NUL": b'\\x00',\n""" in capsys.readouterr().out


def test_a_run_that_finds_nothing_ends_well(capsys):
    """It says how much each part has done."""
    run = Run(minutes=1, seed=1, parts=[Part("a part", 1, (n for n in (3, 4)))])

    assert 0 == run.turn_by_turn()
    assert re.search(r"a part +7 ", capsys.readouterr().out)


def test_no_stream_stands_twice_in_the_corpus():
    """Under whatever name."""
    tables = (corpus.GOOD, corpus.UNFINISHED, corpus.BAD, corpus.BEYOND_A_LIMIT, corpus.LARGE)
    streams = [stream for table in tables for stream in table.values()]

    assert len(streams) == len(set(streams)) == len({name for table in tables for name in table})
