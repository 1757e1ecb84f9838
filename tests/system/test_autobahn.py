"""The Autobahn test suite for WebSocket: no case fails, and docs/conformance.md has the verdict on each."""

from pathlib import Path

import pytest

from docs import conformance
from tests.conftest import Start
from tests.system import autobahn, needs

#: Timing decides whether the server still answers a message that arrives in one read with a frame that ends the
#: connection. The suite calls the missing answer, which is allowed, non-strict.
ALIKE = {"NON-STRICT": "OK"}


def judged(verdicts: autobahn.Verdicts) -> autobahn.Verdicts:
    return {case: [ALIKE.get(verdict, verdict) for verdict in both] for case, both in verdicts.items()}


@pytest.mark.timeout(4000)
def test_no_case_fails_and_each_verdict_equals_the_record(start: Start, tmp_path: Path) -> None:
    """All sections, with compression, on two workers; `make conformance` updates the record after an improvement."""
    needs.autobahn()
    reports = tmp_path / "reports"
    reports.mkdir()
    daemon = start("mirror:application", **autobahn.SETTINGS)
    found = autobahn.verdicts(daemon.address(), reports)
    judgements = judged(found)

    assert {case.split(".")[0] for case in found} == conformance.SECTIONS.keys()
    assert {} == {case: both for case, both in judgements.items() if not set(both) <= {"OK", "INFORMATIONAL"}}
    assert judged(conformance.verdicts()) == judgements
    assert daemon.log_events("application failed", "worker silent", "event loop blocked") == []
