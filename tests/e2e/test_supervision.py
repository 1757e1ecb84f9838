"""The master replaces workers that die or hang, changes their number, and stops them and itself."""

import os
import signal
import socket
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.client import Client, get, is_refused, request
from tests.conftest import Start
from tests.daemon import Daemon, eventually


def pid_of(address: str) -> int:
    return int(get(address).body)


def has_workers(daemon: Daemon, number: int) -> bool:
    return len(daemon.workers()) == number


def answers_from(daemon: Daemon) -> set[int]:
    """Return the pids that answer ten new connections."""
    return {pid_of(daemon.address()) for _ in range(10)}


def ready(daemon: Daemon) -> set[int]:
    return {worker["pid"] for worker in daemon.status()["workers"] if worker["state"] == "ready"}


# Workers


def test_a_killed_worker_is_back_within_two_seconds(start: Start) -> None:
    """Plus twice the boot time; by the heartbeat it would be ten. Its sibling answers meanwhile."""
    daemon = start("pid:application", timeouts={"heartbeat": "10s"})
    boot_s = max(event["boot_s"] for event in daemon.log_events("worker ready"))
    first, second = daemon.workers()

    begun = time.monotonic()
    os.kill(first, signal.SIGKILL)
    daemon.eventually(lambda: not psutil.pid_exists(first))
    while len(ready(daemon)) < 2:
        assert pid_of(daemon.address()) != first
    took_s = time.monotonic() - begun

    assert took_s < 2 + 2 * boot_s
    assert second in ready(daemon)
    assert daemon.log_events("worker exited", pid=first)[0]["reason"] == "signal"
    assert daemon.metric("asgid_worker_exits_total", reason="signal") == 1
    assert daemon.metric("asgid_worker_starts_total", reason="crash") == 1


def test_term_to_one_worker_replaces_it_without_an_error(start: Start) -> None:
    daemon = start("pid:application")
    settle_s = 0.1
    first, second = daemon.workers()
    daemon.eventually(lambda: min(worker["age"] for worker in daemon.status()["workers"]) > settle_s + 1)
    os.kill(first, signal.SIGTERM)
    exited = eventually(lambda: daemon.log_events("worker exited", pid=first))[0]
    daemon.eventually(lambda: len(ready(daemon)) == 2)

    assert (exited["level"], exited["reason"], exited["code"]) == ("info", "recycle", 0)
    assert second in ready(daemon)
    assert daemon.log_events("waiting before the next start") == []
    assert daemon.metric("asgid_worker_starts_total", reason="recycle") == 1
    assert daemon.metric("asgid_worker_exits_total", reason="crash") == 0


@pytest.mark.parametrize("target", ["pid:application", "slow_boot:application"])
def test_term_to_the_whole_group_is_a_stop(launch: Start, target: str) -> None:
    """No exit counts as a failure, whichever process receives it first, while the workers boot or serve."""
    daemon = launch(target, app={"env": {"SLOW_BOOT_S": "60"}}, workers={"count": 4})
    is_up = partial(is_booting, daemon) if target.startswith("slow") else lambda: len(ready(daemon)) == 4
    eventually(lambda: daemon.log_events("running"))
    eventually(is_up)
    os.killpg(daemon.pid, signal.SIGTERM)

    assert daemon.wait() == 0
    assert {line["reason"] for line in daemon.log_events("worker exited")} == {"shutdown"}
    assert [line for line in daemon.log_events() if line["level"] == "error"] == []


def test_a_kill_of_one_worker_fails_no_request_of_another(start: Start) -> None:
    daemon = start("pid:application")
    with Client(daemon.address()) as client:
        mine = int(client.get().body)
        other = next(pid for pid in daemon.workers() if pid != mine)

        os.kill(other, signal.SIGKILL)
        daemon.eventually(lambda: len(ready(daemon) - {other}) == 2)

        assert int(client.get().body) == mine


def test_a_stuck_worker_is_dumped_and_replaced(start: Start) -> None:
    """At timeouts.blocked its stack is logged, and it stays; at timeouts.heartbeat a new worker replaces it."""
    daemon = start("stuck:application", timeouts={"heartbeat": "5s", "blocked": "2s"})
    with Client(daemon.address()) as client:
        stuck = int(client.get().body)
        client.send(request("GET", "/stuck"))

        blocked = daemon.eventually(lambda: daemon.log_events("event loop blocked", pid=stuck))[0]
        assert stuck in ready(daemon)
        end = daemon.eventually(lambda: daemon.log_events("worker exited", pid=stuck))[0]
        daemon.eventually(lambda: len(ready(daemon) - {stuck}) == 2)

    events = daemon.log_events("worker silent", "event loop blocked", "worker signalled", "worker exited", pid=stuck)
    assert [event["event"] for event in events][-4:] == [
        "worker silent",
        "event loop blocked",
        "worker signalled",
        "worker exited",
    ]
    assert 2 <= events[-4]["silent_s"] < 5
    assert blocked["requests"] == "GET /stuck"
    assert blocked["task"] != "none"
    assert "never_gives_the_loop_back" in blocked["stack"]
    assert "/asgid/" not in blocked["stack"]
    assert "never_gives_the_loop_back" in end["stack"]
    assert "/asgid/master/" not in end["stack"]
    assert end["reason"] == "blocked"
    assert daemon.metric("asgid_worker_exits_total", reason="blocked") == 1
    assert stuck not in answers_from(daemon)


def test_a_healthy_worker_sends_heartbeats_in_time_for_a_short_timeout(start: Start) -> None:
    """With one a second, two workers would be silent six times each. A machine that stops may cause a few lines."""
    daemon = start("pid:application", timeouts={"blocked": "600ms"})
    workers = daemon.workers()

    daemon.eventually(lambda: min((one["age"] for one in daemon.status()["workers"]), default=0) > 6)

    assert daemon.workers() == workers
    assert len(daemon.log_events("worker silent")) < 8


def test_the_others_answer_while_a_worker_is_stuck(start: Start) -> None:
    """No new connection waits for the stuck worker, which does not accept for six seconds; the probes answer, too."""
    daemon = start("stuck:application", timeouts={"heartbeat": "6s"})
    with Client(daemon.address()) as client:
        stuck = int(client.get().body)
        client.send(request("GET", "/stuck"))

        slowest = 0.0
        while not daemon.log_events("worker exited", pid=stuck):
            begun = time.monotonic()
            assert pid_of(daemon.address()) != stuck
            assert daemon.probe("/readyz")[0] == 200
            slowest = max(slowest, time.monotonic() - begun)

    assert slowest < 4


def test_signals_that_are_all_pending_at_once_end_no_process(start: Start) -> None:
    """Master and worker are stopped, and then receive all their signals at once; then TERM still stops the master."""
    daemon = start("pid:application", workers={"count": 1})
    worker = daemon.workers()[0]
    for pid, names in (
        (worker, ("HUP", "INT", "QUIT", "USR1", "USR2", "WINCH", "CHLD", "RTMIN")),
        (daemon.pid, ("HUP", "USR1", "USR2", "TTIN", "TTOU", "WINCH", "CHLD")),
    ):
        os.kill(pid, signal.SIGSTOP)
        eventually(partial(_is_stopped, pid))
        for name in names:
            os.kill(pid, getattr(signal, f"SIG{name}"))
        os.kill(pid, signal.SIGCONT)
        if pid == worker:
            assert [worker] * 3 == [pid_of(daemon.address()) for _ in range(3)]

    assert daemon.stop() == 0
    assert "worker exited" not in {line["event"] for line in daemon.log_events() if line["level"] == "error"}


def _is_stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


# The end


@pytest.mark.parametrize("name", ["KILL", "ALRM", "PWR"])
def test_a_killed_master_leaves_no_worker_behind(start: Start, name: str) -> None:
    """They see the end of their lifeline, or the kernel's timer, set to the grace, ends them. The port is free."""
    daemon = start("hello:application", timeouts={"graceful": "5m"})
    host, port = daemon.address().split(":")
    assert len(daemon.workers()) == 2

    daemon.signal(name)
    assert daemon.wait() == -getattr(signal, f"SIG{name}")

    daemon.eventually(lambda: not daemon.processes())
    socket.create_server((host, int(port))).close()


def test_a_master_that_is_aborted_leaves_its_stack(start: Start) -> None:
    """Python writes it to standard error. The watchdog of systemd sends the same signal to a master that hangs."""
    daemon = start()
    daemon.signal("ABRT")

    assert -signal.SIGABRT == daemon.wait()
    _, heading, stack = daemon.log_text().partition("Fatal Python error: Aborted\n")
    assert heading
    assert "asgid/master/loop.py" in stack
    daemon.eventually(lambda: not daemon.processes())


def test_a_killed_master_leaves_no_stuck_worker_behind(start: Start) -> None:
    """A worker that blocks its loop or imports exits after timeouts.graceful and timeouts.kill at the latest."""
    daemon = start("stuck:application", timeouts={"graceful": "1s", "kill": "1s", "boot": "120s"})
    host, port = daemon.address().split(":")
    daemon.configure(app={"target": "slow_boot:application", "env": {"SLOW_BOOT_S": "120"}})
    with Client(daemon.address()) as client:
        client.send(request("GET", "/stuck"))
        daemon.eventually(lambda: daemon.metric("asgid_http_requests_in_flight") == 1)
        daemon.signal("HUP")
        daemon.eventually(lambda: is_booting(daemon))

        daemon.signal("KILL")
        daemon.wait()
        begun = time.monotonic()
        daemon.eventually(lambda: not daemon.processes())

    assert time.monotonic() - begun < 15
    socket.create_server((host, int(port))).close()


def test_a_kill_of_the_master_fails_no_request_in_flight(start: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    daemon = start("gate:application", app={"env": {"GATE": str(gate)}})
    with Client(daemon.address()) as client:
        client.send(request("GET", "/"))
        assert client.head().status == 200

        daemon.signal("KILL")
        daemon.wait()
        gate.touch()

        assert b"".join(iter(client.chunk, b"")) == b"held most=1"
    daemon.eventually(lambda: not daemon.processes())


def test_term_lets_requests_in_flight_finish(start: Start, tmp_path: Path) -> None:
    """TERM lets a request of two seconds end, although the other worker exits at once; the exit code is 0."""
    gate = tmp_path / "gate"
    daemon = start("gate:application", app={"env": {"GATE": str(gate)}}, timeouts={"graceful": "5m"})
    with Client(daemon.address()) as client:
        client.send(request("GET", "/"))
        assert client.head().status == 200

        daemon.signal("TERM")
        ends = time.monotonic() + 2
        daemon.eventually(lambda: daemon.log_events("stopping"))
        assert daemon.probe("/readyz")[0] == 503
        assert daemon.probe("/livez")[0] == 200
        daemon.eventually(lambda: daemon.log_events("worker exited"))
        daemon.eventually(lambda: time.monotonic() > ends)
        gate.touch()

        assert b"".join(iter(client.chunk, b"")) == b"held most=1"
    assert daemon.wait() == 0
    assert daemon.log_events("stopped")


def test_a_client_that_connects_while_a_stop_drains_is_refused_at_once(start: Start, tmp_path: Path) -> None:
    """No new client waits in the queue for a reset at the end of the grace; a client from before TERM is answered."""
    gate, path = tmp_path / "gate", tmp_path / "socket"
    daemon = start(
        "gate:application",
        app={"env": {"GATE": str(gate)}},
        listen=[{"bind": "127.0.0.1:0"}, {"bind": f"unix:{path}"}],
        workers={"count": 1},
        limits={"connections": 1},
        timeouts={"graceful": "5m"},
    )
    with Client(daemon.address()) as client:
        client.send(request("GET", "/"))
        assert client.head().status == 200
        with Client(daemon.address()) as queued:  # at the cap: the kernel has completed it, no worker has accepted it
            queued.send(request("GET", "/"))

            daemon.signal("TERM")
            daemon.eventually(lambda: len(daemon.log_events("listener closed")) == 2)
            daemon.eventually(lambda: is_refused(daemon.address()))
            assert is_refused(f"unix:{path}")
            assert daemon.is_running
            gate.touch()

            assert b"".join(iter(client.chunk, b"")) == b"held most=2"
            assert queued.answer().body == b"held most=2"
    assert daemon.wait() == 0


@pytest.mark.parametrize("name", ["TERM", "INT", "QUIT"])
def test_an_idle_server_stops_soon(start: Start, name: str) -> None:
    """With nothing to finish, idle keep-alive connections included, a stop takes far less than the grace."""
    daemon = start("hello:application", timeouts={"graceful": "30s", "kill": "5s"})
    with Client(daemon.address()) as client:
        assert client.get().status == 200
        begun = time.monotonic()

        daemon.signal(name)

        assert daemon.wait() == 0
        assert time.monotonic() - begun < 10  # one second of them waits for a request on its way


def test_int_twice_stops_at_once(start: Start, tmp_path: Path) -> None:
    """The first INT logs the requests in flight and the way to end at once; the second does not wait for them."""
    daemon = start("gate:application", timeouts={"graceful": "5m"}, app={"env": {"GATE": str(tmp_path / "never")}})
    with Client(daemon.address()) as client:
        client.send(request("GET", "/"))
        assert client.head().status == 200

        daemon.signal("INT")
        waiting = daemon.eventually(lambda: daemon.log_events("waiting for requests"))[0]
        assert daemon.is_running
        begun = time.monotonic()
        daemon.signal("INT")

        assert daemon.wait() == 0
        assert time.monotonic() - begun < 15
    assert daemon.log_events("stopping")[0]["at_once"] == f"kill -INT {daemon.pid}"
    assert (waiting["count"], waiting["requests"]) == (1, "GET /")
    assert 250 < waiting["left_s"] < 300


@pytest.mark.parametrize("name", ["TERM", "HUP", "USR1"])
def test_no_signal_during_a_stop_changes_its_exit_code(start: Start, name: str) -> None:
    """Not even in the last milliseconds, while Python finalizes."""
    daemon = start(workers={"count": 1})

    daemon.signal("TERM")
    while daemon.is_running:  # without a pause, to cover every moment
        daemon.signal(name)

    assert daemon.wait() == 0


def is_booting(daemon: Daemon) -> bool:
    """Return whether the title of a worker contains "booting": it has forked and loads the application."""
    return any("booting" in " ".join(process.cmdline()) for process in daemon.processes())


@pytest.mark.parametrize("target", ["slow_boot:application", "never_ready:application"])
def test_term_while_workers_boot_is_a_stop(launch: Start, target: str) -> None:
    """TERM takes effect at once, in an import of a minute and in a startup that never ends."""
    daemon = launch(target, app={"env": {"SLOW_BOOT_S": "60"}}, timeouts={"graceful": "30s"})
    eventually(lambda: is_booting(daemon))
    begun = time.monotonic()

    assert daemon.stop() == 0
    assert time.monotonic() - begun < 10


def test_term_while_a_reload_imports_is_a_stop(start: Start) -> None:
    """A canary in an import of a minute delays it no longer than the workers that serve."""
    daemon = start("slow_boot:application", app={"env": {"SLOW_BOOT_S": "0"}}, timeouts={"graceful": "30s"})
    daemon.configure(app={"env": {"SLOW_BOOT_S": "60"}})
    daemon.signal("HUP")
    eventually(lambda: is_booting(daemon))
    begun = time.monotonic()

    assert daemon.stop() == 0
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("name", ["TERM", "TERM to the group", "TERM to the worker", "HUP"])
def test_an_idle_connection_is_not_dropped_by_a_drain(start: Start, name: str) -> None:
    """A request that is on its way at the stop or reload is answered, with `Connection: close`."""
    daemon = start("pid:application", workers={"count": 1})
    clients = [Client(daemon.address()) for _ in range(6)]
    (mine,) = {client.get().body for client in clients}

    if name == "TERM to the group":  # dumb-init, and KillMode=control-group, which is the default of systemd
        os.killpg(daemon.pid, signal.SIGTERM)
    elif name == "TERM to the worker":
        os.kill(int(mine), signal.SIGTERM)
    else:
        daemon.signal(name)
    eventually(lambda: clients[0].get().closes)  # it was idle, too, when the signal came
    for client in clients[1:]:
        client.send(request("GET", "/"))
    answers = [client.answer() for client in clients[1:]]
    ends = [client.rest() for client in clients]
    for client in clients:
        client.close()

    assert {(200, mine, True)} == {(answer.status, answer.body, answer.closes) for answer in answers}
    assert {b""} == set(ends)


# Plugins of pydantic, which the master must not load


PLUGIN = """
import os, pathlib
with pathlib.Path(__file__).with_name("loaded").open("a") as file:
    print(os.getpid(), file=file)
class Plugin:
    def new_schema_validator(self, *_, **__):
        return None, None, None
plugin = Plugin()
"""
WITH_A_MODEL = """
import pydantic
class Model(pydantic.BaseModel):
    number: int
async def application(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(Model(number="5").number).encode()})
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an application and a plugin of pydantic that writes the pid of each importer to `loaded`."""
    (tmp_path / "extends-1.0.dist-info").mkdir()
    (tmp_path / "extends-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: extends\nVersion: 1.0\n")
    (tmp_path / "extends-1.0.dist-info/entry_points.txt").write_text("[pydantic]\nextends = extends:plugin\n")
    (tmp_path / "extends.py").write_text(PLUGIN)
    (tmp_path / "with_a_model.py").write_text(WITH_A_MODEL)
    (tmp_path / "loaded").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_plugins_of_pydantic_load_in_the_workers_only(site: Path, start: Start) -> None:
    """asgid uses pydantic too, but a plugin could start threads and take memory, which the master must not have."""
    daemon = start("with_a_model:application")
    workers = daemon.workers()
    assert daemon.reload()["event"] == "reload committed"

    assert get(daemon.address()).body == b"5"
    workers += daemon.workers()
    assert {int(pid) for pid in (site / "loaded").read_text().split()} == set(workers)

    daemon.signal("USR2")
    daemon.eventually(lambda: len(daemon.log_events("reload committed")) == 2)
    assert daemon.pid not in {int(pid) for pid in (site / "loaded").read_text().split()}


def test_a_variable_that_disables_plugins_of_pydantic_reaches_the_workers(
    site: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The master disables plugins for itself only."""
    monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", "extends")
    daemon = start("with_a_model:application")

    assert get(daemon.address()).body == b"5"
    assert (site / "loaded").read_text() == ""
