"""Runs the Autobahn test suite against an asgid, and records its verdict on each case.

`python -m tests.system.autobahn`, which is `make conformance`, writes the record. `make docs` makes
docs/conformance.md from it. This module does not judge the verdicts: tests/system/test_autobahn.py does.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asgid
from docs import conformance, generate
from tests.daemon import Daemon
from tests.system import needs

#: The cases of each run of the suite. The cases of compression send a thousand messages each and wait for every answer,
#: so one run alone leaves most of a machine idle: AT_A_TIME runs are in progress at once.
SHARES = (
    ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"),
    *((f"12.{group}.*",) for group in range(1, 6)),
    *((f"13.{group}.*",) for group in range(1, 8)),
)
AT_A_TIME = 4
WITHIN_S = 3600.0

#: The defaults, without the access log. A busy machine can block an event loop for two seconds; ten are a fault of
#: asgid.
SETTINGS = {"workers": {"count": 2}, "log": {"access": {"enabled": False}}, "timeouts": {"blocked": "10s"}}

Verdicts = dict[str, list[str]]


def verdicts(address: str, directory: Path) -> Verdicts:
    """Run all cases against an echo at `address`; return case -> the verdicts on its behaviour and on its close."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        shares = pool.map(lambda share: _run(address, share, directory), SHARES)
        found = {case: verdict for share in shares for case, verdict in share.items()}
    return {case: [found[case]["behavior"], found[case]["behaviorClose"]] for case in sorted(found, key=_in_order)}


def _run(address: str, cases: Sequence[str], directory: Path) -> dict[str, dict[str, str]]:
    """Run these cases and return the suite's index of them; the reports stay in `directory`."""
    command, environment = needs.autobahn()
    home = directory / f"from-{cases[0].removesuffix('.*')}"
    home.mkdir()
    specification = {
        "outdir": str(home),
        "servers": [{"agent": "asgid", "url": f"ws://{address}"}],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    file = home / "specification.json"
    file.write_text(json.dumps(specification))
    subprocess.run(
        [*command, "--mode", "fuzzingclient", "--spec", str(file)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=os.environ | environment,
        timeout=WITHIN_S,
        check=True,
    )
    index: dict[str, dict[str, str]] = json.loads((home / "index.json").read_text())["asgid"]
    return index


def _in_order(case: str) -> list[int]:
    return [int(part) for part in case.split(".")]


def main() -> None:
    """Run the suite and write the record."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        with Daemon(home, {"app": {"target": "mirror:application"}, **SETTINGS}) as daemon:
            found = verdicts(daemon.start().address(), home)
    (suite,) = [line for line in needs.AUTOBAHN_PINS.read_text().splitlines() if line.startswith("autobahntestsuite==")]
    versions = {"asgid": asgid.__version__, "autobahntestsuite": suite.partition("==")[2]}
    conformance.write(versions, found)
    generate.main()


if __name__ == "__main__":
    main()
