"""A scrape has every metric of the contract, and its counters never go backwards."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

import asgid
from asgid import board
from asgid.board import BUCKETS, BYTES, REQUEST_CELL, Board, observe
from asgid.master.status.exposition import render
from asgid.master.status.history import ReloadResult
from asgid.master.status.metrics import metrics
from asgid.master.status.snapshot import Snapshot
from asgid.master.workers.ledger import Ledger
from tests.snapshots import NOW_NS, SNAPSHOT, process

#: Dashboards depend on these names, which docs/metrics.md documents.
_CONTRACT = {
    "asgid_build_info": ("gauge", {"version", "python", "loop"}),
    "asgid_generation": ("gauge", set()),
    "asgid_reloads_total": ("counter", {"result"}),
    "asgid_config_last_reload_successful": ("gauge", set()),
    "asgid_config_last_reload_success_timestamp_seconds": ("gauge", set()),
    "asgid_workers": ("gauge", {"state"}),
    "asgid_workers_desired": ("gauge", set()),
    "asgid_worker_info": ("gauge", {"worker", "pid", "generation"}),
    "asgid_worker_starts_total": ("counter", {"reason"}),
    "asgid_worker_exits_total": ("counter", {"reason"}),
    "asgid_worker_boot_duration_seconds": ("histogram", set()),
    "asgid_worker_heartbeat_age_seconds": ("gauge", {"worker"}),
    "asgid_worker_event_loop_lag_seconds": ("gauge", {"worker"}),
    "asgid_worker_resident_memory_bytes": ("gauge", {"worker"}),
    "asgid_worker_open_fds": ("gauge", {"worker"}),
    "asgid_worker_threads": ("gauge", {"worker"}),
    "asgid_worker_cpu_seconds_total": ("counter", {"worker"}),
    "asgid_connections": ("gauge", {"worker", "state"}),
    "asgid_connections_accepted_total": ("counter", {"worker"}),
    "asgid_connection_limit_reached_total": ("counter", {"worker"}),
    "asgid_listener_backlog_connections": ("gauge", {"listener"}),
    "asgid_listener_backlog_limit": ("gauge", {"listener"}),
    "asgid_http_requests_total": ("counter", {"method", "code"}),
    "asgid_http_requests_in_flight": ("gauge", {"worker"}),
    "asgid_http_requests_queued": ("gauge", {"worker"}),
    "asgid_http_request_duration_seconds": ("histogram", set()),
    "asgid_http_response_start_seconds": ("histogram", set()),
    "asgid_http_request_body_bytes_total": ("counter", set()),
    "asgid_http_response_body_bytes_total": ("counter", set()),
    "asgid_http_timeouts_total": ("counter", {"phase"}),
    "asgid_http_protocol_errors_total": ("counter", {"kind"}),
    "asgid_http_overload_rejections_total": ("counter", set()),
    "asgid_http_client_disconnects_total": ("counter", set()),
    "asgid_app_exceptions_total": ("counter", set()),
    "asgid_slow_requests_total": ("counter", set()),
    "asgid_websocket_messages_total": ("counter", {"direction"}),
    "asgid_websocket_closes_total": ("counter", {"code"}),
    "process_cpu_seconds_total": ("counter", set()),
    "process_resident_memory_bytes": ("gauge", set()),
    "process_virtual_memory_bytes": ("gauge", set()),
    "process_start_time_seconds": ("gauge", set()),
    "process_open_fds": ("gauge", set()),
    "process_max_fds": ("gauge", set()),
}


@pytest.fixture
def rows() -> Board:
    """A board with live workers in slots 0 and 2, and a past worker in slot 1."""
    rows = Board(bytearray(BYTES))
    for slot in (0, 1, 2):
        row = rows.row(slot)
        row[REQUEST_CELL["GET"][200]] = 10
        row[board.ACCEPTED] = 5
        observe(row, board.DURATION, 0.003)
        observe(row, board.DURATION, 99.0)
    rows.row(0)[board.HEARTBEAT_NS] = NOW_NS - 250_000_000
    rows.row(2)[board.HEARTBEAT_NS] = NOW_NS + 1000  # a heartbeat after the snapshot
    rows.row(0)[board.CONNECTIONS], rows.row(0)[board.STARTED], rows.row(0)[board.ABANDONED] = 6, 11, 8
    rows.row(0)[board.WEBSOCKETS], rows.row(0)[board.WEBSOCKET_SENT] = 2, 7
    rows.row(1)[board.WEBSOCKET_CLOSE_CELL[1001]], rows.row(1)[board.WEBSOCKET_CLOSE_CELL[4001]] = 3, 4
    rows.row(2)[board.CONNECTIONS], rows.row(2)[board.STARTED], rows.row(2)[board.ABANDONED] = 0, 10, 11
    rows.row(0)[board.LAG_NS] = 2_000_000
    rows.row(1)[REQUEST_CELL["BREW"][299]] = 1
    return rows


def _values(snapshot: Snapshot, rows: Board) -> dict[tuple[str, ...], float]:
    return _by_labels(metrics(snapshot, _ledger(rows)))


def _ledger(rows: Board) -> Ledger:
    """Return a ledger whose clock is a moment after the snapshot."""
    return Ledger(rows, {}, lambda: NOW_NS + 10_000, lambda *_: None)


def _by_labels(families: Iterable[Any]) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and the values of its labels, in the order of the labels' names."""
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_scrape_has_the_metrics_of_the_contract_and_no_others(rows):
    """Dashboards depend on names, types and labels."""
    found = {
        metric.name: (metric.kind, {label for sample in metric.samples for label in sample.labels} - {"le"})
        for metric in metrics(SNAPSHOT, _ledger(rows))
    }

    assert found == _CONTRACT


def test_the_values_of_the_snapshot_are_shown(rows):
    values = _values(SNAPSHOT, rows)

    assert [
        values[name,]
        for name in ("asgid_generation", "asgid_workers_desired", "asgid_config_last_reload_success_timestamp_seconds")
    ] == [3, 2, 1_700_000_000.0]
    assert {key[1]: value for key, value in values.items() if key[0] == "asgid_workers"} == {
        "booting": 0,
        "ready": 1,
        "draining": 1,
        "backoff": 1,
    }
    assert values["asgid_worker_info", "3", "811", "0"] == 1
    assert values["asgid_worker_starts_total", "crash"] == 1
    assert values["asgid_worker_exits_total", "boot_timeout"] == 2
    assert values["asgid_reloads_total", "superseded"] == 3
    assert values["asgid_listener_backlog_connections", "127.0.0.1:8000"] == 5
    assert values["asgid_listener_backlog_limit", "127.0.0.1:8000"] == 2048
    assert values["asgid_worker_resident_memory_bytes", "2"] == 60_000_000
    assert values["process_resident_memory_bytes",] == 30_000_000
    assert values["process_virtual_memory_bytes",] == 90_000_000
    assert values["process_cpu_seconds_total",] == 1.5
    assert values["process_start_time_seconds",] == 1_699_999_000.0
    assert [values["process_open_fds",], values["process_max_fds",]] == [20, 65536]
    assert any(key[0] == "asgid_build_info" and asgid.__version__ in key and "uvloop" in key for key in values)


def test_a_worker_shows_its_connections_and_its_heartbeat(rows):
    """One with a request is active, every other one but a WebSocket is idle. No number is ever negative."""
    values = _values(SNAPSHOT, rows)

    assert [values["asgid_connections", state, "0"] for state in ("active", "idle", "websocket")] == [1, 3, 2]
    assert [values["asgid_connections", state, "2"] for state in ("active", "idle", "websocket")] == [0, 0, 0]
    assert [values["asgid_http_requests_in_flight", worker] for worker in ("0", "2")] == [1, 0]
    assert [values["asgid_worker_heartbeat_age_seconds", worker] for worker in ("0", "2")] == [0.25, 0]
    assert values["asgid_worker_event_loop_lag_seconds", "0"] == 0.002
    assert values["asgid_websocket_messages_total", "sent"] == 7
    assert [values["asgid_websocket_closes_total", code] for code in ("1001", "other")] == [3, 4]


def test_a_value_that_the_kernel_does_not_report_is_left_out(rows):
    """Such as the open files of a worker that has just ended, and the whole master without /proc."""
    hidden = replace(SNAPSHOT, processes={0: process(50_000_000, open_fds=None)}, master=None)
    values = _values(hidden, rows)

    assert ("asgid_worker_open_fds", "0") not in values
    assert values["asgid_worker_resident_memory_bytes", "0"] == 50_000_000
    assert ["process_max_fds", "process_start_time_seconds"] == sorted(
        name for name, *_ in values if name.startswith("process_")
    )


def test_a_worker_without_a_heartbeat_shows_no_age(rows):
    """The age since the boot of the machine would fire an alert at every start of a worker."""
    _ledger(rows).retire(0)
    values = _values(SNAPSHOT, rows)

    assert ("asgid_worker_heartbeat_age_seconds", "0") not in values
    assert ("asgid_worker_heartbeat_age_seconds", "2") in values


def test_only_pairs_of_method_and_code_that_occurred_are_shown(rows):
    """An unregistered method is OTHER, and an unregistered code is other."""
    values = _values(SNAPSHOT, rows)
    requests = {key[1:]: value for key, value in values.items() if key[0] == "asgid_http_requests_total"}

    assert requests == {("200", "GET"): 30, ("other", "OTHER"): 1}


def test_histograms_are_cumulative_and_end_with_their_count(rows):
    """In Prometheus a bucket counts all values up to `le`, and +Inf equals the count."""
    values = _values(SNAPSHOT, rows)
    name = "asgid_http_request_duration_seconds"
    buckets = [values[f"{name}_bucket", str(bound)] for bound in BUCKETS]

    assert [0 if bound < 0.003 else 3 for bound in BUCKETS] == buckets
    assert values[f"{name}_bucket", "+Inf"] == values[f"{name}_count",] == 6
    assert values[f"{name}_sum",] == pytest.approx(3 * 99.003)
    assert values["asgid_worker_boot_duration_seconds_bucket", "0.25"] == 3
    assert values["asgid_worker_boot_duration_seconds_count",] == 7
    assert values["asgid_worker_boot_duration_seconds_sum",] == 123.5


def test_gauges_end_with_their_worker_and_counters_remain(rows):
    """After a kill every count is still there, and no value that described only that worker."""
    before = _values(SNAPSHOT, rows)
    _ledger(rows).retire(0)
    without = replace(SNAPSHOT, workers=SNAPSHOT.workers[1:], processes={2: SNAPSHOT.processes[2]})
    after = _values(without, rows)
    gone = {key[0] for key in before.keys() - after.keys()}

    assert {
        "asgid_worker_info",
        "asgid_worker_heartbeat_age_seconds",
        "asgid_worker_event_loop_lag_seconds",
        "asgid_worker_resident_memory_bytes",
        "asgid_worker_open_fds",
        "asgid_worker_threads",
        "asgid_connections",
        "asgid_http_requests_in_flight",
        "asgid_http_requests_queued",
    } == gone
    assert after["asgid_connections_accepted_total", "0"] == 5
    assert after["asgid_worker_cpu_seconds_total", "1"] == 2.5


_CELL = st.integers(board.STARTED, board.CELLS - 1)


@given(st.lists(st.tuples(st.integers(0, 2), _CELL, st.integers(0, 5)), max_size=20))
def test_no_counter_ever_goes_backwards(facts):
    """Workers count and exit in any order; an amount of 0 stands for an exit."""
    rows = Board(bytearray(BYTES))
    ledger = _ledger(rows)
    counters = {metric.name for metric in metrics(SNAPSHOT, ledger) if metric.kind != "gauge"}
    last: dict[tuple[str, ...], float] = {}
    for slot, cell, amount in facts:
        if amount:
            rows.row(slot)[cell] += amount
        else:
            ledger.retire(slot)
        values = {
            key: value
            for key, value in _by_labels(metrics(SNAPSHOT, ledger)).items()
            if key[0] in counters or key[0].endswith(("_bucket", "_count", "_sum"))
        }

        assert last.keys() <= values.keys()
        assert all(values[key] >= last[key] for key in last)

        last = values


@pytest.mark.parametrize(
    ("verdict", "successful"), [("committed", 1), ("superseded", 1), ("rolled_back", 0), ("invalid_config", 0)]
)
def test_the_last_reload_has_failed_if_it_was_refused_or_rolled_back(rows, verdict, successful):
    """A superseded reload has not failed, nor has a master before its first reload."""
    last = ReloadResult(verdict, "why", 4, 1_700_000_001.0)
    snapshot = replace(SNAPSHOT, history=replace(SNAPSHOT.history, last_reload=last))

    assert _values(snapshot, rows)["asgid_config_last_reload_successful",] == successful
    assert _values(SNAPSHOT, rows)["asgid_config_last_reload_successful",] == 1


def test_both_formats_parse_to_the_same_series(rows):
    _, text = render(metrics(SNAPSHOT, rows), "*/*")
    _, page = render(metrics(SNAPSHOT, rows), "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    parsed = [*parse_text(text.decode())], [*parse_openmetrics(page.decode())]
    from_text, from_openmetrics = map(_by_labels, parsed)
    types, open_types = ({family.name: family.type for family in families} for families in parsed)

    assert _values(SNAPSHOT, rows) == from_text == from_openmetrics
    assert {name.removesuffix("_total"): kind for name, (kind, _) in _CONTRACT.items()} == types == open_types
    assert len(from_text) > 100


def test_the_help_text_lists_the_values_of_a_label(rows):
    """An alert is written before the first crash. Codes, slots and names need no list."""
    listed_labels = {"result", "state", "reason", "phase", "kind", "direction"}
    values = [
        (family.name, family.text, value)
        for family in metrics(SNAPSHOT, rows)
        for sample in family.samples
        for label, value in sample.labels.items()
        if label in listed_labels
    ]

    assert len(values) > 30
    assert [(name, value) for name, text, value in values if not re.search(rf"\b{value}\b", text)] == []


def test_the_reference_names_every_metric():
    page = (Path(__file__).parents[4] / "docs" / "metrics.md").read_text()

    assert all(f"| `{name}` | {kind} |" in page for name, (kind, _) in _CONTRACT.items())
