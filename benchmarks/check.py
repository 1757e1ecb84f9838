"""Compares the last run with the targets: prints each ratio beside its target; exit code 1 if one is missed.

It measures nothing, because a run takes 35 minutes.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Measurement, Results
from benchmarks.report import targets_table
from benchmarks.targets import FAILURES, judge

_LAST = Path(__file__).resolve().parent / "results.json"
_FACTS = ("when", "commit", "processor", "cores", "Python", "rounds")


def main(words: Sequence[str] | None = None) -> int:
    """Return 0 if every comparable target is met, or missed by less than 10 %; 1 if one is not; 2 without a run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, nargs="?", default=_LAST, help="a run's results.json (the last one's)")
    path = parser.parse_args(words).results
    try:
        results = read(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        print(f"{path} does not exist: run `make bench`, which writes it", file=sys.stderr)
        return 2
    found = judge(results.measurements)
    failed = [judgement for judgement in found if judgement.verdict in FAILURES]
    facts = ", ".join(f"{name} {results.machine[name]}" for name in _FACTS if name in results.machine)
    print(f"Measured: {facts}.", "", *targets_table(found), "", sep="\n")
    print(f"{len(failed)} of {len(found)} targets failed" if failed else "no target failed")
    return 1 if failed else 0


def read(raw: Mapping[str, Any]) -> Results:
    """Return the results that a run wrote as JSON."""
    return Results(**{**raw, "measurements": [Measurement(**each) for each in raw["measurements"]]})


if __name__ == "__main__":
    sys.exit(main())
