"""The generated page on metrics: every family with type, labels and meaning, and useful queries."""

from asgid.master.status.metrics import FAMILIES


def page() -> str:
    """Return docs/metrics.md."""
    rows = "\n".join(
        f"| `{family.name}` | {family.kind} | {', '.join(family.labels) or '-'} | {family.text} |"
        for family in FAMILIES
    )
    return _PAGE.format(rows=rows)


_PAGE = """\
# Metrics

<!-- Generated from the table of asgid/master/status/metrics.py by `make docs`. -->

`GET /metrics` on `metrics.bind` returns the Prometheus text format, or OpenMetrics if the client asks for it. The
master answers from memory that it shares with the workers. So the page works while every worker is stuck, and it costs
the workers nothing.

The label `worker` is the number of a slot, from 0. A new worker takes over the slot of the one that it replaces, so the
number of series does not grow. Its counters continue, so no counter ever goes backwards, even if a worker is killed.
The gauges of a worker end with the worker.

| name | type | labels | meaning |
|---|---|---|---|
{rows}

## Queries

Do requests fail?

    sum(rate(asgid_http_requests_total{{code=~"5.."}}[5m])) / sum(rate(asgid_http_requests_total[5m]))

Does the application raise exceptions? This includes those after the start of a response, which cause no 5xx:

    rate(asgid_app_exceptions_total[5m]) > 0

How slow is the slowest request in a hundred?

    histogram_quantile(0.99, rate(asgid_http_request_duration_seconds_bucket[5m]))

Are there too few workers? For minutes, connections wait to be accepted or event loops are late:

    asgid_listener_backlog_connections > 0 or asgid_worker_event_loop_lag_seconds > 0.1

Does the application block an event loop?

    asgid_worker_heartbeat_age_seconds > 3

Are workers missing for longer than a boot takes?

    asgid_workers_desired > on(job, instance) asgid_workers{{state="ready"}}

Does the application crash?

    increase(asgid_worker_exits_total{{reason=~"crash|signal|blocked|boot_failed|boot_timeout"}}[15m]) > 0

Does the running configuration differ from the file?

    asgid_config_last_reload_successful == 0
"""
