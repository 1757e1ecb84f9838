"""The page on conformance, made from the record of the last run of the Autobahn test suite: `docs/conformance.json`.

The record has of every case what the suite says. `make conformance` writes it, `make system` compares it with a run.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

RECORD = Path(__file__).parent / "conformance.json"

#: What the suite calls its sections. It has no others.
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

WebSocket is held to the [Autobahn test suite](https://github.com/crossbario/autobahn-testsuite), the one by which
implementations are compared. Its fuzzing client talks to an application that sends back what it gets
(`tests/apps/mirror.py`), on two workers, with default settings: so with compression.

In each cell stands how many cases so behaved, then how many so closed the connection. *Non-strict* is allowed by
RFC 6455, but not the most that it hopes for: mostly, that a message is still answered when the same read brings what
ends the connection. Which of these cases are OK differs a little from run to run. *Informational* cases have no right
answer.

{table}

{exceptions}
asgid {asgid}, autobahntestsuite {autobahntestsuite}.

`make system` runs all of it again. It fails where a case fails, or differs from the record, `docs/conformance.json`, by
more than strictness. `make conformance` writes the record and this page anew.
"""


def write(versions: Mapping[str, str], verdicts: Mapping[str, Sequence[str]]) -> None:
    """Write the record; one line a case, so that a difference shows as itself."""
    cases = ",\n".join(f"    {json.dumps(case)}: {json.dumps(list(said))}" for case, said in verdicts.items())
    RECORD.write_text(f'{{\n  "versions": {json.dumps(dict(versions))},\n  "cases": {{\n{cases}\n  }}\n}}\n')


def verdicts() -> dict[str, list[str]]:
    """Return of each case what the suite said of its behaviour and of its close when the record was made."""
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
        rows.append([number, name, *_counts([said for case, said in cases.items() if case.split(".")[0] == number])])
    rows.append(["", "**all**", *_counts(list(cases.values()))])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _counts(said: Sequence[Sequence[str]]) -> list[str]:
    behaviour, close = (Counter(said_of[index] for said_of in said) for index in (0, 1))
    return [str(len(said)), *(f"{behaviour[verdict]} · {close[verdict]}" for verdict in VERDICTS)]


def _exceptions(cases: Mapping[str, Sequence[str]]) -> str:
    """Name the cases that are not OK in both ways."""
    lines = []
    for verdict in VERDICTS[1:]:
        named = [case for case, said in cases.items() if verdict in said]
        if named:
            lines.append(f"{verdict.capitalize()}: {', '.join(named)}.\n")
    return "\n".join(lines)
