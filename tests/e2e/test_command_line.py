"""The command line: its arguments, the messages for wrong ones, and its exit codes."""

import json
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from asgid import cli
from tests.client import get
from tests.conftest import Start
from tests.daemon import APPS, ASGID, DEFAULTS, WITHIN_S, Daemon, asgid, eventually, is_alive, merged, toml


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "asgid.toml"
    path.write_text(toml(DEFAULTS))
    return path


# Wrong files, each with words of the message: place, error and fix.

WRONG_FILES = {
    "not TOML": ("[app\n", ["asgid.toml:1"]),
    "no target": ("[workers]\ncount = 1\n", ["target", "module:attr"]),
    "a target without a colon": ('[app]\ntarget = "hello"\n', ["asgid.toml:2", "app.target", ":"]),
    "an unknown key": ('[app]\ntarget = "a:b"\n[workers]\ncuont = 1\n', ["asgid.toml:4", "cuont", "count"]),
    "an unknown table": ('[app]\ntarget = "a:b"\n[wrokers]\ncount = 1\n', ["asgid.toml:3", "wrokers", "workers"]),
    "a value of the wrong type": (
        '[app]\ntarget = "a:b"\n[workers]\ncount = "two"\n',
        ["asgid.toml:4", "workers.count"],
    ),
    "a duration without a unit": ('[app]\ntarget = "a:b"\n[timeouts]\nboot = "10"\n', ["asgid.toml:4", "boot", "s"]),
    "a wrong address": ('[app]\ntarget = "a:b"\n[[listen]]\nbind = "nowhere"\n', ["asgid.toml:4", "listen"]),
    "a listener with TLS": (
        '[app]\ntarget = "a:b"\n[[listen]]\nbind = "127.0.0.1:0"\ntls = "main"\n[tls.main]\ncert = "none.pem"\n',
        ["asgid.toml:5", "listen.tls", "no effect in this version", "asgid.toml:6"],
    ),
    "another server's setting": ('[app]\ntarget = "a:b"\nbind = "127.0.0.1:1"\n', ["asgid.toml:3", "listen"]),
}


@pytest.mark.parametrize("command", [("-c",), ("check", "-c")], ids=["run", "check"])
@pytest.mark.parametrize(("text", "words"), WRONG_FILES.values(), ids=WRONG_FILES.keys())
def test_a_wrong_file_is_reported_by_line(tmp_path: Path, text: str, words: list[str], command: tuple[str]) -> None:
    """The exit code is 78. The message names file, line, key and expected value, without a traceback."""
    (tmp_path / "asgid.toml").write_text(text)

    done = asgid(*command, "asgid.toml", cwd=tmp_path)

    assert done.returncode == 78
    assert [word for word in words if word not in done.stderr] == []
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 64),
        (("--no-such-option",), 64),
        (("no-such-command",), 64),
        (("hello:application", "-w"), 64),
        (("-c", "no-such-file.toml"), 78),
        (("check", "-c", "no-such-file.toml"), 78),
        (("hello:application", "--set", "workers.cuont=1"), 78),
        (("hello:application", "-w", "none"), 78),
        (("hello:application", "-b", "app..internal:80"), 78),
        (("hello:application", "--set", "metrics.bind=app..internal:80"), 78),
        (("hello:application", "--set", "app.directory=/" + "a" * 300), 78),
        (("hello:application", "--set", "timeouts.graceful=-1" + "0" * 400), 78),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_usage_and_settings_have_different_codes(arguments: tuple[str, ...], code: int, tmp_path: Path) -> None:
    """64 is for the command line, 78 for the configuration; both have a message without a traceback."""
    done = asgid(*arguments, cwd=tmp_path)

    assert done.returncode == code
    assert done.stderr
    assert "Traceback" not in done.stderr


FOREIGN = {
    ("--config", "x.toml"): "there is no --config; write asgid -c x.toml",
    ("--bind", ":80", "hello:application", "--timeout=30"): (
        "there is no --bind, --timeout; write asgid hello:application -b :80 --set timeouts.heartbeat=30"
    ),
    ("hello:application", "echo:application"): "only one application is allowed: echo:application",
    ("serve", "hello:application"): "'serve' is not a command; write asgid hello:application",
    ("nothing",): "'nothing' is not a command, and an application is written module:attribute",
}


@pytest.mark.parametrize("arguments", FOREIGN, ids=" ".join)
def test_a_command_of_another_server_is_refused_with_a_suggestion(arguments: tuple[str, ...]) -> None:
    done = asgid(*arguments)

    assert done.returncode == 64
    assert done.stderr.endswith(f"error: {FOREIGN[arguments]}\n")


def test_a_suggested_command_works_as_it_is_printed() -> None:
    """Another server's command is refused once; the suggested command starts the application."""
    refused = asgid("check", "--boot", "hello.py", "--wrokers", "1", "--port", "8000", cwd=APPS)
    answer = refused.stderr.rpartition("; write asgid ")[2]

    done = asgid(*shlex.split(answer), cwd=APPS)

    assert refused.returncode == 64
    assert done.returncode == 0, done.stderr
    assert "ok, boots as asgi3 (hello:application on 127.0.0.1:8000; workers: 1;" in done.stdout


@pytest.mark.parametrize("table", ["log", "log.access"])
def test_a_log_file_that_cannot_be_opened_exits_with_78(file: Path, tmp_path: Path, table: str) -> None:
    """The message names line and path. `asgid check` accepts the file: its directory may not exist yet."""
    with file.open("a") as text:
        text.write(f'[{table}]\noutput = "{tmp_path}/none/asgid.log"\n')
    line = len(file.read_text().splitlines())

    done = asgid("-c", str(file))

    assert done.returncode == 78
    assert f"{file}:{line}: {table}.output: {tmp_path}/none/asgid.log cannot be opened" in done.stderr
    assert asgid("check", "-c", str(file)).returncode == 0


FAILING_APPLICATIONS = {
    "no module": ("no_such_module:application", "no_such_module"),
    "no attribute": ("hello:aplication", "aplication"),
    "raises at import": ("raises_at_import:application", "the tables of this application were never made"),
    "of an ambiguous interface": ("doubtful:application", "takes request, which is ambiguous"),
    "not an application": ("not_asgi:application", "not_asgi:application"),
    "startup fails": ("startup_fails:application", "the database of this application is down"),
}


@pytest.mark.parametrize(("target", "words"), FAILING_APPLICATIONS.values(), ids=FAILING_APPLICATIONS.keys())
def test_an_application_that_cannot_start_exits_with_3(file: Path, target: str, words: str) -> None:
    """If no worker becomes ready, asgid exits with the reason and does not try again."""
    file.write_text(toml(merged(DEFAULTS, {"app": {"target": target}})))

    done = asgid("-c", str(file))

    assert done.returncode == 3
    assert words in done.stderr


def test_a_very_long_reason_is_cut(file: Path, tmp_path: Path) -> None:
    (tmp_path / "wordy.py").write_text(
        "async def application(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'not ' * 300000 + 'yet'})\n"
    )
    file.write_text(toml(merged(DEFAULTS, {"app": {"target": "wordy:application", "directory": str(tmp_path)}})))

    done = asgid("-c", str(file))

    assert done.returncode == 3
    assert "not not not" in done.stderr
    assert "invalid message" not in done.stderr


def test_a_missing_import_of_the_application_is_reported_with_its_line(file: Path, tmp_path: Path) -> None:
    """The traceback ends at the line of the application."""
    (tmp_path / "incomplete.py").write_text("import no_such_library\n")
    file.write_text(toml(merged(DEFAULTS, {"app": {"target": "incomplete:application", "directory": str(tmp_path)}})))

    done = asgid("-c", str(file))

    assert done.returncode == 3
    assert "no_such_library" in done.stderr
    assert "incomplete.py" in done.stderr


# The cause of a failed start

CHAIN = """
def connect():
    open("/no/such/database")

def setup():
    try:
        connect()
    except OSError as error:
        raise RuntimeError("the shop is closed") from error
"""
AT_IMPORT = f"{CHAIN}\nsetup()\n"
IN_STARTUP = f"""{CHAIN}
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        setup()
"""
#: Starlette sends a whole traceback as the reason.
IN_THE_REASON = f"""{CHAIN}
import traceback
async def application(scope, receive, send):
    await receive()
    try:
        setup()
    except RuntimeError:
        await send({{"type": "lifespan.startup.failed", "message": traceback.format_exc()}})
        raise
"""
IN_A_FACTORY = f"{CHAIN}\ndef application(): setup()\n"
TRACEBACK = [
    "Traceback (most recent call last):",
    "in connect",
    "FileNotFoundError: [Errno 2] No such file or directory: '/no/such/database'",
    "The above exception was the direct cause of the following exception:",
    "RuntimeError: the shop is closed",
]
FAILED_STARTS = {
    "at import": (AT_IMPORT, {}, 'importing "broken" failed: RuntimeError: the shop is closed ('),
    "in the startup": (IN_STARTUP, {"lifespan": "on"}, "lifespan startup failed: RuntimeError: the shop is closed"),
    "in the startup, with a traceback as its reason": (
        IN_THE_REASON,
        {},
        "lifespan startup failed: RuntimeError: the shop is closed",
    ),
    "in the factory": (
        IN_A_FACTORY,
        {"factory": True},
        'the factory "broken:application" failed: RuntimeError: the shop is closed (',
    ),
}


def assert_ends_with_traceback(text: str, sentence: str) -> None:
    """Fail unless `text` ends with the sentence and, once, the application's calls with all causes."""
    rest = text[text.rindex(sentence) + len(sentence) :]
    places = [rest.find(line) for line in TRACEBACK]

    assert -1 not in places, text
    assert places == sorted(places), text
    assert text.rstrip().endswith(TRACEBACK[-1]), text
    assert text.count(TRACEBACK[2]) == 1, text
    assert "asgid/worker" not in text


@pytest.mark.parametrize(("source", "app", "sentence"), FAILED_STARTS.values(), ids=FAILED_STARTS.keys())
def test_the_cause_of_a_failed_start_is_logged_last_and_once(
    file: Path, tmp_path: Path, source: str, app: dict[str, object], sentence: str
) -> None:
    """At a start, as text and as JSON, and in a check: a terminal shows the end of the output."""
    (tmp_path / "broken.py").write_text(source)
    app = {"target": "broken:application", "directory": str(tmp_path), **app}
    file.write_text(toml(merged(DEFAULTS, {"app": app, "log": {"format": "text"}})))

    started = asgid("-c", str(file))
    checked = asgid("check", "-c", str(file), "--boot")
    event = json.loads(asgid("-c", str(file), "--set", "log.format=json").stderr.splitlines()[-1])

    assert (started.returncode, checked.returncode) == (3, 3)
    assert_ends_with_traceback(started.stderr, sentence.replace('"', '\\"'))
    assert_ends_with_traceback(checked.stderr, sentence)
    assert event["event"] == "cannot start: no worker became ready"
    assert_ends_with_traceback(f"{event['problem']}\n{event['stack']}", sentence)


@pytest.mark.parametrize("output", ["asgid.log", "stderr", "a file that is stderr"])
def test_a_failed_start_is_reported_on_stderr_once(file: Path, tmp_path: Path, output: str) -> None:
    """The journal of systemd has a reason too if the log is a file."""
    (tmp_path / "broken.py").write_text(AT_IMPORT)
    app = {"target": "broken:application", "directory": str(tmp_path)}
    file.write_text(toml(merged(DEFAULTS, {"app": app})))
    log = tmp_path / "asgid.log"
    with (tmp_path / "stderr").open("w") as stderr:
        words = {"asgid.log": str(log), "stderr": "stderr"}.get(output, stderr.name)
        subprocess.run(
            [ASGID, "-c", file, "--set", f"log.output={words}"], stderr=stderr, check=False, timeout=WITHIN_S
        )
    lines = Path(stderr.name).read_text().splitlines()

    reason = 'app.target: importing "broken" failed: RuntimeError: the shop is closed ('
    if output == "asgid.log":
        assert [lines[-1]] == [line for line in lines if "the shop is closed" in line]
        assert lines[-1].startswith(f"asgid: cannot start: {reason}")
        assert lines[-1].endswith(f"; see {log}")
    else:
        assert [lines[-1]] == [line for line in lines if "cannot start" in line]
        assert json.loads(lines[-1])["problem"].startswith(reason)


BREAKS_ASGID = {
    "all descriptors are closed": ("import os\nos.closerange(3, 4096)\n", "as os.closerange() does"),
    "threads and signals are replaced": (
        """
import sys, types
from asgid.worker.process import ticker
sys.modules["gevent.monkey"] = types.ModuleType("gevent.monkey")
def start(_): raise ValueError("only from the main thread")
ticker.Ticker.start = start
""",
        "the worker failed: ValueError: only from the main thread; gevent.monkey has patched modules that asgid uses",
    ),
}


@pytest.mark.parametrize(("source", "words"), BREAKS_ASGID.values(), ids=BREAKS_ASGID.keys())
def test_a_boot_that_fails_inside_asgid_has_its_cause(file: Path, tmp_path: Path, source: str, words: str) -> None:
    """An import that changes the process can make asgid itself fail; an exit code alone would not help."""
    (tmp_path / "changes.py").write_text(f"{source}async def application(scope, receive, send): ...\n")
    app = {"target": "changes:application", "directory": str(tmp_path)}
    file.write_text(toml(merged(DEFAULTS, {"app": app})))

    started = asgid("-c", str(file))

    assert started.returncode == 3
    assert words in json.loads(started.stderr.splitlines()[-1])["problem"]
    assert words in asgid("check", "-c", str(file), "--boot").stderr


# The commands


@pytest.mark.parametrize(
    ("name", "words"),
    [("FILE", "app.directory: there is no directory shop"), ("asgid.toml", "asgid.toml: cannot be read: No such file")],
)
def test_a_removed_working_directory_is_a_wrong_setting(file: Path, tmp_path: Path, name: str, words: str) -> None:
    file.write_text('[app]\ntarget = "hello:application"\ndirectory = "shop"\n')
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", 'rmdir "$0" && exec "$@"', gone, ASGID, "check", "-c", name.replace("FILE", str(file))],
        cwd=gone,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )

    assert done.returncode == 78, done.stderr
    assert words in done.stderr


def test_version_prints_the_versions_in_use() -> None:
    """Those of asgid, Python, uvloop and httptools."""
    done = asgid("--version")

    assert done.returncode == 0
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in done.stdout
    assert [word for word in ("asgid", "uvloop", "httptools") if word not in done.stdout] == []


def test_check_accepts_a_valid_file(file: Path) -> None:
    done = asgid("check", "-c", str(file))

    assert (done.returncode, done.stderr) == (0, "")
    assert "ok" in done.stdout


# check --boot


@pytest.mark.parametrize(
    ("target", "interface"),
    [("hello:application", "asgi3"), ("lifespan:application", "asgi3"), ("wsgi_countdown:application", "wsgi")],
)
def test_check_boot_reports_the_interface(file: Path, target: str, interface: str, tmp_path: Path) -> None:
    """The application is imported, started and shut down. No log file is created and no address is bound."""
    farewell, log = tmp_path / "farewell", tmp_path / "asgid.log"
    app = {"target": target, "env": {"FAREWELL": str(farewell)}}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = [{"bind": f"127.0.0.1:{taken.getsockname()[1]}"}]
        logs = {"output": str(log), "access": {"output": str(log)}}
        file.write_text(toml(merged(DEFAULTS, {"app": app, "listen": listen, "log": logs})))

        done = asgid("check", "-c", str(file), "--boot")

    assert (done.returncode, done.stderr) == (0, "")
    assert f"{file}: ok, boots as {interface} ({target} on " in done.stdout
    assert farewell.exists() == (target == "lifespan:application")
    assert not log.exists()


@pytest.mark.parametrize(("target", "words"), FAILING_APPLICATIONS.values(), ids=FAILING_APPLICATIONS.keys())
def test_check_boot_reports_why_an_application_does_not_start(file: Path, target: str, words: str) -> None:
    """Exit code and message are those of a start; without --boot, the same file is ok."""
    file.write_text(toml(merged(DEFAULTS, {"app": {"target": target}})))

    done = asgid("check", "-c", str(file), "--boot")

    assert (done.returncode, done.stdout) == (3, "")
    assert words in done.stderr
    assert asgid("check", "-c", str(file)).returncode == 0


STUCK = """
import pathlib
import time

def waits_for_a_database():
    pathlib.Path("waits").touch()
    time.sleep(3600)

waits_for_a_database()
"""


@pytest.fixture
def stuck(file: Path, tmp_path: Path) -> Path:
    """A file with an application that never completes its import."""
    (tmp_path / "stuck_at_import.py").write_text(STUCK)
    app = {"target": "stuck_at_import:application", "directory": str(tmp_path)}
    file.write_text(toml(merged(DEFAULTS, {"app": app, "timeouts": {"boot": "60s"}})))
    return file


def test_check_boot_shows_the_line_of_a_stuck_import(stuck: Path) -> None:
    done = asgid("check", "-c", str(stuck), "--boot", "--set", "timeouts.boot=4s")

    assert done.returncode == 3
    assert "timeouts.boot" in done.stderr
    assert 'stuck_at_import.py", line 7 in waits_for_a_database' in done.stderr


AWAITS = """
import asyncio
import contextlib

async def waits_for_a_database():
    await asyncio.Event().wait()

@contextlib.asynccontextmanager
async def resources():
    await waits_for_a_database()
    yield

async def application(scope, receive, send):
    await receive()
    async with resources():
        pass
"""


def test_the_stack_of_a_startup_that_awaits_forever_is_logged(file: Path, tmp_path: Path) -> None:
    """At a start and in a check. faulthandler would show only the event loop, not the application."""
    (tmp_path / "awaits.py").write_text(AWAITS)
    app = {"target": "awaits:application", "directory": str(tmp_path)}
    file.write_text(toml(merged(DEFAULTS, {"app": app, "timeouts": {"boot": "2s"}})))

    checked = asgid("check", "-c", str(file), "--boot")
    started = asgid("-c", str(file))

    last = json.loads(started.stderr.splitlines()[-1])
    assert (checked.returncode, started.returncode) == (3, 3)
    assert "worker 0 was not ready within timeouts.boot" == last["problem"]
    assert started.stderr.count("in waits_for_a_database") == 1
    for stack in (checked.stderr, last["stack"]):
        calls = [stack.find(f"in {name}\n") for name in ("application", "resources", "waits_for_a_database")]
        assert -1 not in calls, stack
        assert calls == sorted(calls), stack
        assert "asgid/worker/" not in stack


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_ends_a_check_ends_its_worker(stuck: Path, tmp_path: Path, signum: signal.Signals) -> None:
    """Ctrl-C during a boot that hangs: the check dies by the signal, as a shell expects, and no process is left."""
    with subprocess.Popen([str(ASGID), "check", "-c", str(stuck), "--boot"], cwd=tmp_path) as check:
        try:
            eventually((tmp_path / "waits").exists)
            (worker,) = psutil.Process(check.pid).children()

            check.send_signal(signum)

            assert check.wait(WITHIN_S) == -signum
            eventually(lambda: not is_alive(worker.pid))
        finally:
            check.kill()


# The other commands


def test_the_defaults_are_a_valid_file(tmp_path: Path) -> None:
    """`asgid config` accepts the output of --defaults, and its own output without a change."""
    (tmp_path / "examples").mkdir()
    defaults = asgid("config", "--defaults")

    first = asgid("config", "-c", "/dev/stdin", stdin=defaults.stdout, cwd=tmp_path)
    second = asgid("config", "-c", "/dev/stdin", stdin=first.stdout, cwd=tmp_path)

    assert (defaults.returncode, first.returncode, second.returncode) == (0, 0, 0)
    assert first.stdout == second.stdout
    assert "[timeouts]" in first.stdout


def test_the_schema_is_json(tmp_path: Path) -> None:
    done = asgid("config", "--schema")

    assert {"app", "listen", "workers"} <= json.loads(done.stdout)["properties"].keys()


def test_an_application_runs_without_a_file(tmp_path: Path) -> None:
    """asgid module:attr serves with the values of -b, -w and --set."""
    arguments = ("hello:application", "-b", "127.0.0.1:0", "-w", "1")
    settings = ("--set", f"app.directory={APPS}", "--set", "metrics.bind=127.0.0.1:0")

    with Daemon(tmp_path, {"workers": {"count": 1}}, arguments + settings) as daemon:
        daemon.start()
        assert get(daemon.address()).body == b"hello"
        assert len(daemon.workers()) == 1
        assert daemon.stop() == 0


def test_python_m_asgid_runs_the_same_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "asgid", "--version"], capture_output=True, text=True, timeout=WITHIN_S, check=False
    )

    assert (done.returncode, done.stdout) == (0, asgid("--version").stdout)


@pytest.mark.parametrize("option", [(), ("-P",)], ids=["", "safe"])
def test_the_module_imports_nothing_from_the_working_directory(tmp_path: Path, option) -> None:
    """Root may start it where another user can write. A worker imports from there, after it became that user."""
    for name in ("psutil", "pydantic", "argparse", "setproctitle", "signal", "tomli"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)\n")
    declines = "async def app(scope, receive, send): raise NotImplementedError\n"  # declines every scope (ASGI)
    (tmp_path / "shop.py").write_text(declines)
    done = subprocess.run(
        [sys.executable, *option, "-m", "asgid", "check", "--boot", "shop:app"],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
        cwd=tmp_path,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "boots as asgi3" in done.stdout


@pytest.mark.parametrize(
    ("options", "is_safe", "expected"),
    [
        (["-m", "asgid"], False, ["-P", "-m", "asgid"]),
        (["-X", "dev", "-m", "asgid"], False, ["-P", "-X", "dev", "-m", "asgid"]),
        (["-P", "-m", "asgid"], True, ["-P", "-m", "asgid"]),
    ],
)
def test_the_next_program_imports_nothing_from_the_working_directory(
    tmp_path: Path, monkeypatch, options, is_safe, expected
):
    """Otherwise an asgid.py in that directory would run with the master's privileges."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "flags", SimpleNamespace(safe_path=is_safe))

    assert cli._with_safe_path(options) == expected


def test_the_next_program_of_a_checkout_is_imported_from_it(monkeypatch):
    """The package is in the working directory and nowhere else."""
    monkeypatch.chdir(Path(cli.__file__).parent.parent)

    assert cli._with_safe_path(["-m", "asgid"]) == ["-m", "asgid"]


def test_the_access_log_goes_to_stdout(start: Start) -> None:
    """Each request is one line of the combined format on stdout, even if a stop follows at once."""
    daemon = start(workers={"count": 1})

    assert get(daemon.address(), "/seen?by=me").status == 200
    daemon.stop()

    lines = (daemon.directory / "stdout").read_text().splitlines()
    assert len(lines) == 1
    assert '"GET /seen?by=me HTTP/1.1" 200 5' in lines[0]


def test_usr1_reopens_rotated_logs(start: Start, tmp_path: Path) -> None:
    """After a rotation and USR1, master and workers write to new files with the old names."""
    access = tmp_path / "access.log"
    daemon = start(workers={"count": 1}, log={"access": {"output": str(access)}})
    get(daemon.address(), "/before")
    eventually(lambda: "/before" in access.read_text())
    access.rename(tmp_path / "access.log.1")

    daemon.signal("USR1")
    eventually(access.exists)
    get(daemon.address(), "/after")
    eventually(lambda: "/after" in access.read_text())

    assert "/after" not in (tmp_path / "access.log.1").read_text()
