"""Every metric of a scrape, from the snapshot and the ledger.

One table defines each family: its samples, its help text and its row in docs/metrics.md come from the same entry. A
counter from the board is a sum over every slot that ever had a worker, so the exit of a worker never lowers it. The
label `worker` is the slot, not the pid: a restart must not add a series to a dashboard.

This file does not know the format of a page. It reads no clock: ages are relative to the time of the snapshot.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import asgid
from asgid import board
from asgid.master.status.exposition import Metric, Sample, histogram
from asgid.master.status.history import BOOT_BUCKETS_S
from asgid.master.status.snapshot import Snapshot
from asgid.master.supervision.lifecycle import ExitReason, StartReason
from asgid.master.workers.ledger import Ledger
from asgid.master.workers.process_state import ProcessUsage

_Reading: TypeAlias = tuple[tuple[str, ...], float]  # the values of the labels, the value


@dataclass(frozen=True)
class _Scrape:
    """The state of the master and of the board at one moment."""

    snapshot: Snapshot
    rows: Mapping[int, list[int]]  #: by slot, for every slot that ever had a worker
    totals: list[int]


@dataclass(frozen=True)
class _Family:
    """One counter or gauge: its name, labels and help text, and the function that reads its values."""

    name: str
    labels: tuple[str, ...]
    text: str
    read: Callable[[_Scrape], Iterable[_Reading]]

    @property
    def kind(self) -> str:
        return "counter" if self.name.endswith("_total") else "gauge"

    def metric(self, scrape: _Scrape) -> Metric:
        samples = [
            Sample(self.name, dict(zip(self.labels, labels, strict=True)), value) for labels, value in self.read(scrape)
        ]
        return Metric(self.name, self.kind, self.text, samples)


@dataclass(frozen=True)
class _Histogram:
    """One histogram. `read` returns the count in each bucket, +Inf last, not cumulative, and the sum in seconds."""

    name: str
    bounds: tuple[float, ...]
    text: str
    read: Callable[[_Scrape], tuple[Iterable[int], float]]
    labels: tuple[str, ...] = ()
    kind: str = "histogram"

    def metric(self, scrape: _Scrape) -> Metric:
        counts, sum_s = self.read(scrape)
        return histogram(self.name, self.text, self.bounds, counts, sum_s)


def heartbeat_age_s(row: list[int], now_ns: int) -> float | None:
    """Return the seconds since the last heartbeat of the slot's event loop; None before the first one."""
    return max(0, now_ns - row[board.HEARTBEAT_NS]) / 1e9 if row[board.HEARTBEAT_NS] else None


def _one(value: Callable[[Snapshot], float]) -> Callable[[_Scrape], Iterable[_Reading]]:
    return lambda scrape: [((), value(scrape.snapshot))]


def _by_label(mapping: Callable[[Snapshot], Mapping[str, float]]) -> Callable[[_Scrape], Iterable[_Reading]]:
    return lambda scrape: [((str(label),), value) for label, value in mapping(scrape.snapshot).items()]


def _by_worker(value: Callable[[list[int]], float]) -> Callable[[_Scrape], Iterable[_Reading]]:
    """Return a reader of a gauge for every live worker."""
    return lambda scrape: [((str(worker.slot),), value(scrape.rows[worker.slot])) for worker in scrape.snapshot.workers]


def _by_slot(cell: int) -> Callable[[_Scrape], Iterable[_Reading]]:
    """Return a reader of a counter for every slot that ever had a worker."""
    return lambda scrape: [((str(slot),), row[cell]) for slot, row in scrape.rows.items()]


def _by_process(value: Callable[[ProcessUsage], float | None]) -> Callable[[_Scrape], Iterable[_Reading]]:
    """Return a reader of a gauge for every worker of which the kernel reports it."""
    return lambda scrape: [
        ((str(slot),), found)
        for slot, process in scrape.snapshot.processes.items()
        if (found := value(process)) is not None
    ]


def _of_master(value: Callable[[ProcessUsage], float | None]) -> Callable[[_Scrape], Iterable[_Reading]]:
    return lambda scrape: [
        ((), found)
        for process in [scrape.snapshot.master]
        if process is not None and (found := value(process)) is not None
    ]


def _total(cell: int) -> Callable[[_Scrape], Iterable[_Reading]]:
    return lambda scrape: [((), scrape.totals[cell])]


def _totals(cells: Mapping[str, int]) -> Callable[[_Scrape], Iterable[_Reading]]:
    return lambda scrape: [((label,), scrape.totals[cell]) for label, cell in cells.items()]


def _workers(scrape: _Scrape) -> Iterator[_Reading]:
    states = [worker.state for worker in scrape.snapshot.workers]
    for state in ("booting", "ready", "draining"):
        yield (state,), states.count(state)
    yield ("backoff",), scrape.snapshot.backing_off


def _worker_info(scrape: _Scrape) -> Iterator[_Reading]:
    for worker in scrape.snapshot.workers:
        yield (str(worker.slot), str(worker.pid), str(worker.generation)), 1


def _heartbeat_ages(scrape: _Scrape) -> Iterator[_Reading]:
    for worker in scrape.snapshot.workers:
        age_s = heartbeat_age_s(scrape.rows[worker.slot], scrape.snapshot.now_ns)
        if age_s is not None:
            yield (str(worker.slot),), age_s


def _connections(scrape: _Scrape) -> Iterator[_Reading]:
    for worker in scrape.snapshot.workers:
        row = scrape.rows[worker.slot]
        active = board.in_flight(row)
        yield (str(worker.slot), "active"), active
        yield (str(worker.slot), "idle"), max(0, row[board.CONNECTIONS] - row[board.WEBSOCKETS] - active)
        yield (str(worker.slot), "websocket"), row[board.WEBSOCKETS]


def _requests(scrape: _Scrape) -> Iterator[_Reading]:
    """Yield only pairs with a count: of 640 pairs a server sees about a dozen. A pair never disappears again."""
    cell = board.REQUESTS
    for method in board.METHODS:
        for code in board.CODES:
            if count := scrape.totals[cell]:
                yield (method, code), count
            cell += 1


_W = ("worker",)
FAMILIES: tuple[_Family | _Histogram, ...] = (
    _Family(
        "asgid_build_info",
        ("version", "python", "loop"),
        "Always 1: the versions of asgid and Python, and the event loop of the workers.",
        lambda scrape: [((asgid.__version__, ".".join(map(str, sys.version_info[:3])), scrape.snapshot.loop), 1)],
    ),
    _Family("asgid_generation", (), "Number of the generation that serves.", _one(lambda s: s.generation)),
    _Family(
        "asgid_reloads_total",
        ("result",),
        "Reloads that ended, by result: committed, rolled_back, invalid_config, superseded.",
        _by_label(lambda s: s.history.reloads),
    ),
    _Family(
        "asgid_config_last_reload_successful",
        (),
        "0 if the last reload was refused or rolled back, else 1.",
        _one(
            lambda s: (
                s.history.last_reload is None or s.history.last_reload.verdict not in ("invalid_config", "rolled_back")
            )
        ),
    ),
    _Family(
        "asgid_config_last_reload_success_timestamp_seconds",
        (),
        "Unix time of the last start or reload that was committed.",
        _one(lambda s: s.history.last_success),
    ),
    _Family(
        "asgid_workers",
        ("state",),
        "Workers by state: booting, ready, draining; backoff: their start waits, because earlier starts failed.",
        _workers,
    ),
    _Family("asgid_workers_desired", (), "Number of workers that should run.", _one(lambda s: s.desired)),
    _Family(
        "asgid_worker_info",
        ("worker", "pid", "generation"),
        "Always 1: the process in each slot. Join on `worker`.",
        _worker_info,
    ),
    _Family(
        "asgid_worker_starts_total",
        ("reason",),
        f"Workers started, by reason: {', '.join(StartReason)}.",
        _by_label(lambda s: s.starts),
    ),
    _Family(
        "asgid_worker_exits_total",
        ("reason",),
        f"Workers that exited, by reason: {', '.join(ExitReason)}.",
        _by_label(lambda s: s.exits),
    ),
    _Histogram(
        "asgid_worker_boot_duration_seconds",
        BOOT_BUCKETS_S,
        "Time from the fork to ready: import of the application and its lifespan startup.",
        lambda scrape: (scrape.snapshot.history.boots, scrape.snapshot.history.boots_sum_s),
    ),
    _Family(
        "asgid_worker_heartbeat_age_seconds",
        _W,
        "Time since the last heartbeat of the worker's event loop, which has one each second or more often.",
        _heartbeat_ages,
    ),
    _Family(
        "asgid_worker_event_loop_lag_seconds",
        _W,
        "Delay of the last turn of the worker's event loop.",
        _by_worker(lambda row: row[board.LAG_NS] / 1e9),
    ),
    _Family("asgid_worker_resident_memory_bytes", _W, "Resident memory.", _by_process(lambda p: p.resident_bytes)),
    _Family("asgid_worker_open_fds", _W, "Open file descriptors.", _by_process(lambda p: p.open_fds)),
    _Family("asgid_worker_threads", _W, "Threads.", _by_process(lambda p: p.threads)),
    _Family(
        "asgid_worker_cpu_seconds_total",
        _W,
        "User and system CPU time of all workers that the slot has had.",
        lambda scrape: [((str(slot),), used_s) for slot, used_s in scrape.snapshot.cpu_s.items()],
    ),
    _Family(
        "asgid_connections",
        ("worker", "state"),
        "Open connections: active (with a request in progress), idle, websocket.",
        _connections,
    ),
    _Family("asgid_connections_accepted_total", _W, "Connections accepted.", _by_slot(board.ACCEPTED)),
    _Family(
        "asgid_connection_limit_reached_total",
        _W,
        "How often the worker stopped accepting at `limits.connections`.",
        _by_slot(board.LIMIT_REACHED),
    ),
    _Family(
        "asgid_listener_backlog_connections",
        ("listener",),
        "Completed connections that no worker has accepted yet.",
        lambda scrape: [((listener.name,), listener.backlog) for listener in scrape.snapshot.listeners],
    ),
    _Family(
        "asgid_listener_backlog_limit",
        ("listener",),
        "Maximum of that queue; when it is full, the kernel drops new connections.",
        lambda scrape: [((listener.name,), listener.backlog_limit) for listener in scrape.snapshot.listeners],
    ),
    _Family(
        "asgid_http_requests_total",
        ("method", "code"),
        "Requests with a complete response; an unregistered method is OTHER, an unregistered code is other.",
        _requests,
    ),
    _Family(
        "asgid_http_requests_in_flight", _W, "Requests that have begun and not ended.", _by_worker(board.in_flight)
    ),
    _Family(
        "asgid_http_requests_queued",
        _W,
        "Requests that wait because `limits.requests` is reached.",
        _by_worker(lambda row: row[board.QUEUED]),
    ),
    _Histogram(
        "asgid_http_request_duration_seconds",
        board.BUCKETS,
        "Time from the end of the request's head to the end of the response.",
        lambda scrape: board.histogram(scrape.totals, board.DURATION),
    ),
    _Histogram(
        "asgid_http_response_start_seconds",
        board.BUCKETS,
        "Time from the end of the request's head to the start of the response.",
        lambda scrape: board.histogram(scrape.totals, board.START),
    ),
    _Family("asgid_http_request_body_bytes_total", (), "Bytes of request bodies.", _total(board.REQUEST_BYTES)),
    _Family("asgid_http_response_body_bytes_total", (), "Bytes of response bodies.", _total(board.RESPONSE_BYTES)),
    _Family(
        "asgid_http_timeouts_total",
        ("phase",),
        f"Connections or requests ended by a deadline, by phase: {', '.join(board.TIMEOUT_CELL)}.",
        _totals(board.TIMEOUT_CELL),
    ),
    _Family(
        "asgid_http_protocol_errors_total",
        ("kind",),
        f"Requests refused, by the kind of error: {', '.join(board.PROTOCOL_CELL)}.",
        _totals(board.PROTOCOL_CELL),
    ),
    _Family(
        "asgid_http_overload_rejections_total",
        (),
        "Requests answered 503 because the queue was full, or the wait exceeded `limits.queue_timeout`.",
        _total(board.OVERLOADED),
    ),
    _Family(
        "asgid_http_client_disconnects_total",
        (),
        "Clients that left before their response was complete.",
        _total(board.DISCONNECTS),
    ),
    _Family("asgid_app_exceptions_total", (), "Exceptions that left the application.", _total(board.EXCEPTIONS)),
    _Family(
        "asgid_slow_requests_total", (), "Requests that took longer than `timeouts.slow_request`.", _total(board.SLOW)
    ),
    _Family(
        "asgid_websocket_messages_total",
        ("direction",),
        "WebSocket messages, from clients (received) and to them (sent).",
        _totals({"received": board.WEBSOCKET_RECEIVED, "sent": board.WEBSOCKET_SENT}),
    ),
    _Family(
        "asgid_websocket_closes_total",
        ("code",),
        "WebSockets closed, by close code; 1006: the connection was lost, other: a code of the application.",
        _totals({code: board.WEBSOCKET_CLOSES + index for index, code in enumerate(board.CLOSE_CODES)}),
    ),
    # The master itself, under the names that Prometheus client libraries use for a process.
    _Family("process_cpu_seconds_total", (), "User and system CPU time of the master.", _of_master(lambda p: p.cpu_s)),
    _Family(
        "process_resident_memory_bytes", (), "Resident memory of the master.", _of_master(lambda p: p.resident_bytes)
    ),
    _Family("process_virtual_memory_bytes", (), "Virtual memory of the master.", _of_master(lambda p: p.virtual_bytes)),
    _Family("process_start_time_seconds", (), "Unix time of the master's start.", _one(lambda s: s.history.started_at)),
    _Family("process_open_fds", (), "Open file descriptors of the master.", _of_master(lambda p: p.open_fds)),
    _Family("process_max_fds", (), "Limit of open file descriptors of the master.", _one(lambda s: s.max_fds)),
)


def metrics(snapshot: Snapshot, ledger: Ledger) -> Iterator[Metric]:
    """Yield every metric of the master and its workers, in the order of the reference."""
    rows = {slot: ledger.row(slot) for slot in sorted(snapshot.history.slots)}
    totals = [sum(cells) for cells in zip([0] * board.CELLS, *rows.values(), strict=True)]
    scrape = _Scrape(snapshot, rows, totals)
    for family in FAMILIES:
        yield family.metric(scrape)
