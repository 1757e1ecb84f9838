"""The page on metrics: every family with its type, labels and meaning, and what to ask of them."""

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

`GET /metrics` on `metrics.bind` answers in the Prometheus text format, or in OpenMetrics where the client asks for it.
The master answers, from memory it shares with the workers: also when every worker is stuck, and at no cost to them.

`worker` is the number of a slot, 0 and up. A worker that is replaced gives its slot on, so series do not multiply, and
its counters go on from where they stood: no counter ever goes backwards, also when a worker is killed. Gauges of a
worker end with it.

| name | type | labels | meaning |
|---|---|---|---|
{rows}

## Questions and their queries

Do requests fail?

    sum(rate(asgid_http_requests_total{{code=~"5.."}}[5m])) / sum(rate(asgid_http_requests_total[5m]))

Does the application raise, also where its answer had begun, so that no 5xx tells of it?

    rate(asgid_app_exceptions_total[5m]) > 0

How slow is the slowest in a hundred?

    histogram_quantile(0.99, rate(asgid_http_request_duration_seconds_bucket[5m]))

Are there too few workers? Connections wait to be accepted, or event loops turn late, for minutes:

    asgid_listener_backlog_connections > 0 or asgid_worker_event_loop_lag_seconds > 0.1

Does something block an event loop?

    asgid_worker_heartbeat_age_seconds > 3

Are workers missing, for longer than a boot takes?

    asgid_workers_desired > on(job, instance) asgid_workers{{state="ready"}}

Does the application crash?

    increase(asgid_worker_exits_total{{reason=~"crash|signal|blocked|boot_failed|boot_timeout"}}[15m]) > 0

Does the running configuration differ from the file?

    asgid_config_last_reload_successful == 0
"""
