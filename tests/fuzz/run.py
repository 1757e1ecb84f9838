"""`make fuzz`: all parts in turn until the time is up, then the number of streams of each.

The first broken rule ends the run, with the smallest stream that breaks it as a literal for `tests/fuzz/corpus.py`. All
randomness has one seed: `python -m tests.fuzz.run MINUTES SEED` makes the same streams again.
"""

import importlib.util
import itertools
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz import answers, endless, grammar
from tests.fuzz.corpus import BEYOND_A_LIMIT, LARGE, LIMITS, STREAMS
from tests.fuzz.delivery import BrokenRuleError, End, World
from tests.fuzz.mutations import mutated, pieces
from tests.fuzz.rules import Rules, smallest
from tests.fuzz.websocket import corpus as frames
from tests.fuzz.websocket import grammar as frame_grammar
from tests.fuzz.websocket.rules import Rules as FrameRules
from tests.worker import apps

#: Seconds of one turn of a part.
_TURN_S = 2.0
_LINE_EVERY_S = 30.0
_GUIDED_S = 20
_EXAMPLES = settings(
    max_examples=200, database=None, deadline=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck)
)
#: For mutations; long streams would allow too few.
_SEEDS = [stream for stream in (*STREAMS.values(), *BEYOND_A_LIMIT.values()) if len(stream) < 1000]

_FRAME_SEEDS = [*frames.STREAMS.values(), *frames.DEFLATED.values()]

#: A part is an iterator of the numbers of streams delivered since its last value.
Steps = Generator[int]
Judge = Callable[[bytes], None]
Draw = Callable[[Random], bytes]


class ElsewhereError(Exception):
    """Another process has found and reported a broken rule."""


@dataclass(slots=True)
class Part:
    """One way to find faults; `share` is its part of the time."""

    name: str
    share: float
    steps: Steps
    judge: Judge | None = None  #: finds the rule again from a stream alone
    streams: int = 0
    spent_s: float = 0.0
    is_done: bool = False

    def take_turn(self, until: float) -> None:
        began = time.monotonic()
        while not self.is_done and time.monotonic() < until:
            streams = next(self.steps, None)
            self.is_done = streams is None
            self.streams += streams or 0
        self.spent_s += time.monotonic() - began


# -- the parts ---------------------------------------------------------------------------------------------------------


def _counted(rules: Rules | FrameRules, deliver: Callable[[], None]) -> int:
    before = rules.delivered
    deliver()
    return rules.delivered - before


def _at_every_cut(rules: Rules | FrameRules, streams: Sequence[bytes]) -> Steps:
    for stream in streams:
        yield _counted(rules, lambda stream=stream: rules.every_cut(stream, 1 if len(stream) < 1500 else 17))  # type: ignore[misc] # bound early


def _forever(rules: Rules | FrameRules, deliver: Callable[[], None]) -> Steps:
    while True:
        yield _counted(rules, deliver)


def _by_chance(rules: Rules | FrameRules, chance: Random, draw: Draw, cuts: int = 2) -> Steps:
    def deliver() -> None:
        stream = draw(chance)
        rules.whole(stream)
        for _ in range(cuts):
            rules.cut(stream, pieces(stream, chance), chance.choice((None, 0, 60)))

    return _forever(rules, deliver)


def _in_weather(rules: Rules | FrameRules, chance: Random, draw: Draw) -> Steps:
    def deliver() -> None:
        stream = draw(chance)
        rules.in_weather(stream, pieces(stream, chance), chance)
        rules.broken_off(stream, chance.randrange(len(stream) + 1), chance.choice(tuple(End)))

    return _forever(rules, deliver)


def _by_grammar(
    rules: Rules | FrameRules, chance: Random, cut_streams: st.SearchStrategy[tuple[bytes, list[bytes]]]
) -> Steps:
    @_EXAMPLES
    @given(cut_stream=cut_streams, room=st.sampled_from([None, 0, 60]))
    def check(cut_stream: tuple[bytes, list[bytes]], room: int | None) -> None:
        stream, cut = cut_stream
        rules.whole(stream)
        rules.cut(stream, cut, room)

    return _forever(rules, lambda: seed(chance.randrange(1 << 32))(check)())  # noqa: PLW0108 - a new seed each time


def _mutation(chance: Random) -> bytes:
    return mutated(_SEEDS, chance)


def _seed_or_mutation(chance: Random) -> bytes:
    return mutated(_SEEDS, chance) if chance.randrange(2) else chance.choice(_SEEDS)


def _large(chance: Random) -> bytes:
    stream = chance.choice([*LARGE.values()])
    return mutated([stream], chance) if chance.randrange(2) else stream


def _mutated_frames(chance: Random) -> bytes:
    return mutated(_FRAME_SEEDS, chance, frames.INTERESTING)


def _frames_without_end() -> Steps:
    for name, app in itertools.product(endless.ENDLESS_FRAMES, (apps.echo, apps.never_receives)):
        for size in (1460, 1 << 16, 1 << 18):
            with closing(World(app, None, endless.FRAMES_LIMITS, is_obliging=app is apps.echo)) as world:
                endless.is_bounded(world, name, total_bytes=1 << 20, read_bytes=size)
            yield 1


def _in_conversation(chance: Random) -> Steps:
    world = World(answers.says)

    @_EXAMPLES
    @given(
        conversation=answers.CONVERSATIONS,
        sizes=st.lists(st.integers(1, 60), max_size=4),
        room=st.sampled_from([None, 0, 100]),
    )
    def check(conversation: answers.Conversation, sizes: list[int], room: int | None) -> None:
        answers.are_read_back(world, conversation, sizes, room)

    while True:
        before = world.delivered
        seed(chance.randrange(1 << 32))(check)()
        yield world.delivered - before


def _without_end() -> Steps:
    sizes = (1460, 1 << 16, 1 << 18)
    for name, app, size in itertools.product(endless.ENDLESS, (endless.forgets, apps.never_returns), sizes):
        with closing(World(app, endless.LIMITS)) as world:
            endless.is_bounded(world, name, total_bytes=4 << 20, read_bytes=size)
        yield 1


def _frame_parts(chance: Random) -> list[Part]:
    parts = [Part("frames without end", 1, _frames_without_end())]
    for what, rules in (
        ("frames", FrameRules()),
        ("compressed frames", FrameRules(is_deflated=True)),
        ("frames, queue of 1", FrameRules(is_deflated=True, queue=1)),
    ):
        parts += [
            Part(f"{what} at every cut", 1, _at_every_cut(rules, _FRAME_SEEDS), rules.every_way),
            Part(f"{what} mutated", 2, _by_chance(rules, _apart(chance), _mutated_frames), rules.every_way),
            Part(f"{what} in all weather", 2, _in_weather(rules, _apart(chance), _mutated_frames), rules.every_way),
            Part(
                f"{what} by grammar",
                2,
                _by_grammar(rules, _apart(chance), frame_grammar.cut_streams(is_deflated=rules.is_deflated)),
                rules.every_way,
            ),
        ]
    return parts


def _property_tests(chance: Random) -> Steps:
    """Run the property tests of `make test` again, each with a new seed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/property"]
    while True:
        done = subprocess.run(
            [*command, f"--hypothesis-seed={chance.randrange(1 << 32)}"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ElsewhereError(done.stdout[-8000:] + done.stderr[-2000:])
        yield 1


def _guided(chance: Random, folder: str) -> Steps:
    """Run libFuzzer; streams that reach new lines stay in the folder for the next round."""
    for number, stream in enumerate(_SEEDS):
        Path(folder, f"corpus-{number}").write_bytes(stream)
    while True:
        number = chance.randrange(1, 1 << 31)
        command = [sys.executable, "-m", "tests.fuzz.guided", folder, f"-max_total_time={_GUIDED_S}", f"-seed={number}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=_environment())
        if done.returncode:
            raise ElsewhereError(done.stdout[-8000:] or done.stderr[-8000:])
        yield int((re.findall(r"number_of_executed_units: (\d+)", done.stderr) or ["0"])[0])


def _environment() -> dict[str, str]:
    # libFuzzer leaves files in its working directory.
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


# -- the run -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Run:
    """A run of so many minutes from a seed."""

    minutes: float
    seed: int
    parts: list[Part] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def go(self) -> int:
        """Return the exit code."""
        print(f"fuzz: {self.minutes:g} minutes from seed {self.seed}", flush=True)
        with tempfile.TemporaryDirectory(prefix="asgid-fuzz-") as folder:
            self._plan(folder)
            return self.turn_by_turn()

    def _plan(self, folder: str) -> None:
        rules, limited, chance = Rules(), Rules(**LIMITS), Random(self.seed)
        self.parts += [
            Part("the corpus at every cut", 3, _at_every_cut(rules, [*STREAMS.values()]), rules.every_way),
            Part("the limits at every cut", 1, _at_every_cut(limited, [*BEYOND_A_LIMIT.values()]), limited.every_way),
            Part("mutations", 5, _by_chance(rules, _apart(chance), _mutation), rules.every_way),
            Part("mutations beyond the limits", 2, _by_chance(limited, _apart(chance), _mutation), limited.every_way),
            Part("mutations in all weather", 3, _in_weather(rules, _apart(chance), _seed_or_mutation), rules.every_way),
            Part(
                "the grammar, with faults",
                3,
                _by_grammar(rules, _apart(chance), grammar.cut_streams()),
                rules.every_way,
            ),
            Part("conversations", 2, _in_conversation(_apart(chance))),
            Part("large bodies", 1, _by_chance(rules, _apart(chance), _large, cuts=1)),
            Part("streams without an end", 1, _without_end()),
            *_frame_parts(chance),
            Part("rounds of the property tests", 2, _property_tests(_apart(chance))),
        ]
        if importlib.util.find_spec("atheris"):
            self.parts.append(Part("guided by coverage", 4, _guided(_apart(chance), folder)))
        else:
            self.skipped.append(
                "guided by coverage: there is no atheris here; `.venv/bin/pip install atheris` brings it"
            )

    def turn_by_turn(self) -> int:
        """Let the parts run in turn until the time is up or a rule is broken; return the exit code."""
        began = time.monotonic()
        ends, next_line = began + self.minutes * 60, began + min(_LINE_EVERY_S, self.minutes * 15)
        while (now := time.monotonic()) < ends and (waiting := [part for part in self.parts if not part.is_done]):
            part = min(waiting, key=lambda part: part.spent_s / part.share)
            broken = _broken_in_turn(part, min(now + _TURN_S, ends))
            if broken is not None:
                self._summarize(time.monotonic() - began)
                _tell(part, broken)
                return 1
            if time.monotonic() >= next_line:
                next_line += _LINE_EVERY_S
                print(f"fuzz: {self._so_far(time.monotonic() - began)}", flush=True)
        self._summarize(time.monotonic() - began)
        print("fuzz: no rule is broken")
        return 0

    def _so_far(self, spent_s: float) -> str:
        streams = sum(part.streams for part in self.parts)
        minutes, seconds = divmod(int(spent_s), 60)
        return f"{minutes}:{seconds:02} of {self.minutes:g} minutes, {streams:,} streams"

    def _summarize(self, spent_s: float) -> None:
        print(f"fuzz: {self._so_far(spent_s)}, seed {self.seed}")
        for part in self.parts:
            print(f"  {part.name:<30} {part.streams:>12,} {part.spent_s:>8.1f} s{'  all' if part.is_done else ''}")
        for skipped in self.skipped:
            print(f"  skipped: {skipped}")


def _broken_in_turn(part: Part, until: float) -> BrokenRuleError | ElsewhereError | None:
    # Returned, not reported here: in an `except` clause each later error would have this one as its context, and the
    # worker searches the context of a parser's error.
    try:
        part.take_turn(until)
    except (BrokenRuleError, ElsewhereError) as error:
        return error
    return None


def _apart(chance: Random) -> Random:
    """Return a random generator for one part, independent of the others."""
    return Random(chance.randrange(1 << 32))


def _tell(part: Part, error: BrokenRuleError | ElsewhereError) -> None:
    print(f"fuzz: {part.name}: {error}")
    print(*getattr(error, "__notes__", ()), sep="\n")  # Hypothesis puts its example there
    if not isinstance(error, BrokenRuleError) or not error.stream:
        return
    stream = error.stream
    if part.judge is not None:
        stream = smallest(stream, part.judge, error.rule)
    print(f'fuzz: the smallest stream that was found, a row for its corpus:\n    "{error.rule}": {stream!r},')


def main(arguments: Sequence[str]) -> int:
    """Fuzz for the given minutes (10) from the given seed (random)."""
    given_: list[Any] = [*arguments]
    minutes = float(given_[0]) if given_ and given_[0] else 10.0
    return Run(minutes, int(given_[1]) if len(given_) > 1 else random.SystemRandom().randrange(1 << 32)).go()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
