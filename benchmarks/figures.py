"""The results of a run as values: each measurement, all of a run, and the medians over its rounds.

This file does not depend on how they are measured or shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Measurement:
    """One server under one scenario in one round."""

    server: str
    scenario: str
    round: int  #: from 1
    requests: int  #: or, over WebSockets, messages that were delivered
    elapsed_s: float
    cpu_s: float  #: user and system time of all the server's processes
    p50_ms: float  #: 0 if latencies are unknown
    p99_ms: float
    resident_bytes: int  #: proportional set size of all the server's processes, after the load
    answer_bytes: float = 0.0  #: received by the client per answer, heads included
    way: str = ""  #: how the answers were sent, if there is more than one way

    @property
    def cpu_us(self) -> float:
        """Server CPU per request or message, in microseconds."""
        return self.cpu_s / self.requests * 1e6

    @property
    def requests_per_s(self) -> float:
        return self.requests / self.elapsed_s

    @property
    def busy(self) -> float:
        """How many cores the server kept busy."""
        return self.cpu_s / self.elapsed_s


@dataclass(frozen=True, slots=True)
class Results:
    """All of one run."""

    machine: Mapping[str, str]  #: fact -> value, in the order of the report
    versions: Mapping[str, str]  #: by server
    skipped: Mapping[str, str]  #: server -> the reason
    refused: Sequence[str]  #: measurements that do not count, with the reasons
    measurements: Sequence[Measurement]


@dataclass(frozen=True, slots=True)
class Row:
    """One server under one scenario: medians over its rounds."""

    server: str
    rounds: int  #: fewer than were run if some were refused
    cpu_us: float
    cpu_spread: float  #: (highest - lowest) / median
    requests_per_s: float
    busy: float
    p50_ms: float
    p99_ms: float
    resident_bytes: float
    answer_bytes: float
    way: str  #: several, with commas, if the rounds differ


def rows(measurements: Sequence[Measurement], scenario: str) -> list[Row]:
    """Return the scenario's servers, the cheapest first."""
    by_server: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        if measurement.scenario == scenario:
            by_server.setdefault(measurement.server, []).append(measurement)
    return sorted((_row(server, rounds) for server, rounds in by_server.items()), key=lambda row: row.cpu_us)


def _row(server: str, rounds: Sequence[Measurement]) -> Row:
    costs = [each.cpu_us for each in rounds]
    return Row(
        server,
        rounds=len(rounds),
        cpu_us=median(costs),
        cpu_spread=(max(costs) - min(costs)) / median(costs),
        requests_per_s=median(each.requests_per_s for each in rounds),
        busy=median(each.busy for each in rounds),
        p50_ms=median(each.p50_ms for each in rounds),
        p99_ms=median(each.p99_ms for each in rounds),
        resident_bytes=median(each.resident_bytes for each in rounds),
        answer_bytes=median(each.answer_bytes for each in rounds),
        way=", ".join(sorted({each.way for each in rounds})),
    )
