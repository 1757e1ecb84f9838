"""The metrics address: its content, and that neither stuck workers nor its own clients delay it."""

import os
import signal
import socket

import psutil

from tests.client import Client, get, request
from tests.conftest import Start
from tests.daemon import Series, eventually


def only_grows(series: Series) -> bool:
    return series[0].endswith(("_total", "_count", "_sum", "_bucket"))


def test_the_metrics_show_a_request_and_the_workers(start: Start) -> None:
    daemon = start("echo:application")
    with Client(daemon.address()) as client:
        assert client.post(b"12345").body == b"12345"
    eventually(lambda: daemon.metric("asgid_http_requests_total") == 1)

    metrics = daemon.metrics()

    assert daemon.metric("asgid_http_requests_total", method="POST", code="200") == 1
    assert daemon.metric("asgid_http_request_body_bytes_total") == 5
    assert daemon.metric("asgid_http_response_body_bytes_total") == 5
    assert daemon.metric("asgid_http_request_duration_seconds_count") == 1
    assert daemon.metric("asgid_connections_accepted_total") == 1
    assert daemon.metric("asgid_workers", state="ready") == 2
    assert daemon.metric("asgid_workers_desired") == 2
    assert daemon.metric("asgid_generation") == 1
    assert daemon.metric("asgid_worker_starts_total", reason="initial") == 2
    assert daemon.metric("asgid_worker_boot_duration_seconds_count") == 2
    assert {str(pid) for pid in daemon.workers()} == {
        dict(labels)["pid"] for name, labels in metrics if name == "asgid_worker_info"
    }


def test_counters_never_go_backwards(start: Start) -> None:
    daemon = start()
    for _ in range(50):
        get(daemon.address())
    eventually(lambda: daemon.metric("asgid_http_requests_total") == 50)
    last = daemon.metrics()

    def scrape() -> None:
        nonlocal last
        now = daemon.metrics()
        lost = [series for series in last if only_grows(series) and now.get(series, -1.0) < last[series]]
        assert not lost
        last = now

    victim = daemon.workers()[0]
    os.kill(victim, signal.SIGKILL)
    while victim in daemon.workers() or daemon.metric("asgid_workers", state="ready") < 2:
        scrape()
    daemon.signal("HUP")
    while not daemon.log_events("reload committed", generation=2):
        scrape()
    eventually(lambda: len(daemon.workers()) == 2)
    for _ in range(50):
        get(daemon.address())
        scrape()

    eventually(lambda: daemon.metric("asgid_http_requests_total", method="GET", code="200") == 100)


def test_the_probes_and_the_status_page_report_the_state(start: Start) -> None:
    """/livez and /readyz return 200, /status lists each worker, and another path returns 404."""
    daemon = start()

    status = daemon.status()

    assert daemon.probe("/livez")[0] == 200
    assert daemon.probe("/readyz")[0] == 200
    assert daemon.probe("/nowhere")[0] == 404
    assert status["generation"] == 1
    assert status["uptime"] > 0
    assert sorted(worker["slot"] for worker in status["workers"]) == [0, 1]
    for worker in status["workers"]:
        assert worker["state"] == "ready"
        assert worker["generation"] == 1
        assert psutil.Process(worker["pid"]).ppid() == daemon.pid
        assert worker["memory"] > 1 << 20
        assert 0 <= worker["heartbeat_age"] < 20
        assert (worker["connections"], worker["requests"]) == (0, 0)


def test_asgid_is_not_ready_before_its_first_worker(launch: Start) -> None:
    daemon = launch("never_ready:application")
    eventually(lambda: daemon.log_events("worker started"))

    assert daemon.probe("/livez")[0] == 200
    assert daemon.probe("/readyz")[0] == 503
    assert {worker["state"] for worker in daemon.status()["workers"]} == {"booting"}


def test_the_endpoint_answers_when_every_worker_is_stuck(start: Start) -> None:
    """The master serves it, and reports the time since the last heartbeat of each worker."""
    daemon = start(
        "stuck:application", workers={"count": 1}, timeouts={"heartbeat": "5m", "graceful": "0s", "kill": "1s"}
    )
    with Client(daemon.address()) as client:
        client.send(request("GET", "/stuck"))

        eventually(lambda: daemon.metric("asgid_worker_heartbeat_age_seconds") > 1.5)

        assert daemon.probe("/livez")[0] == 200
        assert daemon.status()["workers"][0]["requests"] == 1


def test_a_configured_metrics_address_in_use_is_an_error(start: Start, launch: Start) -> None:
    first = start()

    second = launch(metrics={"bind": first.metrics_address})

    assert second.wait() == 69
    assert f"metrics.bind: cannot listen on {first.metrics_address}" in second.log_text()


def test_a_conflict_of_the_metrics_address_with_a_listener_is_named(launch: Start) -> None:
    """A host name hides the conflict from the check of the settings, and `ss` would only show asgid."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    daemon = launch(listen=[{"bind": f"localhost:{port}"}], metrics={"bind": f"127.0.0.1:{port}"})

    assert daemon.wait() == 69
    assert (
        f"metrics.bind: cannot listen on 127.0.0.1:{port}: asgid itself listens on 127.0.0.1:{port} "
        f"(for localhost:{port}), for requests; choose another port" in daemon.log_text()
    )


def test_metrics_can_be_switched_off(start: Start) -> None:
    daemon = start(metrics={"enabled": False})

    assert get(daemon.address()).body == b"hello"
    assert daemon.log_events("metrics") == []
