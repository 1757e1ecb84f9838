"""WebSocket by the Autobahn test suite: no case fails, and docs/conformance.md tells the truth about each."""

from pathlib import Path

import pytest

from docs import conformance
from tests.conftest import Start
from tests.system import autobahn, needs

#: Whether a message is still answered that came in one read with what ends the connection is a question of time. That
#: it need not be is what the suite calls non-strict.
ALIKE = {"NON-STRICT": "OK"}


def judged(verdicts: autobahn.Verdicts) -> autobahn.Verdicts:
    return {case: [ALIKE.get(verdict, verdict) for verdict in said] for case, said in verdicts.items()}


@pytest.mark.timeout(4000)
def test_every_case_is_as_the_record_has_it_and_none_fails(start: Start, tmp_path: Path) -> None:
    """All sections, with compression, on two workers; if it is better than recorded, `make conformance` says so."""
    needs.autobahn()
    reports = tmp_path / "reports"
    reports.mkdir()
    daemon = start("mirror:application", **autobahn.SETTINGS)
    found = autobahn.verdicts(daemon.address(), reports)
    judgements = judged(found)

    assert {case.split(".")[0] for case in found} == conformance.SECTIONS.keys()
    assert {} == {case: said for case, said in judgements.items() if not set(said) <= {"OK", "INFORMATIONAL"}}
    assert judged(conformance.verdicts()) == judgements
    assert daemon.log_events("application failed", "worker silent", "event loop blocked") == []
