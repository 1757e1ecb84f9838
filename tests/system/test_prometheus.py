"""A real Prometheus with the settings and queries of the documents, and its linter on the metrics page."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.client import get
from tests.conftest import Start
from tests.daemon import WITHIN_S, Daemon, eventually
from tests.system import documents, needs
from tests.system.conftest import Run


class Prometheus:
    """A Prometheus that scrapes `daemon` every second, with the settings from docs/operations.md."""

    def __init__(self, run: Run, directory: Path, daemon: Daemon) -> None:
        program = needs.program("prometheus")
        address = {"127.0.0.1:9464": daemon.metrics_address, "15s": "1s"}
        settings = directory / "prometheus.yml"
        settings.write_text(documents.block("scrape_configs:", address))
        options = [f"--storage.tsdb.path={directory / 'data'}", "--web.listen-address=127.0.0.1:0"]
        output = run(program, f"--config.file={settings}", *options)
        (self.address,) = eventually(lambda: re.findall(r'msg="Listening on" address=(\S+)', output.read_text()))
        # It listens before it can answer: until then each answer is 503.
        eventually(self.is_ready)

    def is_ready(self) -> bool:
        try:
            with urlopen(f"http://{self.address}/-/ready", timeout=WITHIN_S) as response:
                return bool(response.status == 200)
        except HTTPError:
            return False

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return the series that answer `query`; raises HTTPError if the query is invalid."""
        with urlopen(f"http://{self.address}/api/v1/query?{urlencode({'query': query})}", timeout=WITHIN_S) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def number(self, query: str) -> float | None:
        """Return the value of the one series that answers `query`; None if none does yet."""
        found = self.ask(query)
        return float(found[0]["value"][1]) if found else None


@pytest.fixture
def prometheus(run: Run, tmp_path: Path, start: Start) -> tuple[Prometheus, Daemon]:
    daemon = start()
    return Prometheus(run, tmp_path, daemon), daemon


def test_the_linter_finds_nothing(start: Start) -> None:
    """It reads the page in the text format; the server in the tests below scrapes the OpenMetrics page."""
    promtool = needs.program("promtool")
    daemon = start()
    for _ in range(10):
        get(daemon.address())
    assert daemon.reload()["event"] == "reload committed"
    page = daemon.probe("/metrics")[2]
    assert "asgid_http_requests_total{" in page
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )

    assert (0, "", "") == (checked.returncode, checked.stdout, checked.stderr)


def test_it_scrapes_all_requests_over_a_reload(prometheus: tuple[Prometheus, Daemon]) -> None:
    """It counts exactly the answered requests, and detects no counter reset at a reload."""
    server, daemon = prometheus
    eventually(lambda: server.number("up") == 1)
    for _ in range(7):
        assert get(daemon.address()).status == 200
    assert daemon.reload()["event"] == "reload committed"
    for _ in range(4):
        assert get(daemon.address()).status == 200

    eventually(lambda: server.number('sum(asgid_http_requests_total{method="GET",code="200"})') == 11)
    eventually(lambda: server.number("asgid_generation") == 2)  # after a failed scrape the series has no value
    assert server.number("sum(resets(asgid_http_requests_total[5m]))") == 0


def test_the_queries_of_the_documents_are_answered(prometheus: tuple[Prometheus, Daemon]) -> None:
    """All are valid; the alerts find nothing on a healthy asgid, and the one for crashes finds a killed worker."""
    server, daemon = prometheus
    queries = documents.queries()
    (crashes,) = [query for query in queries if "asgid_worker_exits_total" in query]
    (missing,) = [query for query in queries if "asgid_workers_desired" in query]
    (quantile,) = [query for query in queries if "histogram_quantile" in query]
    eventually(lambda: (server.number("count_over_time(asgid_generation[1m])") or 0) >= 2)
    for _ in range(10):
        get(daemon.address())
    answers = {query: server.ask(query) for query in queries}

    assert [] == answers[crashes] == answers[missing]
    assert len(queries) >= 6
    eventually(lambda: (server.number(quantile) or 0) > 0)
    os.kill(daemon.workers()[0], signal.SIGKILL)
    (found,) = eventually(lambda: server.ask(crashes))
    assert found["metric"]["reason"] == "signal"
