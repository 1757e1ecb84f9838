"""The real master over fake workers: real loop, forks and signals. The tests read its log, its endpoint and /proc."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from json import loads
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from asgid.master.system.signals import SIGNALS
from tests.daemon import DEFAULTS, ENVIRONMENT, WITHIN_S, Daemon, as_systemd, eventually, merged

FAKES = Path(__file__).with_name("fakes.py")

#: For workers that exit by themselves: enough time on any machine.
TIMEOUTS = {"boot": "60s", "graceful": "10s", "kill": "10s"}
#: For workers that have to be killed. Between ABRT and KILL is a second, in which faulthandler writes its stacks.
STUBBORN = {"graceful": "300ms", "kill": "2s"}
#: The fakes beat every 50 ms: after so long without a heartbeat the worker is blocked, and not just a slow machine.
IMPATIENT = STUBBORN | {"heartbeat": "3s", "blocked": "1500ms"}

#: The signals that a worker ignores, also while it boots.
IGNORED = ("HUP", "INT", "QUIT", "TTIN", "TTOU", "USR1", "USR2", "WINCH")

Build = Callable[..., "Master"]


class Master(Daemon):
    """A real master over workers of one kind of `fakes`, in a directory of its own."""

    def __init__(self, directory: Path, worker: str, settings: Mapping[str, Any]) -> None:
        super().__init__(directory, merged({"timeouts": TIMEOUTS}, settings))
        self.worker = worker

    def launch(self) -> Self:
        """Start it, and wait until it has blocked the signals."""
        self.write_settings()
        with (self.directory / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, str(FAKES), self.worker, "asgid.toml"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=self.directory,
                env=os.environ | ENVIRONMENT | self.environment,
                pass_fds=self.descriptors,
                start_new_session=True,
            )
        Daemon.running.append(self)
        assert self.process.stdout
        with self.process.stdout as stdout:
            assert stdout.readline() == b"blocked\n", self.log_text()
        return self

    def pids(self) -> list[int]:
        """Return the pids of the workers that are ready, by slot."""
        return [worker["pid"] for worker in self.status()["workers"] if worker["state"] == "ready"]

    def logged(self, event: str, number: int = 1, within: float = WITHIN_S, **fields: Any) -> dict[str, Any]:
        """Wait until `event` was logged `number` times, and return the last of them."""
        return eventually(lambda: self.log_events(event, **fields)[number - 1 :], within)[0]

    def turn(self) -> None:
        """Wait for a whole turn of the loop: it answers once before it checks the deadlines, and once after."""
        self.status()
        self.status()


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    """Return a function that makes a master: `build("hangs", workers={"count": 3})`. The end of the test ends it."""
    with ExitStack() as stack:

        def make(worker: str, **tables: Any) -> Master:
            home = tmp_path / worker
            home.mkdir()
            return stack.enter_context(Master(home, worker, tables))

        yield make


def signals_in(mask: str, pid: int) -> set[str]:
    """Return the names of the signals in a mask of the process (proc_pid_status(5)): SigIgn, SigCgt."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    bits = next(int(line.split()[1], 16) for line in lines if line.startswith(f"{mask}:"))
    return {signum.name.removeprefix("SIG") for signum in signal.Signals if bits >> (signum - 1) & 1}


def title(pid: int) -> str:
    return " ".join(psutil.Process(pid).cmdline()).strip()


def seconds(function: Callable[[], object]) -> float:
    started = time.monotonic()
    function()
    return time.monotonic() - started


# The start


def test_the_first_worker_boots_alone(build: Build):
    master = build("sends_ready_twice", process={"name": "shop"}).start()
    master.turn()
    story = [(line["event"], line["slot"]) for line in master.log_events("worker started", "worker ready")]

    assert story == [("worker started", 0), ("worker ready", 0), ("worker started", 1), ("worker ready", 1)]
    assert {"asgi3"} == {line["interface"] for line in master.log_events("worker ready")}
    assert title(master.pid) == "asgid: master [shop] gen 1"
    assert master.stop() == 0


@pytest.mark.parametrize(
    ("worker", "boot", "problem"),
    [
        ("crashes_at_boot", "60s", "worker 0 exited with code 1 while it booted"),
        ("raises_at_boot", "60s", "worker 0 exited with code 70 while it booted"),
        ("reports_a_failed_boot", "60s", "no module named shop"),
        ("never_ready", "300ms", "worker 0 was not ready within timeouts.boot"),
    ],
)
def test_a_start_without_a_ready_worker_exits_with_3(build: Build, worker, boot, problem):
    master = build(worker, timeouts={"boot": boot}).launch()

    assert master.wait() == 3
    assert [line["problem"] for line in master.log_events("cannot start: no worker became ready")] == [problem]
    assert len(master.log_events("worker started")) == 1
    assert ("RuntimeError: worker 0 refuses its slot" in master.log_text()) == (worker == "raises_at_boot")


def test_a_taken_port_ends_the_start_before_any_worker(build: Build):
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        master = build("healthy", listen=[{"bind": bind}]).launch()

        assert master.wait() == 69

    assert f"cannot listen on {bind}: " in master.log_text()
    assert not master.log_events("worker started")


def test_a_socket_of_systemd_is_found_by_name_and_survives_a_reload(build: Build):
    """A client that connects before the start waits in its queue, and still does after the reload."""
    with socket.create_server(("127.0.0.1", 0)) as given, socket.create_connection(given.getsockname(), 5):
        master = build("healthy", listen=[{"bind": "systemd:http"}])
        master.prefix, master.descriptors = as_systemd(("http", given.fileno())), (given.fileno(),)
        master.start()

        assert master.address() == "127.0.0.1:{}".format(*given.getsockname()[1:])
        assert master.reload()["event"] == "reload committed"
        assert master.metric("asgid_listener_backlog_connections", listener="systemd:http") == 1


def test_a_second_master_with_the_same_pid_file_is_refused(build: Build, tmp_path: Path):
    """With 69. The first one goes on, and removes the file at its stop."""
    file = tmp_path / "asgid.pid"
    first = build("healthy", process={"pid_file": str(file)}).start()
    second = build("crashes_at_boot", process={"pid_file": str(file)}).launch()

    assert second.wait() == 69
    assert f"belongs to a running master (pid {first.pid})" in second.log_text()
    assert file.read_text() == f"{first.pid}\n"
    assert first.stop() == 0
    assert not file.exists()


@pytest.mark.parametrize("name", ["TERM", "INT", "QUIT"])
def test_a_stop_signal_in_the_first_milliseconds_stops_the_master(build: Build, name):
    """It stays pending until the master handles it, and never kills by its default action."""
    master = build("healthy").launch()
    master.signal(name)

    assert master.wait() == 0
    assert [line["signal"] for line in master.log_events("stopping")] == [f"SIG{name}"]


def test_other_signals_in_the_first_milliseconds_have_their_usual_effect(build: Build):
    master = build("healthy").launch()
    for name in ("HUP", "USR1", "USR2", "TTIN", "TTOU"):
        master.signal(name)

    eventually(lambda: master.log_events("metrics"))
    master.logged("worker ready", generation=2)
    eventually(lambda: len(master.pids()) == 2)
    assert master.log_events("log files reopened")
    assert master.stop() == 0


def test_a_pause_in_the_first_milliseconds_does_not_kill(build: Build):
    master = build("healthy").launch()
    master.signal("WINCH")
    master.logged("worker started")
    master.signal("HUP")
    eventually(lambda: len([line for line in master.status()["workers"] if line["generation"] == 2]) == 2)

    assert master.stop() == 0


# Stop


@pytest.mark.parametrize("name", ["TERM", "INT", "QUIT"])
def test_a_stop_drains_every_worker_and_then_ends_the_master(build: Build, name):
    master = build("healthy").start()
    master.signal(name)

    assert master.wait() == 0
    assert [(line["reason"], line["code"]) for line in master.log_events("worker exited")] == [("shutdown", 0)] * 2


def test_a_stop_takes_effect_at_once_during_a_delay(build: Build):
    master = build("crashes_after_ready", workers={"count": 1}).launch()
    master.logged("waiting before the next start", 4)

    assert master.stop() == 0
    assert master.log_events("stopping", "worker started")[-1]["event"] == "stopping"


def test_a_worker_that_never_drains_is_killed_in_time(build: Build):
    """ABRT after `graceful` and half of `kill`, KILL after the other half; the exit code is still 0."""
    master = build("never_drains", workers={"count": 1}, timeouts=STUBBORN).start()
    took = seconds(master.stop)
    signals = [line["signal"] for line in master.log_events("worker signalled")]

    assert master.wait() == 0
    assert signals == ["SIGABRT", "SIGKILL"]
    assert 2.3 <= took < 10
    assert master.logged("worker exited")["signal"] == "SIGKILL"


# Failures


@pytest.mark.parametrize(("worker", "code"), [("crashes_after_ready", 1), ("exits_with_zero", 0)])
def test_a_worker_that_keeps_exiting_is_started_with_growing_delays(build: Build, worker, code):
    """The delays double; an unexpected exit code of 0 is a crash, too."""
    master = build(worker, workers={"count": 1}).launch()
    master.logged("waiting before the next start", 4)
    delays = [line["delay_s"] for line in master.log_events("waiting before the next start")][:4]
    exits = {(line["reason"], line["code"]) for line in master.log_events("worker exited")}
    ready = master.log_events("worker ready")

    assert delays == [0.1, 0.2, 0.4, 0.8]
    assert exits == {("crash", code)}
    assert len(ready) == 4


def test_a_worker_that_hangs_leaves_its_stack_and_is_replaced(build: Build):
    """It is asked for its stack first. Then ABRT makes faulthandler write it, and `worker exited` has it."""
    master = build("hangs", workers={"count": 1}, timeouts=IMPATIENT).launch()
    hung = master.logged("worker ready")["pid"]
    exited = master.logged("worker exited", pid=hung)

    assert 1.5 <= master.logged("worker silent", pid=hung)["silent_s"] < 3
    assert master.logged("worker signalled", pid=hung)["signal"] == "SIGABRT"
    assert (exited["reason"], exited["signal"], exited["level"]) == ("blocked", "SIGABRT", "error")
    assert "_sleeps_in_here" in exited["stack"]
    assert master.logged("worker started", reason="crash")["pid"] != hung


def test_a_stopped_worker_is_replaced(build: Build):
    """SIGSTOP delays ABRT, but not KILL. Its sibling is not touched."""
    master = build("healthy", timeouts=IMPATIENT).start()
    stopped, other = master.pids()
    os.kill(stopped, signal.SIGSTOP)
    exited = master.logged("worker exited", pid=stopped)
    eventually(lambda: len(master.pids()) == 2)

    assert (exited["reason"], exited["signal"]) == ("blocked", "SIGKILL")
    assert other in master.pids()
    assert not master.log_events("worker signalled", pid=other)


def test_a_killed_worker_is_replaced_and_its_sibling_stays(build: Build):
    master = build("healthy").start()
    first, second = master.pids()
    os.kill(first, signal.SIGKILL)
    master.logged("worker exited", pid=first, reason="signal", signal="SIGKILL")
    eventually(lambda: len(master.pids()) == 2)

    assert second in master.pids()
    assert master.metric("asgid_worker_exits_total", reason="signal") == 1
    assert master.metric("asgid_worker_starts_total", reason="crash") == 1


@pytest.mark.parametrize(
    "garbage",
    [
        r"GET / HTTP/1.1\r\n\r\n",
        r"\x00\xff\n",
        r"\n",
        r"[1]\n",
        r"null\n",
        r'{"is": "ready"}\n',
        r'{"is": []}\n',
        r'{"is": "drain", "grace_s": 1.0, "linger_s": 1.0}\n',
        r'{"is": "failed", "reason": {"a": [1]}}\n',
        "[" * 60000 + r"\n",
        "x" * 100000,
        r'{"is": "ready", "interface": "asgi3"}\n' * 100,
    ],
    ids=range(12),
)
def test_a_worker_that_writes_garbage_to_its_lifeline_is_replaced(build: Build, garbage):
    """It is logged once, and the master reads nothing more from that lifeline. Master and sibling go on."""
    master = build("writes_garbage")
    master.environment["GARBAGE"] = garbage
    master.start()
    before = master.pids()
    master.signal("USR1")
    logged = master.logged("invalid message from worker")
    master.signal("USR1")

    assert (logged["slot"], logged["level"]) == (1, "error")
    left = master.logged("worker exited")

    assert (left["pid"], left["reason"]) == (before[1], "crash")
    assert before[0] in master.pids()
    assert master.stop() == 0
    assert len(master.log_events("invalid message from worker")) == 1


def test_a_worker_whose_streams_cannot_be_flushed_exits(build: Build):
    """A flush that fails must not let the child go on in the master's loop, as a second master."""
    master = build("leaves_text_that_cannot_be_written").launch()

    assert master.wait() == 3
    assert [line["code"] for line in master.log_events("worker exited")] == [7]
    assert not master.log_events("worker not started")
    assert len(master.log_events("stopped")) == 1


# Reload


def test_a_reload_replaces_every_worker(build: Build):
    master = build("healthy").start()
    before = master.pids()

    assert master.reload()["event"] == "reload committed"

    eventually(lambda: len(master.log_events("worker exited")) == 2)
    assert set(before).isdisjoint(master.pids())
    assert [line["reason"] for line in master.log_events("worker exited")] == ["reload", "reload"]
    assert title(master.pid).endswith("gen 2")


@pytest.mark.parametrize(
    ("worker", "boot", "reason"),
    [
        ("canary_fails", "60s", "no module named shop"),
        ("canary_never_ready", "300ms", "worker 2 was not ready within timeouts.boot"),
    ],
)
def test_a_reload_whose_first_worker_fails_changes_nothing(build: Build, worker, boot, reason):
    master = build(worker).start()
    before = master.pids()
    master.configure(timeouts={"boot": boot})
    result = master.reload()

    assert (result["event"], result["reason"]) == ("reload rolled back", reason)
    assert master.pids() == before
    assert len(master.log_events("worker started", generation=2)) == 1
    assert master.status()["generation"] == 1


def test_an_unexpected_error_in_a_reload_ends_no_process(build: Build):
    """This `load` raises FileNotFoundError: it is logged with its stack, and the next reload works."""
    master = build("healthy").start()
    before = master.pids()
    master.file.unlink()
    result = master.reload()

    assert result["event"] == "reload refused"
    assert "a fault of asgid itself: FileNotFoundError" in result["reason"]
    assert "read_text" in master.logged("reload failed")["stack"]
    assert master.pids() == before
    assert master.metric("asgid_reloads_total", result="invalid_config") == 1

    master.write_settings()

    assert master.reload()["event"] == "reload committed"


def test_a_reload_asks_no_name_server(build: Build):
    master = build("healthy").start()
    master.configure(listen=[{"bind": "127.0.0.1:0"}, {"bind": "localhost:0"}, {"bind": "shop.invalid:0"}])
    result = master.reload()

    assert result["event"] == "reload rolled back"
    assert "cannot listen on shop.invalid:0: a reload asks no name server" in result["reason"]

    master.configure(listen=[{"bind": "127.0.0.1:0"}, {"bind": "localhost:0"}])

    assert master.reload()["event"] == "reload committed"


def test_a_reload_opens_new_listeners_and_closes_unused_ones(build: Build, tmp_path: Path):
    """A kept listener keeps its queue; a socket file is removed with its listener."""
    file = tmp_path / "shop.sock"
    master = build("healthy").start()
    host, port = master.address().split(":")
    with socket.create_connection((host, int(port)), 5):
        master.configure(listen=[*DEFAULTS["listen"], {"bind": f"unix:{file}"}])

        assert master.reload()["event"] == "reload committed"
        assert file.is_socket()

        master.configure(**DEFAULTS)

        assert master.reload()["event"] == "reload committed"

        master.logged("listener closed", listener=f"unix:{file}")

        assert not file.exists()
        assert master.metric("asgid_listener_backlog_connections") == 1


def test_a_pause_keeps_the_sockets_and_a_reload_starts_workers_again(build: Build):
    """Clients that connect in between wait in the queue."""
    master = build("healthy").start()
    master.signal("WINCH")
    eventually(lambda: master.status()["workers"] == [])
    host, port = master.address().split(":")
    with socket.create_connection((host, int(port)), 5):
        assert master.metric("asgid_listener_backlog_connections") == 1

    master.signal("HUP")
    eventually(lambda: len(master.pids()) == 2)

    assert master.stop() == 0


def test_ttin_starts_a_worker_and_ttou_drains_one(build: Build):
    master = build("healthy").start()
    master.signal("TTIN")
    eventually(lambda: len(master.pids()) == 3)
    master.signal("TTOU")
    exited = master.logged("worker exited")

    assert (exited["reason"], exited["code"]) == ("scale", 0)
    assert len(master.pids()) == 2


# Upgrade. The new program is a line of Python here; tests/e2e has real ones.


def test_a_new_program_that_cannot_be_executed_after_its_trial_is_refused(build: Build, tmp_path: Path):
    """The master still handles signals, and a later worker inherits no descriptor of the handover."""
    master = build("lists_its_descriptors")
    master.environment = {"NEXT_PROGRAM": "/no/such/python", "HELD": str(tmp_path / "held")}
    master.start()
    old = master.pids()
    master.signal("USR2")
    refused = master.logged("upgrade refused")
    master.signal("TTIN")
    eventually(lambda: len(master.pids()) == 3)
    held = loads((tmp_path / "held.2").read_text())

    assert refused["reason"] == "/no/such/python cannot be run: No such file or directory"
    assert set(old) < set(master.pids())
    assert not [name for name in held["held"].values() if "memfd:asgid-handover" in name or "memfd:asgid-board" in name]
    assert master.stop() == 0


def test_the_new_program_adopts_the_workers(build: Build):
    """Also those that do not drain: it reads their heartbeats, and ends them by their deadlines."""
    master = build("never_drains", workers={"count": 1}, timeouts=STUBBORN).start()
    (old,) = master.pids()
    master.signal("USR2")
    master.logged("program replaced")
    exited = master.logged("worker exited", pid=old)

    assert (exited["reason"], exited["signal"]) == ("reload", "SIGKILL")
    assert master.logged("reload committed")["generation"] == 2
    assert master.log_events("master was stalled") == []
    assert old not in master.pids()


def test_a_trial_that_ignores_term_is_killed_at_a_stop(build: Build):
    """The stop waits for it no longer than for a worker, and leaves nothing behind."""
    master = build("healthy", workers={"count": 1}, timeouts=STUBBORN)
    master.environment = {
        "TRIAL": "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ignored', flush=True);"
        "time.sleep(600)"
    }
    master.start()
    master.signal("USR2")
    trial = master.logged("upgrade started")["trial_pid"]
    eventually(lambda: "TERM" in signals_in("SigIgn", trial))
    master.signal("TERM")

    assert master.wait() == 0
    assert not psutil.pid_exists(trial)
    assert [line["signal"] for line in master.log_events("trial of new program signalled")] == ["SIGTERM", "SIGKILL"]


def test_a_trial_that_closes_its_streams_does_not_keep_the_master_busy(build: Build, tmp_path: Path):
    """A pipe at its end stays readable; the loop must not spin until the process exits."""
    gate = tmp_path / "gate"
    master = build("healthy", workers={"count": 1})
    master.environment = {
        "TRIAL": "import os, sys, time\nos.close(1); os.close(2)\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\nos._exit(1)"
    }
    master.start()
    master.signal("USR2")
    trial = master.logged("upgrade started")["trial_pid"]
    eventually(lambda: not os.path.exists(f"/proc/{trial}/fd/2"))
    master.turn()
    process = psutil.Process(master.pid)
    before = sum(process.cpu_times()[:2])
    time.sleep(1)  # the measured time
    used = sum(process.cpu_times()[:2]) - before
    gate.touch()
    refused = master.logged("upgrade refused")

    assert used < 0.5
    assert refused["reason"] == "its trial exited with code 1"


def test_the_output_of_a_failed_trial_is_logged(build: Build):
    """A summary in the reason, and all of it if it has several lines."""
    master = build("healthy", workers={"count": 1})
    master.environment = {"TRIAL": "import sys; print('one'); print('two'); sys.exit('three')"}
    master.start()
    master.signal("USR2")
    refused = master.logged("upgrade refused")

    assert refused["reason"] == "its trial exited with code 1: three"
    assert refused["printed"] == "one\ntwo\nthree"


def test_a_trial_without_a_receipt_is_refused(build: Build):
    """Exit code 0 is not enough: any other program may be on disk in the place of asgid."""
    master = build("healthy", workers={"count": 1})
    master.environment = {"TRIAL": "import os; os.write(3, b'ok'); print('done')"}
    master.start()
    old = master.pids()
    master.signal("USR2")
    refused = master.logged("upgrade refused")
    master.turn()

    assert "wrote no receipt for the handover" in refused["reason"]
    assert master.pids() == old
    assert master.log_events("replacing the program") == []


def test_a_master_that_was_stopped_aborts_no_healthy_worker(build: Build):
    """For longer than the heartbeat timeout: when it resumes, the heartbeats on the board are current."""
    master = build("healthy", timeouts=IMPATIENT).start()
    before = master.pids()
    master.signal("STOP")
    until = time.monotonic() + 3.5
    eventually(lambda: time.monotonic() > until)
    master.signal("CONT")
    master.turn()

    assert master.pids() == before
    assert not master.log_events("worker signalled", "worker silent", "worker exited")


def test_a_machine_that_was_suspended_costs_no_healthy_worker(build: Build):
    """All processes stop for longer than the heartbeat timeout, and the master resumes first."""
    master = build("healthy", timeouts=IMPATIENT).start()
    before = master.pids()
    stopped = master.processes()
    for process in stopped:
        process.suspend()
    until = time.monotonic() + 5
    eventually(lambda: time.monotonic() > until)
    master.signal("CONT")
    master.turn()
    for process in stopped:
        process.resume()
    master.turn()

    assert master.pids() == before
    assert master.logged("master was stalled")["late_s"] > 1
    assert not master.log_events("worker signalled", "worker exited")


def test_a_ready_that_waited_while_the_master_was_stopped_counts(build: Build, tmp_path: Path):
    """The boot timeout has passed, but messages are read before deadlines are checked."""
    master = build("boots_at_a_gate", workers={"count": 1}, timeouts={"boot": "3s"})
    master.environment["GATE"] = str(tmp_path / "gate")
    master.launch()
    master.logged("worker started")
    master.signal("STOP")
    (tmp_path / "gate").touch()
    until = time.monotonic() + 3.5
    eventually(lambda: time.monotonic() > until)
    master.signal("CONT")

    assert master.logged("worker ready")["boot_s"] > 3.5
    assert not master.log_events("worker signalled")
    assert master.stop() == 0


def test_every_worker_exits_after_the_master_is_killed(build: Build):
    """Each reads the end of its lifeline, which no sibling holds open."""
    master = build("healthy", workers={"count": 4}).start()

    assert len(master.processes()) == 5

    master.signal("KILL")

    assert master.wait() == -signal.SIGKILL
    eventually(lambda: not master.processes())


def test_a_booting_worker_ignores_the_signals_for_the_master(build: Build, tmp_path: Path):
    """Ctrl-C in a terminal and `kill` of the whole group reach it, too. Only TERM ends it."""
    master = build("boots_at_a_gate", workers={"count": 1})
    master.environment["GATE"] = str(tmp_path / "gate")
    master.launch()
    pid = master.logged("worker started")["pid"]
    eventually(lambda: set(IGNORED) <= signals_in("SigCgt", pid))
    for name in IGNORED:
        os.kill(pid, getattr(signal, f"SIG{name}"))
    (tmp_path / "gate").touch()

    assert master.logged("worker ready")["pid"] == pid
    assert "TERM" not in signals_in("SigCgt", pid)
    assert {signum.name.removeprefix("SIG") for signum in SIGNALS} == {*IGNORED, "TERM", "CHLD"}


def test_a_worker_has_no_descriptor_of_the_master(build: Build, tmp_path: Path):
    """It has its streams, lifeline, listeners and stack dump: no epoll, no pid file, no sibling's lifeline."""
    settings = {"process": {"pid_file": str(tmp_path / "asgid.pid")}, "workers": {"count": 3}}
    master = build("lists_its_descriptors", **settings)
    master.environment["HELD"] = str(tmp_path / "held")
    master.start()
    master.reload()

    assert {line["slot"] for line in master.log_events("worker started")} > {0, 1, 2}
    for file in tmp_path.glob("held.*"):
        found = loads(file.read_text())
        memory = [fd for fd, target in found["held"].items() if "asgid-last-words" in target]
        expected = {"0", "1", "2", *map(str, found["kept"]), *memory}

        assert len(memory) == 1
        assert expected == set(found["held"]), found["held"]


@pytest.mark.parametrize("name", ["TERM", "HUP"])
def test_workers_that_exit_in_the_turn_of_a_signal_are_reaped(build: Build, name):
    """None of them stays a zombie, whatever else happened at the same time."""
    master = build("healthy", workers={"count": 3}).start()
    process = psutil.Process(master.pid)
    master.signal("STOP")
    for pid in master.log_events("worker ready")[:2]:
        os.kill(pid["pid"], signal.SIGKILL)
    master.signal(name)
    master.signal("CONT")
    if name == "TERM":
        assert master.wait() == 0
        return
    eventually(lambda: master.log_events("reload committed"))
    eventually(lambda: len(master.pids()) == 3)
    eventually(lambda: len(process.children()) == 3)  # zombies are children, too


def test_orphans_are_reaped_when_the_master_is_pid_1(build: Build):
    """In a container without an init the master adopts every orphan."""
    prefix = ("unshare", "--pid", "--fork", "--kill-child")
    probe = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"no PID namespace may be made here: {probe.stderr.strip()}")
    master = build("leaves_an_orphan")
    master.prefix = prefix
    master.start()
    (process,) = psutil.Process(master.pid).children()
    orphan = eventually(lambda: [child for child in process.children() if child.cmdline()[:1] == ["orphan"]])[0]

    assert master.log_events("running")[0]["pid"] == 1

    orphan.kill()
    eventually(lambda: not psutil.pid_exists(orphan.pid))

    assert len(master.log_events("worker started")) == 2, "an orphan is not a worker"

    process.terminate()

    assert master.wait() == 0
