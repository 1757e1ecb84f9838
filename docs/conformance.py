"""Writes the page on conformance from the results of the last run of the Autobahn test suite, `docs/conformance.json`.

The file has the suite's result of every case. `make conformance` writes it, and `make system` compares it with a run.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

RECORD = Path(__file__).parent / "conformance.json"

#: All sections of the suite, with its names.
SECTIONS = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "close handshake",
    "9": "limits and performance",
    "10": "automatic fragmentation",
    "12": "compression: messages of all sizes",
    "13": "compression: parameters",
}
VERDICTS = ("OK", "NON-STRICT", "INFORMATIONAL", "FAILED")

PAGE = """\
# Conformance

The [Autobahn test suite](https://github.com/crossbario/autobahn-testsuite) compares implementations of WebSocket. Its
fuzzing client connects to an application that echoes each message (`tests/apps/mirror.py`), on two workers, with
default settings, so with compression.

A cell has the number of cases with this result for their behaviour, then for their close. *Non-strict* is allowed by
RFC 6455 but not ideal: most of these cases expect an answer to a message although the same read has the end of the
connection. Their number differs a little between runs. *Informational* cases have no correct result.

{table}

{exceptions}
asgid {asgid}, autobahntestsuite {autobahntestsuite}.

`make system` runs the suite again. It fails if a case fails, or if its result differs from `docs/conformance.json` by
more than strictness. `make conformance` writes that file and this page again.
"""


def write(versions: Mapping[str, str], verdicts: Mapping[str, Sequence[str]]) -> None:
    """Write the results, one line per case, so that a diff is readable."""
    cases = ",\n".join(f"    {json.dumps(case)}: {json.dumps(list(results))}" for case, results in verdicts.items())
    RECORD.write_text(f'{{\n  "versions": {json.dumps(dict(versions))},\n  "cases": {{\n{cases}\n  }}\n}}\n')


def verdicts() -> dict[str, list[str]]:
    """Return the recorded results of each case: of its behaviour and of its close."""
    cases: dict[str, list[str]] = json.loads(RECORD.read_text())["cases"]
    return cases


def page() -> str:
    """Return docs/conformance.md."""
    record = json.loads(RECORD.read_text())
    return PAGE.format(table=_table(record["cases"]), exceptions=_exceptions(record["cases"]), **record["versions"])


def _table(cases: Mapping[str, Sequence[str]]) -> str:
    rows = [["", "section", "cases", *(verdict.lower() if verdict != "OK" else "OK" for verdict in VERDICTS)]]
    rows += [["---", "---", *["--:"] * (1 + len(VERDICTS))]]
    for number, name in SECTIONS.items():
        rows.append([number, name, *_counts([each for case, each in cases.items() if case.split(".")[0] == number])])
    rows.append(["", "**all**", *_counts(list(cases.values()))])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _counts(results: Sequence[Sequence[str]]) -> list[str]:
    behaviour, close = (Counter(each[index] for each in results) for index in (0, 1))
    return [str(len(results)), *(f"{behaviour[verdict]} · {close[verdict]}" for verdict in VERDICTS)]


def _exceptions(cases: Mapping[str, Sequence[str]]) -> str:
    """Return a line for each result other than OK, with its cases."""
    lines = []
    for verdict in VERDICTS[1:]:
        named = [case for case, results in cases.items() if verdict in results]
        if named:
            lines.append(f"{verdict.capitalize()}: {', '.join(named)}.\n")
    return "\n".join(lines)
