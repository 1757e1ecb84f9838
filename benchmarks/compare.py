"""Compares two checkouts of asgid under the same load, in turns: CPU per request or message, and the ratio.

    python -m benchmarks.compare ../asgid-before --scenario hello --rounds 9

Measure a change to the path of a request with this before it lands: OTHER is the checkout without the change, this
file's checkout has it. Each round starts both servers again, because two starts of the same code differ by 1 or 2 %
(hash seeds, memory layout). It loads them in the order A B B A, the next round in B A A B, for a second each. A longer
disturbance of the machine affects both of a pair; the median of the ratios removes a shorter one. Both use the same
interpreter and libraries, and the application and scenario of this checkout; only the package `asgid` differs.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from benchmarks.clients import client
from benchmarks.load import Load, LoadError, wrk_version
from benchmarks.perf import PerfError, counting_instructions
from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import ROOT, SERVERS, Running, ServerError, commit, last_words, running

ORDERS = (("other", "here", "here", "other"), ("here", "other", "other", "here"))  # odd rounds, even rounds


@dataclass(frozen=True, slots=True)
class Turn:
    """One load on one of the two servers."""

    side: str  #: other or here
    cpu_us: float  #: server CPU per request or message
    requests_per_s: float
    instructions: float | None  #: of the server in user space, per request or message, if they are counted


def pairs(turns: Sequence[Turn]) -> list[tuple[Turn, Turn]]:
    """Return each pair of consecutive turns as (other, here). Raises AssertionError if a side is missing.

    Each turn is in one pair: A B B A gives two.
    """
    found = []
    for first, second in zip(turns[::2], turns[1::2], strict=True):
        by_side = {first.side: first, second.side: second}
        if set(by_side) != {"other", "here"}:
            raise AssertionError(f"a pair of {first.side} and {second.side}: expected one of each")
        found.append((by_side["other"], by_side["here"]))
    return found


def report(turns: Sequence[Turn], sources: Mapping[str, str], unit: str) -> str:
    """Return the results as text; `sources` has the code of each side. It needs at least one pair."""
    lines = [f"{'':6} {f'CPU µs/{unit}':>15} {'least':>7} {f'{unit}s/s':>11} {'instructions':>13}"]
    for side, source in sources.items():
        own = [turn for turn in turns if turn.side == side]
        counts = [turn.instructions for turn in own if turn.instructions is not None]
        lines.append(
            f"{side:6} {median(turn.cpu_us for turn in own):15.2f} {_least(turns, side):7.2f}"
            f" {median(turn.requests_per_s for turn in own):11,.0f}"
            f" {f'{median(counts):,.0f}' if counts else '-':>13}  {source}"
        )
    both = pairs(turns)
    lines += [
        "",
        "here / other, median over the pairs",
        _spread("CPU", [_cpu_ratio(*pair) for pair in both]),
    ]
    lines.append(f"least CPU: {_least(turns, 'here') / _least(turns, 'other'):.3f}, because noise rarely lowers a cost")
    counted = [(a.instructions, b.instructions) for a, b in both if a.instructions and b.instructions]
    if counted:
        lines.append(_spread("instructions", [here / other for other, here in counted]))
    return "\n".join(lines)


def _least(turns: Sequence[Turn], side: str) -> float:
    return min(turn.cpu_us for turn in turns if turn.side == side)


def _cpu_ratio(other: Turn, here: Turn) -> float:
    return here.cpu_us / other.cpu_us


def _spread(name: str, ratios: Sequence[float]) -> str:
    low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else (ratios[0],) * 3
    fewer = sum(ratio < 1 for ratio in ratios)
    return (
        f"{name}: {median(ratios):.3f} (half of them between {low:.3f} and {high:.3f};"
        f" below 1 in {fewer} of {len(ratios)})"
    )


def main(words: Sequence[str] | None = None) -> int:
    """Compare by the command line; return 0, or 1 if a measurement was refused or a tool is missing."""
    options = _options(words)
    checkouts = {"other": options.checkout, "here": ROOT}
    turns: list[Turn] = []
    try:
        wrk_version()
        with tempfile.TemporaryDirectory(prefix="asgid-compare-") as name:
            directories = {side: _directory(Path(name) / side, checkout) for side, checkout in checkouts.items()}
            for number in range(1, options.rounds + 1):
                found = _round(ORDERS[(number - 1) % 2], directories, options)
                turns += found
                ratios = " ".join(f"{_cpu_ratio(*pair):.3f}" for pair in pairs(found))
                print(f"round {number} of {options.rounds}: {ratios}", file=sys.stderr, flush=True)
    except (LoadError, ServerError, PerfError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    sources = {side: source(checkout) for side, checkout in checkouts.items()}
    print(report(turns, sources, SCENARIOS[options.scenario].unit))
    return 0


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkout", type=Path, metavar="OTHER_CHECKOUT", help="a folder with the package asgid")
    parser.add_argument("--scenario", choices=SCENARIOS, default="hello", help="the load (%(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="of four loads, on two new starts (%(default)s)")
    parser.add_argument("--seconds", type=int, default=1, help="of each load, whole ones (%(default)s)")
    parser.add_argument("--instructions", action="store_true", help="count them too, with perf stat")
    options = parser.parse_args(words)
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds are 1 or more")
    options.checkout = options.checkout.resolve()
    if not (options.checkout / "asgid" / "__main__.py").is_file():
        parser.error(f"{options.checkout} does not contain the package asgid")
    return options


def _directory(directory: Path, checkout: Path) -> Path:
    """Make `directory` with a folder `root`, in which only `asgid` comes from the checkout; return it."""
    root = directory / "root"
    root.mkdir(parents=True)
    (root / "asgid").symlink_to(checkout / "asgid")
    (root / "benchmarks").symlink_to(ROOT / "benchmarks")
    return directory


def _round(order: Sequence[str], directories: Mapping[str, Path], options: argparse.Namespace) -> list[Turn]:
    scenario, server = SCENARIOS[options.scenario], SERVERS["asgid"]
    with ExitStack() as stack:
        servers = {}
        for side in order[:2]:
            directory = directories[side]
            try:
                servers[side] = stack.enter_context(running(server, scenario, directory, root=directory / "root"))
            except ServerError as error:
                raise ServerError(f"{side}: {error}; its log ends with: {last_words(server, directory)}") from None
        with ExitStack() as clients:
            drives = {}
            for side, instance in servers.items():
                drives[side] = clients.enter_context(client(instance.port, scenario, directories[side]))
                drives[side](1)
            turns = [_turn(side, servers[side], drives[side], options) for side in order]
        for instance in servers.values():
            instance.check_answer(scenario)
        return turns


def _turn(side: str, instance: Running, drive: Callable[[int], Load], options: argparse.Namespace) -> Turn:
    before = instance.usage()
    with counting_instructions(before.pids if options.instructions else ()) as counted:
        load = drive(options.seconds)
    after = instance.usage()
    if before.pids != after.pids:
        raise ServerError(f"{side}: its processes changed under load")
    return Turn(
        side,
        (after.cpu_s - before.cpu_s) / load.requests * 1e6,
        load.requests / load.elapsed_s,
        counted[0] / load.requests if counted else None,
    )


def source(checkout: Path) -> str:
    """Return the folder and its commit, if git has one."""
    known = commit(checkout)
    return f"{checkout} ({known})" if known else str(checkout)


if __name__ == "__main__":
    sys.exit(main())
