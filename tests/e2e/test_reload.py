"""HUP applies the whole configuration or nothing, and no request fails or waits for it."""

import os
import re
import socket
from pathlib import Path

import pytest

from tests.client import Load, get
from tests.conftest import Start
from tests.daemon import Daemon, eventually

VERSIONED = '''"""Responds with its version."""

VERSION = b"{version}"


async def application(scope, receive, send):
    assert scope["type"] == "http"
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(VERSION))]}})
    await send({{"type": "http.response.body", "body": VERSION}})
'''


def write_version(directory: Path, version: int) -> None:
    (directory / "versioned.py").write_text(VERSIONED.format(version=version))


def generations(daemon: Daemon) -> set[int]:
    return {worker["generation"] for worker in daemon.status()["workers"]}


def reloads(daemon: Daemon, result: str) -> float:
    return daemon.metric("asgid_reloads_total", result=result)


def test_ten_reloads_under_load_cost_no_request(start: Start, tmp_path: Path) -> None:
    """On kept and new connections. A slow machine can take a second, hence the limit of five."""
    code = tmp_path / "code"
    code.mkdir()
    write_version(code, 0)
    daemon = start("versioned:application", app={"directory": str(code)})

    with (
        Load(daemon.address(), connections=3) as load,
        Load(daemon.address(), connections=1, headers={"Connection": "close"}) as closing,
    ):
        eventually(lambda: load.bodies)
        for version in range(1, 11):
            write_version(code, version)
            assert daemon.reload()["event"] == "reload committed"
            eventually(lambda: len(generations(daemon)) == 1)
            assert {str(version).encode()} == {get(daemon.address()).body for _ in range(10)}
            eventually(lambda: str(version).encode() in load.bodies)  # noqa: B023 - asked within this turn
        eventually(lambda: len(load.seconds) + len(load.failures) >= 2000)

    assert load.failures + closing.failures == []
    assert max(load.seconds + closing.seconds) < 5
    assert {str(version).encode() for version in range(11)} == load.bodies
    assert reloads(daemon, "committed") == 10
    assert daemon.metric("asgid_worker_exits_total", reason="reload") == 20
    assert daemon.metric("asgid_http_requests_total", code="200") >= len(load.seconds)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_reloads_cost_no_new_connection(start: Start) -> None:
    """Thousands of connections a second meet four hundred drains: a worker answers each client that it has accepted."""
    daemon = start(reload={"settle": "0s"}, log={"access": {"enabled": False}})

    with Load(daemon.address(), connections=8, pause_s=0.0005, headers={"Connection": "close"}) as load:
        for _ in range(200):
            assert daemon.reload()["event"] == "reload committed"

    assert load.failures == []
    assert len(load.seconds) > 5_000
    assert max(load.seconds) < 5


def test_a_reload_takes_the_new_settings(start: Start) -> None:
    daemon = start("pid:application")
    kept = daemon.address()

    daemon.configure(
        app={"target": "hello:application"},
        workers={"count": 1},
        listen=[{"bind": "127.0.0.1:0"}, {"bind": "127.0.0.2:0", "name": "second"}],
    )
    verdict = daemon.reload()

    assert verdict["event"] == "reload committed"
    assert get(daemon.address("second")).body == b"hello"
    eventually(lambda: len(daemon.workers()) == 1)  # the old workers accept until they read the request to drain
    assert get(kept).body == b"hello"
    assert daemon.status()["generation"] == verdict["generation"]


def test_a_failed_reload_logs_its_cause_once(start: Start, tmp_path: Path) -> None:
    """The log line of the verdict has the application's calls and all causes; the endpoint shows only one line."""
    (tmp_path / "broken.py").write_text(
        "def connect():\n    try:\n        open('/no/such/database')\n"
        "    except OSError as error:\n        raise RuntimeError('the shop is closed') from error\n\nconnect()\n"
    )
    daemon = start(workers={"count": 1})

    daemon.configure(app={"target": "broken:application", "directory": str(tmp_path)})
    verdict = daemon.reload()

    assert verdict["event"] == "reload rolled back"
    assert "the shop is closed" in verdict["reason"]
    assert "No such file or directory: '/no/such/database'" in verdict["stack"]
    assert 'broken.py", line 7, in <module>\n    connect()' in verdict["stack"]
    assert verdict["stack"].endswith("\nRuntimeError: the shop is closed")
    assert daemon.log_text().count("/no/such/database") == 2  # the line of the source, and the error
    assert "/no/such/database" not in daemon.probe("/status")[2]


def test_a_reload_names_the_libraries_that_only_usr2_loads(start: Start, tmp_path: Path, monkeypatch) -> None:
    """They were replaced on disk after the master had imported them, as by `pip install -U`."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import an_agent\n")
    (site / "an_agent.py").write_text("VERSION = 1\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    daemon = start("pid:application", workers={"count": 1})
    event = "libraries replaced on disk: only USR2 loads the new ones"
    assert daemon.reload()["event"] == "reload committed"
    assert daemon.log_events(event) == []

    (site / "an_agent.py").write_text("VERSION = 'two'\n")
    assert daemon.reload()["event"] == "reload committed"
    assert [line["libraries"] for line in daemon.log_events(event)] == ["an_agent"]

    daemon.signal("USR2")
    eventually(lambda: len(daemon.log_events("reload committed")) == 3)
    assert len(daemon.log_events(event)) == 1
    assert daemon.log_events("master was stalled") == []


def test_a_hup_during_a_reload_starts_again_with_the_newest_file(start: Start, tmp_path: Path) -> None:
    daemon = start("pid:application")
    old = set(daemon.workers())

    daemon.configure(app={"target": "never_ready:application"})
    daemon.signal("HUP")
    eventually(lambda: set(daemon.workers()) - old)
    daemon.configure(app={"target": "hello:application"})
    daemon.signal("HUP")

    eventually(lambda: daemon.log_events("reload committed", generation=3))
    assert get(daemon.address()).body == b"hello"
    assert reloads(daemon, "superseded") == 1
    assert reloads(daemon, "committed") == 1


# Reloads that must fail without harm. `broken` makes the fault; the other columns are the verdict and its reason.


def break_the_file(daemon: Daemon, taken: int) -> None:
    daemon.file.write_text('[app]\ntarget = "hello:application\n')


def misspell_a_key(daemon: Daemon, taken: int) -> None:
    daemon.configure(workers={"cuont": 3})


def name_an_impossible_directory(daemon: Daemon, taken: int) -> None:
    daemon.configure(app={"directory": "/" + "a" * 300})


def name_an_impossible_host(daemon: Daemon, taken: int) -> None:
    daemon.configure(listen=[{"bind": "127.0.0.1:0"}, {"bind": "app..internal:80"}])


def raise_at_import(daemon: Daemon, taken: int) -> None:
    daemon.configure(app={"target": "raises_at_import:application"})


def write_half_a_module(daemon: Daemon, taken: int) -> None:
    (daemon.directory / "half.py").write_text("async def application(scope, receive, send:\n")
    daemon.configure(app={"target": "half:application", "directory": str(daemon.directory)})


def fail_at_startup(daemon: Daemon, taken: int) -> None:
    daemon.configure(app={"target": "startup_fails:application"})


def never_get_ready(daemon: Daemon, taken: int) -> None:
    daemon.configure(app={"target": "never_ready:application"}, timeouts={"boot": "1s"})


def die_while_settling(daemon: Daemon, taken: int) -> None:
    daemon.configure(app={"target": "dies_young:application"}, reload={"settle": "10s"})


def ask_for_tls(daemon: Daemon, taken: int) -> None:
    daemon.configure(listen=[{"bind": "127.0.0.1:0", "tls": "main"}], tls={"main": {"cert": "none.pem"}})


def name_no_module(daemon: Daemon, taken: int) -> None:
    daemon.configure(app={"target": "no_such_module:application"})


def take_a_taken_port(daemon: Daemon, taken: int) -> None:
    daemon.configure(listen=[{"bind": "127.0.0.1:0"}, {"bind": f"127.0.0.1:{taken}"}])


REFUSED = [
    (break_the_file, "invalid_config", r"asgid\.toml:2"),
    (misspell_a_key, "invalid_config", r"asgid\.toml:\d+.*cuont.*count"),
    (ask_for_tls, "invalid_config", r"asgid\.toml:\d+.*tls.*no effect in this version"),
    (name_an_impossible_directory, "invalid_config", r"asgid\.toml:\d+: app\.directory: there is no directory /aaa"),
    (name_an_impossible_host, "invalid_config", r"asgid\.toml:\d+: listen\.bind: 'app\.\.internal' is not a host name"),
    (raise_at_import, "rolled_back", "the tables of this application were never made"),
    (write_half_a_module, "rolled_back", r"SyntaxError.*half\.py"),
    (fail_at_startup, "rolled_back", "the database of this application is down"),
    (never_get_ready, "rolled_back", "boot"),
    (die_while_settling, "rolled_back", "exited with code 1 while it served"),
    (name_no_module, "rolled_back", "no_such_module"),
    (take_a_taken_port, "rolled_back", r"127\.0\.0\.1:\d+"),
]


@pytest.mark.parametrize(("broken", "result", "reason"), REFUSED, ids=[case[0].__name__ for case in REFUSED])
def test_a_bad_reload_leaves_the_old_generation_serving(start: Start, broken, result: str, reason: str) -> None:
    """With any fault the old workers answer every request, the log gives the reason, and the next HUP works."""
    daemon = start("pid:application", reload={"settle": "0.1s"})
    old = set(daemon.workers())
    settings = daemon.settings

    with socket.socket() as holder, Load(daemon.address(), connections=2) as load:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        daemon.eventually(lambda: daemon.metric("asgid_connections") == 2)  # a canary that dies holds neither of them
        broken(daemon, holder.getsockname()[1])
        verdict = daemon.reload()
        last = daemon.status()["last_reload"]
        eventually(lambda: set(daemon.workers()) == old)
        answering = len(load.seconds)
        eventually(lambda: len(load.seconds) > answering + 100)

    assert load.failures == []
    assert {str(pid).encode() for pid in old} >= load.bodies
    assert re.search(reason, str(verdict), re.DOTALL)
    assert last["verdict"] == result
    assert re.search(reason, last["reason"], re.DOTALL)
    assert reloads(daemon, result) == 1
    assert daemon.metric("asgid_config_last_reload_successful") == 0

    daemon.settings = settings
    daemon.write_settings()
    assert daemon.reload()["event"] == "reload committed"
    eventually(lambda: not set(daemon.workers()) & old)
    assert reloads(daemon, "committed") == 1
    assert daemon.metric("asgid_config_last_reload_successful") == 1
    assert int(get(daemon.address()).body) not in old


def test_with_a_surge_of_all_workers_a_roll_back_keeps_the_old_processes(start: Start, tmp_path: Path) -> None:
    """The third new worker fails, and the code on disk is broken by then: the old workers never left."""
    code = tmp_path / "code"
    code.mkdir()
    write_version(code, 0)
    daemon = start("versioned:application", app={"directory": str(code)}, workers={"count": 3}, reload={"surge": 3})
    old = daemon.workers()
    with (code / "versioned.py").open("a") as module:
        module.write(
            "from pathlib import Path\n"
            "imports = Path('imports')\n"
            "with imports.open('a') as file: file.write('.')\n"
            "assert imports.stat().st_size < 3, 'too many connections to the database'\n"
        )
    with Load(daemon.address()) as load:
        verdict = daemon.reload()
        eventually(lambda: daemon.workers() == old)
        answering = len(load.seconds)
        eventually(lambda: len(load.seconds) > answering + 100)

    assert verdict["event"] == "reload rolled back"
    assert "too many connections" in verdict["reason"]
    assert load.failures == []
    assert daemon.metric("asgid_worker_starts_total", reason="reload") == 3


def test_a_crash_after_a_bad_reload_brings_the_old_code_back(start: Start) -> None:
    """The master never tries the refused generation again by itself: a replacement runs the committed settings."""
    daemon = start("pid:application")
    old = daemon.workers()
    daemon.configure(app={"target": "startup_fails:application"})
    assert daemon.reload()["event"] == "reload rolled back"

    os.kill(old[0], 9)
    eventually(lambda: len({*daemon.workers()} - {old[0]}) == 2)

    eventually(lambda: {worker["state"] for worker in daemon.status()["workers"]} == {"ready"})
    assert generations(daemon) == {1}
