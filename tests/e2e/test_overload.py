"""Overload: requests beyond the cap wait in a bounded queue, and a request without a place gets 503 and Retry-After."""

from pathlib import Path

from tests.client import Answer, Client, get, in_thread, request
from tests.conftest import Start
from tests.daemon import WITHIN_S, Daemon

ONE = {"count": 1}


def gated(start: Start, tmp_path: Path, **limits: object) -> tuple[Daemon, Path]:
    """Return a daemon that holds every request until the gate file exists, and the path of that file."""
    gate = tmp_path / "gate"
    return start(
        "gate:application", workers=ONE, limits={"queue_timeout": "5m"} | limits, app={"env": {"GATE": str(gate)}}
    ), gate


def test_beyond_the_cap_requests_wait_and_beyond_the_queue_they_are_refused(start: Start, tmp_path: Path) -> None:
    """Two requests run, two wait, and the fifth gets 503 with Retry-After at once; the two that wait are answered."""
    daemon, gate = gated(start, tmp_path, requests=2, queue=2)
    idle = [Client(daemon.address()) for _ in range(10)]  # connections without a request do not count
    answers: list[Answer] = []
    clients = [in_thread(lambda: answers.append(get(daemon.address()))) for _ in range(4)]
    daemon.eventually(lambda: daemon.metric("asgid_http_requests_queued") == 2)

    refused = get(daemon.address())

    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.closes
    assert daemon.probe("/readyz")[0] == 200
    gate.touch()
    for thread in clients:
        thread.join(WITHIN_S)
    assert [answer.status for answer in answers] == [200] * 4
    assert {b"held most=1", b"held most=2"} >= {answer.body for answer in answers}
    daemon.eventually(lambda: daemon.metric("asgid_http_requests_in_flight") == 0)
    assert daemon.metric("asgid_http_requests_queued") == 0
    assert daemon.metric("asgid_http_overload_rejections_total") == 1
    for client in idle:
        client.close()


def test_a_request_that_waits_too_long_is_refused(start: Start, tmp_path: Path) -> None:
    daemon, gate = gated(start, tmp_path, requests=1, queue=5, queue_timeout="0.5s")
    held = in_thread(lambda: get(daemon.address()))
    daemon.eventually(lambda: daemon.metric("asgid_http_requests_in_flight") == 1)

    refused = get(daemon.address())

    assert refused.status == 503
    assert daemon.metric("asgid_http_timeouts_total", phase="queue") == 1
    gate.touch()
    held.join(WITHIN_S)
    assert get(daemon.address()).body == b"held most=1"


def test_requests_in_a_pipeline_wait_like_any_other(start: Start, tmp_path: Path) -> None:
    daemon, gate = gated(start, tmp_path, requests=1, queue=1)
    with Client(daemon.address()) as client:
        client.send(request("GET", "/") * 3)
        daemon.eventually(lambda: daemon.metric("asgid_http_requests_in_flight") == 1)
        gate.touch()

        assert [client.answer().body for _ in range(3)] == [b"held most=1"] * 3


def test_a_request_that_still_waits_at_the_end_of_a_stop_is_refused(start: Start, tmp_path: Path) -> None:
    """It gets an answer, and does not begin in the place of the request that the stop cuts off."""
    daemon = start(
        "gate:application",
        workers=ONE,
        limits={"requests": 1, "queue": 1, "queue_timeout": "60s"},
        timeouts={"graceful": "500ms"},
        app={"env": {"GATE": str(tmp_path / "gate")}},
    )
    with Client(daemon.address()) as held, Client(daemon.address()) as waiting:
        held.send(request("GET"))
        assert held.head().status == 200
        waiting.send(request("GET"))
        daemon.eventually(lambda: daemon.metric("asgid_http_requests_queued") == 1)
        daemon.signal("TERM")

        answer = waiting.answer()
        assert (answer.status, answer.closes) == (503, True)
    assert daemon.wait() == 0


def test_a_worker_that_had_no_descriptor_accepts_again(start: Start, tmp_path: Path) -> None:
    """Below its cap it opens its two listeners again, with one free descriptor; it retries until it can accept."""
    listen = [{"bind": "127.0.0.1:0"}, {"bind": f"unix:{tmp_path}/socket"}]
    daemon = start("grabs:application", workers=ONE, limits={"connections": 2}, listen=listen)
    with Client(daemon.address()) as first, Client(daemon.address()) as second:
        assert [first.get("/").status, second.get("/").status] == [200, 200]
        assert first.get("/grab").body != b"0"
        second.close()
        daemon.eventually(lambda: daemon.log_events("accepting pauses"))
        assert first.get("/").body == b"0"

        assert get(daemon.address()).status == 200
