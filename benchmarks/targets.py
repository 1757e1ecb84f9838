"""asgid's targets as data, and their comparison with the figures of a run.

A ratio is asgid's figure divided by a peer's from the same round of one interleaved run; the median over the rounds
counts. A machine that is slow for a round is slow for both. On two busy cores the same upload cost 260, 328 and 612
µs, which was 0.65, 0.66 and 0.71 of uvicorn's. A measurement that does not fit its target is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median

from benchmarks.figures import Measurement, Row, rows

OURS = "asgid"
BEST = "the best peer"
PEERS = (
    "uvicorn",
    "granian",
    "h2corn",
    "gunicorn",
    "hypercorn",
)  #: servers of the same applications: the best is one of them
TOLERANCE = 0.10  #: how far a ratio may miss its bound on a noisy machine


class Figure(Enum):
    """A figure to compare: its label, its value in a measurement or a row, and whether less is better."""

    CPU = "CPU"
    RATE = "requests/s"

    @property
    def label(self) -> str:
        return self.value

    @property
    def bound(self) -> str:
        return "at most" if self is Figure.CPU else "at least"

    def of(self, measured: Measurement | Row) -> float:
        return measured.cpu_us if self is Figure.CPU else measured.requests_per_s

    def best(self, found: Sequence[Row]) -> Row:
        return min(found, key=self.of) if self is Figure.CPU else max(found, key=self.of)

    def reaches(self, ratio: float, bound: float) -> bool:
        return ratio <= bound if self is Figure.CPU else ratio >= bound

    def eased(self, bound: float) -> float:
        return bound * (1 + TOLERANCE if self is Figure.CPU else 1 - TOLERANCE)


@dataclass(frozen=True, slots=True)
class Target:
    """asgid's figure in a scenario, divided by a peer's, against a bound."""

    scenario: str
    figure: Figure
    peer: str
    bound: float
    aim: float | None = None  #: a goal for later; missing it is not a failure
    way: str = ""  #: how both must have sent their answers
    is_same_size: bool = False  #: both must have sent as many bytes for each


TARGETS = (
    Target("hello", Figure.CPU, "uvicorn", 0.57, aim=0.45),
    Target("hello", Figure.CPU, "floor", 2.3, aim=1.8, is_same_size=True),
    Target("hello", Figure.RATE, "granian", 1.15),
    Target("hello", Figure.RATE, "node", 0.95),
    Target("access", Figure.CPU, "uvicorn", 0.32),
    Target("browser", Figure.CPU, "uvicorn", 0.58, aim=0.50),
    Target("proxied", Figure.CPU, "uvicorn", 0.70),
    Target("large", Figure.CPU, "uvicorn", 0.75),
    Target("echo", Figure.CPU, "uvicorn", 0.55),
    Target("upload", Figure.CPU, BEST, 0.85),
    Target("download", Figure.CPU, BEST, 0.85),
    Target("connect", Figure.CPU, "uvicorn", 0.65),
    Target("connect", Figure.CPU, "h2corn", 1.7, aim=1.25),
    Target("pipeline", Figure.RATE, "uvicorn", 2.5),
    Target("file", Figure.CPU, "granian", 1.0, way="pathsend"),
    Target("starlette", Figure.RATE, BEST, 1.05),
    Target("fastapi", Figure.RATE, BEST, 1.05),
    Target("django", Figure.RATE, BEST, 1.05),
    Target("two", Figure.RATE, BEST, 1.0),
    Target("websocket", Figure.CPU, "uvicorn", 0.70),
    Target("websocket-long", Figure.CPU, BEST, 0.95),
    Target("broadcast", Figure.CPU, "gunicorn", 0.95),
)


class Verdict(Enum):
    """The result of a target."""

    AIM = "met, and the aim"
    MET = "met"
    CLOSE = "missed by less than 10 %"
    MISSED = "missed"
    REFUSED = "not comparable"  #: asgid has no figure, or one that cannot be compared
    ABSENT = "no peer"  #: the peer has no figure: it is not installed, or was left out


FAILURES = frozenset({Verdict.MISSED, Verdict.REFUSED})


@dataclass(frozen=True, slots=True)
class Judgement:
    """One target and its result in a run."""

    target: Target
    verdict: Verdict
    peer: str  #: the peer of the figure, which for BEST is only known afterwards
    ratio: float | None = None
    reason: str = ""  #: why there is no ratio


def judge(measurements: Sequence[Measurement], targets: Sequence[Target] = TARGETS) -> list[Judgement]:
    """Return the result of each target, in their order."""
    return [_judged(target, measurements) for target in targets]


def _judged(target: Target, measurements: Sequence[Measurement]) -> Judgement:
    found = {row.server: row for row in rows(measurements, target.scenario)}
    ours = found.get(OURS)
    if ours is None:
        return Judgement(target, Verdict.REFUSED, target.peer, reason=f"{OURS} was not measured")
    names = PEERS if target.peer == BEST else (target.peer,)
    peers = [found[name] for name in names if name in found]
    if not peers:
        return Judgement(target, Verdict.ABSENT, target.peer, reason=f"{target.peer} was not measured")
    peer = target.figure.best(peers)
    name = f"{BEST}, {peer.server}" if target.peer == BEST else peer.server
    if reason := _difference(target, ours, peer):
        return Judgement(target, Verdict.REFUSED, name, reason=reason)
    ratios = _ratios(target, measurements, peer.server)
    if not ratios:
        return Judgement(target, Verdict.REFUSED, name, reason="no round has both")
    return Judgement(target, _verdict(target, median(ratios)), name, median(ratios))


def _ratios(target: Target, measurements: Sequence[Measurement], peer: str) -> list[float]:
    """Return the ratio of each round in which both were measured."""
    own = [each for each in measurements if each.scenario == target.scenario]
    theirs = {each.round: target.figure.of(each) for each in own if each.server == peer}
    return [target.figure.of(each) / theirs[each.round] for each in own if each.server == OURS and each.round in theirs]


def _difference(target: Target, ours: Row, peer: Row) -> str:
    """Return why the two cannot be compared, or ""."""
    for row in (ours, peer):
        if target.way and row.way != target.way:
            return f"{row.server} did not send by {target.way}, but by {row.way or 'an unknown way'}"
    if target.is_same_size and (not ours.answer_bytes or abs(ours.answer_bytes - peer.answer_bytes) >= 1):
        return f"answers of {ours.answer_bytes:.0f} and of {peer.answer_bytes:.0f} bytes"
    return ""


def _verdict(target: Target, ratio: float) -> Verdict:
    reaches = target.figure.reaches
    if target.aim is not None and reaches(ratio, target.aim):
        return Verdict.AIM
    if reaches(ratio, target.bound):
        return Verdict.MET
    return Verdict.CLOSE if reaches(ratio, target.figure.eased(target.bound)) else Verdict.MISSED
