"""The real master over fake workers: real loop, real forks, real signals; judged by its log, its endpoint and /proc."""

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

from asgid.master.workers.spawn import SIGNALS
from tests.daemon import DEFAULTS, ENVIRONMENT, WITHIN_S, Daemon, as_systemd, eventually, merged

FAKES = Path(__file__).with_name("fakes.py")

#: Whoever leaves by itself has the time for it, however slow the machine is.
TIMEOUTS = {"boot": "60s", "graceful": "10s", "kill": "10s"}
#: For those that have to be ended by force. From ABRT to KILL is a second, in which faulthandler writes its stacks.
STUBBORN = {"graceful": "300ms", "kill": "2s"}
#: The fakes beat every 50 ms: one that does not for so long stands still, and not the machine.
IMPATIENT = STUBBORN | {"heartbeat": "3s", "blocked": "1500ms"}

#: What a worker must not mind, also while it boots.
IGNORED = ("HUP", "INT", "QUIT", "TTIN", "TTOU", "USR1", "USR2", "WINCH")

Build = Callable[..., "House"]


class House(Daemon):
    """A real master over workers of one kind of `fakes`, in a directory of its own."""

    def __init__(self, directory: Path, worker: str, settings: Mapping[str, Any]) -> None:
        super().__init__(directory, merged({"timeouts": TIMEOUTS}, settings))
        self.worker = worker

    def launch(self) -> Self:
        """Start it, and wait until signals are blocked."""
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
        """Wait until `event` was logged so often, and return the last."""
        return eventually(lambda: self.log_events(event, **fields)[number - 1 :], within)[0]

    def turn(self) -> None:
        """Wait until the master's loop has judged the time again: an answer goes out before it, the next after it."""
        self.status()
        self.status()


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    """Make houses, not started yet: `build("hangs", workers={"count": 3})`; they end with the test."""
    with ExitStack() as stack:

        def make(worker: str, **tables: Any) -> House:
            home = tmp_path / worker
            home.mkdir()
            return stack.enter_context(House(home, worker, tables))

        yield make


def signals_in(mask: str, pid: int) -> set[str]:
    """Return the names of the signals in a mask of the process (proc_pid_status(5)): SigIgn, SigCgt."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    bits = next(int(line.split()[1], 16) for line in lines if line.startswith(f"{mask}:"))
    return {signum.name.removeprefix("SIG") for signum in signal.Signals if bits >> (signum - 1) & 1}


def title(pid: int) -> str:
    return " ".join(psutil.Process(pid).cmdline()).strip()


def seconds(function: Callable[[], object]) -> float:
    begun = time.monotonic()
    function()
    return time.monotonic() - begun


# The start


def test_the_first_worker_is_tried_alone(build: Build):
    """The second is started when the first is ready, and each says so once, however often it says it."""
    house = build("says_ready_twice", process={"name": "shop"}).start()
    house.turn()
    story = [(line["event"], line["slot"]) for line in house.log_events("worker started", "worker ready")]

    assert story == [("worker started", 0), ("worker ready", 0), ("worker started", 1), ("worker ready", 1)]
    assert {"asgi3"} == {line["interface"] for line in house.log_events("worker ready")}
    assert title(house.pid) == "asgid: master [shop] gen 1"
    assert house.stop() == 0


@pytest.mark.parametrize(
    ("worker", "boot", "problem"),
    [
        ("crashes_at_boot", "60s", "worker 0 exited with code 1 while it booted"),
        ("raises_at_boot", "60s", "worker 0 exited with code 70 while it booted"),
        ("says_why_it_cannot_boot", "60s", "no module named shop"),
        ("never_ready", "300ms", "worker 0 was not ready within timeouts.boot"),
    ],
)
def test_where_no_worker_becomes_ready_the_exit_code_says_so(build: Build, worker, boot, problem):
    """3, after one try, with the reason in one line."""
    house = build(worker, timeouts={"boot": boot}).launch()

    assert house.wait() == 3
    assert [line["problem"] for line in house.log_events("cannot start: no worker became ready")] == [problem]
    assert len(house.log_events("worker started")) == 1


def test_a_worker_that_raises_shows_where(build: Build):
    """The traceback of what escaped from it stands among the lines of the log."""
    house = build("raises_at_boot").launch()
    house.wait()

    assert "RuntimeError: worker 0 does not like its place" in house.log_text()


def test_a_taken_port_is_the_end_before_any_worker(build: Build):
    """69, and the address in the message."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        house = build("well", listen=[{"bind": bind}]).launch()

        assert house.wait() == 69

    assert f"cannot listen on {bind}: " in house.log_text()
    assert not house.log_events("worker started")


def test_a_socket_of_systemds_is_served_and_survives_a_reload(build: Build):
    """Found by its name; who connected before the start waits in its queue, and is still there after the reload."""
    with socket.create_server(("127.0.0.1", 0)) as given, socket.create_connection(given.getsockname(), 5):
        house = build("well", listen=[{"bind": "systemd:http"}])
        house.prefix, house.descriptors = as_systemd(("http", given.fileno())), (given.fileno(),)
        house.start()

        assert house.address() == "127.0.0.1:{}".format(*given.getsockname()[1:])
        assert house.reload()["event"] == "reload committed"
        assert house.metric("asgid_listener_backlog_connections", listener="systemd:http") == 1


def test_a_second_master_with_the_same_pid_file_is_refused(build: Build, tmp_path: Path):
    """69, and the first one goes on; its file is gone after its stop."""
    file = tmp_path / "asgid.pid"
    first = build("well", process={"pid_file": str(file)}).start()
    second = build("crashes_at_boot", process={"pid_file": str(file)}).launch()

    assert second.wait() == 69
    assert f"belongs to a running master (pid {first.pid})" in second.log_text()
    assert file.read_text() == f"{first.pid}\n"
    assert first.stop() == 0
    assert not file.exists()


@pytest.mark.parametrize("name", ["TERM", "INT", "QUIT"])
def test_a_stop_in_the_first_milliseconds_is_obeyed(build: Build, name):
    """It waits until the master can act on it; it never kills by default action."""
    house = build("well").launch()
    house.signal(name)

    assert house.wait() == 0
    assert [line["signal"] for line in house.log_events("stopping")] == [f"SIG{name}"]


def test_no_other_signal_in_the_first_milliseconds_kills(build: Build):
    """Each does what it does at any other time: after a reload, one more and one fewer, two workers serve."""
    house = build("well").launch()
    for name in ("HUP", "USR1", "USR2", "TTIN", "TTOU"):
        house.signal(name)

    eventually(lambda: house.log_events("metrics"))
    house.logged("worker ready", generation=2)
    eventually(lambda: len(house.pids()) == 2)
    assert house.log_events("log files reopened")
    assert house.stop() == 0


def test_a_pause_in_the_first_milliseconds_does_not_kill(build: Build):
    """Nor does it keep a reload from bringing every worker."""
    house = build("well").launch()
    house.signal("WINCH")
    house.logged("worker started")
    house.signal("HUP")
    eventually(lambda: len([line for line in house.status()["workers"] if line["generation"] == 2]) == 2)

    assert house.stop() == 0


# Stop


@pytest.mark.parametrize("name", ["TERM", "INT", "QUIT"])
def test_a_stop_ends_every_worker_and_then_the_master(build: Build, name):
    """0, and each worker leaves by itself."""
    house = build("well").start()
    house.signal(name)

    assert house.wait() == 0
    assert [(line["reason"], line["code"]) for line in house.log_events("worker exited")] == [("shutdown", 0)] * 2


def test_a_stop_is_obeyed_at_once_while_a_worker_boots(build: Build):
    """However long its boot may take."""
    house = build("never_ready", timeouts={"graceful": "20s"}).launch()
    house.logged("worker started")

    assert seconds(house.stop) < 10
    assert house.wait() == 0


def test_a_stop_is_obeyed_at_once_while_a_reload_is_under_way(build: Build):
    """The canary is let go with the others."""
    house = build("canary_never_ready", timeouts={"graceful": "20s"}).start()
    house.signal("HUP")
    house.logged("worker started", generation=2)

    assert seconds(house.stop) < 10
    assert house.wait() == 0


def test_a_stop_is_obeyed_at_once_while_starts_are_held_back(build: Build):
    """Nobody is there to wait for, and nobody is started any more."""
    house = build("crashes_after_ready", workers={"count": 1}).launch()
    house.logged("waiting before the next start", 4)

    assert house.stop() == 0
    assert house.log_events("stopping", "worker started")[-1]["event"] == "stopping"


def test_a_worker_that_never_drains_is_ended_within_its_time(build: Build):
    """ABRT after graceful and half of kill, KILL after the other half; the stop ends well all the same."""
    house = build("never_drains", workers={"count": 1}, timeouts=STUBBORN).start()
    took = seconds(house.stop)
    signals = [line["signal"] for line in house.log_events("worker signalled")]

    assert house.wait() == 0
    assert signals == ["SIGABRT", "SIGKILL"]
    assert 2.3 <= took < 10
    assert house.logged("worker exited")["signal"] == "SIGKILL"


def test_a_second_stop_waits_for_nobody(build: Build):
    """INT after TERM: every worker is killed."""
    house = build("never_drains", timeouts={"graceful": "60s"}).start()
    house.signal("TERM")
    house.logged("worker draining", 2)
    house.signal("INT")

    assert house.wait() == 0
    assert house.log_events("stopping at once", signal="SIGINT")


# Failures


@pytest.mark.parametrize(("worker", "code"), [("crashes_after_ready", 1), ("exits_with_zero", 0)])
def test_a_worker_that_keeps_leaving_is_started_ever_more_slowly(build: Build, worker, code):
    """The delays double; an exit code of 0 that nobody asked for is a crash too."""
    house = build(worker, workers={"count": 1}).launch()
    house.logged("waiting before the next start", 4)
    delays = [line["delay_s"] for line in house.log_events("waiting before the next start")][:4]
    exits = {(line["reason"], line["code"]) for line in house.log_events("worker exited")}
    ready = house.log_events("worker ready")

    assert delays == [0.1, 0.2, 0.4, 0.8]
    assert exits == {("crash", code)}
    assert len(ready) == 4


def test_a_worker_that_hangs_shows_its_stack_and_is_replaced(build: Build):
    """First it is asked, then ABRT makes faulthandler write its last words, which the log line of its end carries."""
    house = build("hangs", workers={"count": 1}, timeouts=IMPATIENT).launch()
    hung = house.logged("worker ready")["pid"]
    end = house.logged("worker exited", pid=hung)

    assert 1.5 <= house.logged("worker silent", pid=hung)["silent_s"] < 3
    assert house.logged("worker signalled", pid=hung)["signal"] == "SIGABRT"
    assert (end["reason"], end["signal"], end["level"]) == ("blocked", "SIGABRT", "error")
    assert "_sleeps_in_here" in end["stack"]
    assert house.logged("worker started", reason="crash")["pid"] != hung


def test_a_stopped_worker_is_replaced(build: Build):
    """SIGSTOP keeps ABRT waiting; KILL ends it nevertheless. Its sibling is not touched."""
    house = build("well", timeouts=IMPATIENT).start()
    stopped, other = house.pids()
    os.kill(stopped, signal.SIGSTOP)
    end = house.logged("worker exited", pid=stopped)
    eventually(lambda: len(house.pids()) == 2)

    assert (end["reason"], end["signal"]) == ("blocked", "SIGKILL")
    assert other in house.pids()
    assert not house.log_events("worker signalled", pid=other)


def test_a_killed_worker_is_replaced_and_its_sibling_stays(build: Build):
    """The series of its slot go on."""
    house = build("well").start()
    first, second = house.pids()
    os.kill(first, signal.SIGKILL)
    house.logged("worker exited", pid=first, reason="signal", signal="SIGKILL")
    eventually(lambda: len(house.pids()) == 2)

    assert second in house.pids()
    assert house.metric("asgid_worker_exits_total", reason="signal") == 1
    assert house.metric("asgid_worker_starts_total", reason="crash") == 1


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
def test_a_worker_that_writes_garbage_harms_nobody_else(build: Build, garbage):
    """An application that gets hold of the lifeline ends neither the master nor its siblings. That is logged once,
    nothing more that comes there is believed, and the worker is replaced.
    """
    house = build("writes_garbage")
    house.environment["GARBAGE"] = garbage
    house.start()
    before = house.pids()
    house.signal("USR1")
    garbled = house.logged("lifeline garbled")
    house.signal("USR1")

    assert (garbled["slot"], garbled["level"]) == (1, "error")
    left = house.logged("worker exited")

    assert (left["pid"], left["reason"]) == (before[1], "crash")
    assert before[0] in house.pids()
    assert house.stop() == 0
    assert len(house.log_events("lifeline garbled")) == 1


def test_a_worker_whose_last_words_cannot_be_written_ends_all_the_same(build: Build):
    """A flush that fails must not let the child go on from the master's stack, as a second master."""
    house = build("prints_to_a_closed_stream").launch()

    assert house.wait() == 3
    assert [line["code"] for line in house.log_events("worker exited")] == [7]
    assert not house.log_events("worker not started")
    assert len(house.log_events("stopped")) == 1


# Reload


def test_a_reload_replaces_every_worker(build: Build):
    """The old ones leave by themselves; the title says which generation serves."""
    house = build("well").start()
    before = house.pids()

    assert house.reload()["event"] == "reload committed"

    eventually(lambda: len(house.log_events("worker exited")) == 2)
    assert set(before).isdisjoint(house.pids())
    assert [line["reason"] for line in house.log_events("worker exited")] == ["reload", "reload"]
    assert title(house.pid).endswith("gen 2")


@pytest.mark.parametrize(
    ("worker", "boot", "reason"),
    [
        ("canary_fails", "60s", "no module named shop"),
        ("canary_never_ready", "300ms", "worker 2 was not ready within timeouts.boot"),
    ],
)
def test_a_reload_whose_first_worker_fails_leaves_everything_as_it_was(build: Build, worker, boot, reason):
    """One canary is all that was tried; the same processes go on."""
    house = build(worker).start()
    before = house.pids()
    house.configure(timeouts={"boot": boot})
    verdict = house.reload()

    assert (verdict["event"], verdict["reason"]) == ("reload rolled back", reason)
    assert house.pids() == before
    assert len(house.log_events("worker started", generation=2)) == 1
    assert house.status()["generation"] == 1


def test_a_reload_to_an_address_that_is_taken_starts_nothing(build: Build):
    """The listener is bound before anything else is done."""
    house = build("well").start()
    before = house.pids()
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        house.configure(listen=[*DEFAULTS["listen"], {"bind": bind}])
        verdict = house.reload()

    assert verdict["event"] == "reload rolled back"
    assert f"cannot listen on {bind}" in verdict["reason"]
    assert house.pids() == before


def test_a_reload_that_fails_as_nobody_foresaw_ends_nobody(build: Build):
    """This master's `load` raises what no `load` should: it has a verdict and a stack, and the next reload works."""
    house = build("well").start()
    before = house.pids()
    house.file.unlink()
    verdict = house.reload()

    assert verdict["event"] == "reload refused"
    assert "a fault of asgid itself: FileNotFoundError" in verdict["reason"]
    assert "read_text" in house.logged("reload failed")["stack"]
    assert house.pids() == before
    assert house.metric("asgid_reloads_total", result="invalid_config") == 1

    house.write_settings()

    assert house.reload()["event"] == "reload committed"


def test_a_reload_waits_for_no_name_server(build: Build):
    """A name that the machine does not know by itself is refused at once, and what serves goes on."""
    house = build("well").start()
    house.configure(listen=[{"bind": "127.0.0.1:0"}, {"bind": "localhost:0"}, {"bind": "shop.invalid:0"}])
    verdict = house.reload()

    assert verdict["event"] == "reload rolled back"
    assert "cannot listen on shop.invalid:0: a reload asks no name server" in verdict["reason"]

    house.configure(listen=[{"bind": "127.0.0.1:0"}, {"bind": "localhost:0"}])

    assert house.reload()["event"] == "reload committed"


def test_a_reload_opens_what_is_new_and_closes_what_nobody_uses_any_more(build: Build, tmp_path: Path):
    """The listener that stays keeps its queue, and a socket file goes with its listener."""
    file = tmp_path / "shop.sock"
    house = build("well").start()
    host, port = house.address().split(":")
    with socket.create_connection((host, int(port)), 5):
        house.configure(listen=[*DEFAULTS["listen"], {"bind": f"unix:{file}"}])

        assert house.reload()["event"] == "reload committed"
        assert file.is_socket()

        house.configure(**DEFAULTS)

        assert house.reload()["event"] == "reload committed"

        house.logged("listener closed", listener=f"unix:{file}")

        assert not file.exists()
        assert house.metric("asgid_listener_backlog_connections") == 1


def test_a_pause_keeps_the_sockets_and_a_reload_brings_the_workers_back(build: Build):
    """Whoever connects meanwhile waits in the queue."""
    house = build("well").start()
    house.signal("WINCH")
    eventually(lambda: house.status()["workers"] == [])
    host, port = house.address().split(":")
    with socket.create_connection((host, int(port)), 5):
        assert house.metric("asgid_listener_backlog_connections") == 1

    house.signal("HUP")
    eventually(lambda: len(house.pids()) == 2)

    assert house.stop() == 0


def test_one_more_and_one_fewer(build: Build):
    """TTIN and TTOU."""
    house = build("well").start()
    house.signal("TTIN")
    eventually(lambda: len(house.pids()) == 3)
    house.signal("TTOU")
    end = house.logged("worker exited")

    assert (end["reason"], end["code"]) == ("scale", 0)
    assert len(house.pids()) == 2


# The master and its processes


# Another program in the master's place. What is tried here is a line of Python; the real ones are tried in tests/e2e.


def test_a_proven_program_that_cannot_be_executed_is_refused(build: Build, tmp_path: Path):
    """Everything goes on as before: signals are heard, and a later worker holds nothing that was kept for it."""
    house = build("shows_what_it_holds")
    house.environment = {"NEXT_PROGRAM": "/no/such/python", "HELD": str(tmp_path / "held")}
    house.start()
    old = house.pids()
    house.signal("USR2")
    refused = house.logged("upgrade refused")
    house.signal("TTIN")
    eventually(lambda: len(house.pids()) == 3)
    held = loads((tmp_path / "held.2").read_text())

    assert refused["reason"] == "/no/such/python cannot be run: No such file or directory"
    assert set(old) < set(house.pids())
    assert not [name for name in held["held"].values() if "memfd:asgid-handover" in name or "memfd:asgid-board" in name]
    assert house.stop() == 0


def test_the_same_workers_live_under_the_next_program(build: Build):
    """Also those that do not drain: their heartbeats are seen, and what they owe is claimed."""
    house = build("never_drains", workers={"count": 1}, timeouts=STUBBORN).start()
    (old,) = house.pids()
    house.signal("USR2")
    house.logged("program replaced")
    exited = house.logged("worker exited", pid=old)

    assert (exited["reason"], exited["signal"]) == ("reload", "SIGKILL")
    assert house.logged("reload committed")["generation"] == 2
    assert house.log_events("stood still") == []
    assert old not in house.pids()


def test_a_trial_that_will_not_end_ends_with_a_stop(build: Build):
    """It is deaf to TERM; the stop does not wait for it longer than for a worker, and leaves nothing behind."""
    house = build("well", workers={"count": 1}, timeouts=STUBBORN)
    house.environment = {
        "TRIAL": "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True);"
        "time.sleep(600)"
    }
    house.start()
    house.signal("USR2")
    trial = house.logged("upgrade begun")["trial_pid"]
    eventually(lambda: "TERM" in signals_in("SigIgn", trial))
    house.signal("TERM")

    assert house.wait() == 0
    assert not psutil.pid_exists(trial)
    assert [line["signal"] for line in house.log_events("trial of new program signalled")] == ["SIGTERM", "SIGKILL"]


def test_a_trial_that_closes_its_streams_does_not_keep_the_master_busy(build: Build, tmp_path: Path):
    """A pipe at its end stays readable; the master waits for the end of the process, and not by turning."""
    gate = tmp_path / "gate"
    house = build("well", workers={"count": 1})
    house.environment = {
        "TRIAL": "import os, sys, time\nos.close(1); os.close(2)\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\nos._exit(1)"
    }
    house.start()
    house.signal("USR2")
    trial = house.logged("upgrade begun")["trial_pid"]
    eventually(lambda: not os.path.exists(f"/proc/{trial}/fd/2"))
    house.turn()
    master = psutil.Process(house.pid)
    before = sum(master.cpu_times()[:2])
    time.sleep(1)  # this is what is measured
    used = sum(master.cpu_times()[:2]) - before
    gate.touch()
    refused = house.logged("upgrade refused")

    assert used < 0.5
    assert refused["reason"] == "its trial exited with code 1"


def test_what_a_trial_prints_is_told(build: Build):
    """The gist in the reason, and all of it where it is more than a line."""
    house = build("well", workers={"count": 1})
    house.environment = {"TRIAL": "import sys; print('one'); print('two'); sys.exit('three')"}
    house.start()
    house.signal("USR2")
    refused = house.logged("upgrade refused")

    assert refused["reason"] == "its trial exited with code 1: three"
    assert refused["printed"] == "one\ntwo\nthree"


def test_a_trial_that_ends_well_but_has_read_nothing_is_refused(build: Build):
    """Any other program may lie where asgid lay, and exit code 0 is the answer of most: the same workers serve on."""
    house = build("well", workers={"count": 1})
    house.environment = {"TRIAL": "import os; os.write(3, b'ok'); print('done')"}
    house.start()
    old = house.pids()
    house.signal("USR2")
    refused = house.logged("upgrade refused")
    house.turn()

    assert "wrote no receipt for the handover" in refused["reason"]
    assert house.pids() == old
    assert house.log_events("replacing the program") == []


def test_a_master_that_was_stopped_harms_no_healthy_worker(build: Build):
    """Longer than the heartbeat timeout: beats on the board are current when it goes on."""
    house = build("well", timeouts=IMPATIENT).start()
    before = house.pids()
    house.signal("STOP")
    until = time.monotonic() + 3.5
    eventually(lambda: time.monotonic() > until)
    house.signal("CONT")
    house.turn()

    assert house.pids() == before
    assert not house.log_events("worker signalled", "worker silent", "worker exited")


def test_a_machine_that_stood_still_harms_no_healthy_worker(build: Build):
    """All were stopped for longer than the heartbeat timeout, as in a paused container, the master goes on first."""
    house = build("well", timeouts=IMPATIENT).start()
    before = house.pids()
    stopped = house.processes()
    for process in stopped:
        process.suspend()
    until = time.monotonic() + 5
    eventually(lambda: time.monotonic() > until)
    house.signal("CONT")
    house.turn()
    for process in stopped:
        process.resume()
    house.turn()

    assert house.pids() == before
    assert house.logged("stood still")["late_s"] > 1
    assert not house.log_events("worker signalled", "worker exited")


def test_a_ready_that_waited_while_the_master_was_stopped_counts(build: Build, tmp_path: Path):
    """The boot timeout passed, but not for the worker: what it said is read before the time is judged."""
    house = build("boots_when_let", workers={"count": 1}, timeouts={"boot": "3s"})
    house.environment["GATE"] = str(tmp_path / "gate")
    house.launch()
    house.logged("worker started")
    house.signal("STOP")
    (tmp_path / "gate").touch()
    until = time.monotonic() + 3.5
    eventually(lambda: time.monotonic() > until)
    house.signal("CONT")

    assert house.logged("worker ready")["boot_s"] > 3.5
    assert not house.log_events("worker signalled")
    assert house.stop() == 0


def test_a_killed_master_takes_every_worker_with_it(build: Build):
    """Each reads the end of its lifeline; no sibling holds it open."""
    house = build("well", workers={"count": 4}).start()

    assert len(house.processes()) == 5

    house.signal("KILL")

    assert house.wait() == -signal.SIGKILL
    eventually(lambda: not house.processes())


def test_a_worker_ignores_what_is_meant_for_the_master_also_while_it_boots(build: Build, tmp_path: Path):
    """A terminal's Ctrl-C and a `kill` of the whole group reach it too. TERM ends it: it has begun nothing."""
    house = build("boots_when_let", workers={"count": 1})
    house.environment["GATE"] = str(tmp_path / "gate")
    house.launch()
    pid = house.logged("worker started")["pid"]
    eventually(lambda: set(IGNORED) <= signals_in("SigCgt", pid))
    for name in IGNORED:
        os.kill(pid, getattr(signal, f"SIG{name}"))
    (tmp_path / "gate").touch()

    assert house.logged("worker ready")["pid"] == pid
    assert "TERM" not in signals_in("SigCgt", pid)
    assert {signum.name.removeprefix("SIG") for signum in SIGNALS} == {*IGNORED, "TERM", "CHLD"}


def test_a_worker_holds_nothing_of_the_masters(build: Build, tmp_path: Path):
    """Its streams, its lifeline, its listeners and its last words: no sibling's lifeline, no epoll, no pid file."""
    settings = {"process": {"pid_file": str(tmp_path / "asgid.pid")}, "workers": {"count": 3}}
    house = build("shows_what_it_holds", **settings)
    house.environment["HELD"] = str(tmp_path / "held")
    house.start()
    house.reload()

    assert {line["slot"] for line in house.log_events("worker started")} > {0, 1, 2}
    for file in tmp_path.glob("held.*"):
        found = loads(file.read_text())
        memory = [fd for fd, target in found["held"].items() if "asgid-last-words" in target]
        expected = {"0", "1", "2", *map(str, found["kept"]), *memory}

        assert len(memory) == 1
        assert expected == set(found["held"]), found["held"]


@pytest.mark.parametrize("name", ["TERM", "HUP"])
def test_a_worker_that_is_gone_in_the_turn_of_a_signal_is_reaped_in_it(build: Build, name):
    """No process is left behind as a zombie, whatever else happened at the same time."""
    house = build("well", workers={"count": 3}).start()
    master = psutil.Process(house.pid)
    house.signal("STOP")
    for pid in house.log_events("worker ready")[:2]:
        os.kill(pid["pid"], signal.SIGKILL)
    house.signal(name)
    house.signal("CONT")
    if name == "TERM":
        assert house.wait() == 0
        return
    eventually(lambda: house.log_events("reload committed"))
    eventually(lambda: len(house.pids()) == 3)
    eventually(lambda: len(master.children()) == 3)  # zombies are children too


def test_orphans_are_reaped_when_the_master_is_pid_1(build: Build):
    """In a container without an init, every process whose parent is gone is ours."""
    prefix = ("unshare", "--pid", "--fork", "--kill-child")
    probe = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"no PID namespace may be made here: {probe.stderr.strip()}")
    house = build("leaves_an_orphan")
    house.prefix = prefix
    house.start()
    (master,) = psutil.Process(house.pid).children()
    orphan = eventually(lambda: [child for child in master.children() if child.cmdline()[:1] == ["orphan"]])[0]

    assert house.log_events("running")[0]["pid"] == 1

    orphan.kill()
    eventually(lambda: not psutil.pid_exists(orphan.pid))

    assert len(house.log_events("worker started")) == 2, "an orphan is no worker"

    master.terminate()

    assert house.wait() == 0
