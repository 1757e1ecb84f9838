"""A real asgid for tests: its settings, process, log, metrics endpoint, and end.

Nothing that a Daemon has started is left after its `with` block; a process that must be killed is an AssertionError. It
reads only what an operator can read: the log, the metrics address, /proc. It imports no module of asgid.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil
from prometheus_client.parser import text_string_to_metric_families

T = TypeVar("T")
Settings = Mapping[str, Any]  # values of JSON and TOML; tables differ in their types
Series = tuple[str, frozenset[tuple[str, str]]]  # name and labels of a sample

APPS = Path(__file__).parent / "apps"
ASGID = Path(sys.executable).parent / "asgid"
RELOAD_ENDS = ("reload committed", "reload rolled back", "reload refused")

#: Max time of any wait. It only ends a test that would hang, so it is long: a test must pass on a machine that is four
#: times slower or stalls for a second. A deadline that must run out, and a bound that detects a fault, stand in their
#: tests.
WITHIN_S = 30.0

#: Two workers on ports of the kernel's choice. The end of the grace and ABRT are two seconds apart, half of `kill`:
#: with less, a stall of one second would abort a worker that leaves in order.
DEFAULTS: dict[str, Any] = {
    "app": {"target": "hello:application", "directory": str(APPS)},
    "listen": [{"bind": "127.0.0.1:0"}],
    "workers": {"count": 2},
    "timeouts": {"boot": "60s", "graceful": "5s", "kill": "4s"},
    "reload": {"settle": "0.1s"},
    "metrics": {"bind": "127.0.0.1:0"},
}

#: Python trusts a .pyc whose source has the same second and size; a test rewrites a module faster.
ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1"}


def eventually(predicate: Callable[[], T], within: float = WITHIN_S) -> T:
    """Return the first true result of `predicate`, called every 10 ms. AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s; the last answer was {answer!r}")
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that has exited and waits to be reaped does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def merged(settings: Settings, changes: Settings) -> dict[str, Any]:
    """Return `settings` with `changes` merged in, table by table; a list replaces a list."""
    result = dict(settings)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def toml(settings: Settings) -> str:
    """Return `settings` as TOML: a mapping is a table, a list of mappings an array of tables, and None leaves a key
    out.
    """
    return "\n".join(_table("", settings)) + "\n"


def _table(path: str, table: Settings) -> Iterator[str]:
    inner: list[str] = []
    for key, value in table.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            inner += [f"[{name}]", *_table(name, value)]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for row in value:
                inner += [f"[[{name}]]", *_table(name, row)]
        elif value is not None:
            yield f"{key} = {json.dumps(value)}"  # strings, numbers, booleans and arrays of JSON are valid TOML
    yield from inner


def asgid(
    *arguments: str, within: float = WITHIN_S, stdin: str | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `asgid ARGUMENTS` to its end. subprocess.TimeoutExpired after `within` seconds."""
    return subprocess.run(
        [str(_installed()), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=within,
        cwd=cwd,
        env=os.environ | ENVIRONMENT,
        check=False,
    )


#: Hands sockets over as systemd does before it executes a program: they are its descriptors 3, 4, ...
_SYSTEMD = """
import fcntl, json, os, sys
sockets = json.loads(sys.argv[1])
copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for _, fd in sockets]
for _, fd in sockets:
    os.close(fd)
for number, copy in enumerate(copies, 3):
    os.dup2(copy, number)
names = ":".join(name for name, _ in sockets)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names}
os.execv(sys.argv[2], sys.argv[2:])
"""


def as_systemd(*sockets: tuple[str, int]) -> tuple[str, ...]:
    """Return the `prefix` that hands these sockets to a daemon, by name and descriptor, as a .socket unit does."""
    return (sys.executable, "-c", _SYSTEMD, json.dumps(sockets))


def _installed() -> Path:
    if not ASGID.exists():
        raise AssertionError(f"{ASGID} is missing: the e2e tests run the installed program; `make test` installs it")
    return ASGID


class Daemon:
    """One `asgid -c asgid.toml` in a directory of its own; it ends with its `with` block."""

    running: list["Daemon"] = []  # noqa: RUF012 - every Daemon that lives, so that a failing test can print their logs

    def __init__(self, directory: Path, settings: Settings, arguments: tuple[str, ...] = ("-c", "asgid.toml")) -> None:
        self.directory = directory
        self.settings = merged(DEFAULTS, settings)
        self.arguments = arguments
        self.program: Path | None = None  #: the asgid of another environment
        self.prefix: tuple[str, ...] = ()  #: the command that executes it, with arguments
        self.descriptors: tuple[int, ...] = ()  #: inherited beside the standard streams
        self.environment: dict[str, str] = {}  #: added to the environment of this process
        self.process: subprocess.Popen[bytes] | None = None

    # -- life

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.is_running:
                self.stop()
        finally:
            left = self._end_all()
        if left:
            raise AssertionError(f"left behind and ended by force: {', '.join(left)}")

    def start(self) -> Self:
        """Start it and wait until every worker is ready. AssertionError if it exits or is late."""
        self.launch()
        eventually(self._is_up)
        return self

    def launch(self) -> Self:
        """Start it without waiting."""
        self.write_settings()
        with (self.directory / "stdout").open("ab") as stdout, (self.directory / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(
                [*self.prefix, str(self.program or _installed()), *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=self.directory,
                env=os.environ | ENVIRONMENT | self.environment,
                pass_fds=self.descriptors,
                start_new_session=True,  # the session shows that a worker is ours even after its master has exited
            )
        Daemon.running.append(self)
        return self

    def _is_up(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            code = None if self.process is None else self.process.returncode
            raise AssertionError(f"asgid ended with {code} before it was ready:\n{self.log_text()}")
        return len(self.log_events("worker ready")) >= int(self.settings["workers"]["count"])

    def stop(self, within: float = WITHIN_S) -> int:
        """Send TERM, wait, and return the exit code. AssertionError after `within` seconds."""
        self.signal("TERM")
        return self.wait(within)

    def wait(self, within: float = WITHIN_S) -> int:
        """Wait for its end and return the exit code. AssertionError after `within` seconds."""
        assert self.process is not None
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"asgid still runs {within:g} s after it should have ended") from None

    def _end_all(self) -> list[str]:
        """Kill each remaining process of this daemon's session by pid, and return their commands."""
        if self in Daemon.running:
            Daemon.running.remove(self)
        left = self.processes()
        names = [str(process) for process in left]
        for process in left:
            with suppress(psutil.NoSuchProcess):  # it has exited meanwhile
                process.kill()
        if self.process is not None:
            self.process.wait(WITHIN_S)
        psutil.wait_procs(left, timeout=WITHIN_S)
        return names

    def signal(self, name: str) -> None:
        """Send SIG`name` to the master."""
        assert self.process is not None
        os.kill(self.process.pid, getattr(signal, f"SIG{name}"))

    def reload(self, within: float = WITHIN_S) -> dict[str, Any]:
        """Send HUP, wait for the result, and return its log event."""
        seen = len(self.log_events(*RELOAD_ENDS))
        self.signal("HUP")
        return eventually(lambda: self.log_events(*RELOAD_ENDS)[seen:], within)[0]

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """The pid of the master."""
        assert self.process is not None
        return self.process.pid

    def processes(self) -> list[psutil.Process]:
        """Return each running process of the session, with master and orphans."""
        found = []
        for process in psutil.process_iter(["status"]):
            try:
                if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found

    def workers(self) -> list[int]:
        """Return the pids of the workers in /status, by slot."""
        return [worker["pid"] for worker in self.status()["workers"]]

    # -- files

    def configure(self, **tables: Any) -> None:
        """Merge `tables` into the settings and write the file; the daemon reads it at the next HUP."""
        self.settings = merged(self.settings, tables)
        self.write_settings()

    def write_settings(self) -> None:
        self.file.write_text(toml(self.settings))

    @property
    def file(self) -> Path:
        return self.directory / "asgid.toml"

    def log_text(self) -> str:
        """Return all of its stderr, with Python's stack dumps."""
        return (self.directory / "stderr").read_text(errors="replace")

    def log_events(self, *names: str, **fields: Any) -> list[dict[str, Any]]:
        """Return the log's events in order: those with one of these names (default: all) and these fields."""
        # The last line may still be incomplete.
        whole, _, _ = self.log_text().rpartition("\n")
        events = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [
            event
            for event in events
            if (not names or event["event"] in names)
            and all(event.get(field) == value for field, value in fields.items())
        ]

    # -- addresses

    def address(self, listener: str | None = None) -> str:
        """Return the bound address of `listener` (default: the first), from the log."""
        events = self.log_events("listening") if listener is None else self.log_events("listening", listener=listener)
        return str(events[0]["address"])

    @property
    def url(self) -> str:
        return f"http://{self.address()}"

    @property
    def metrics_address(self) -> str:
        return str(self.log_events("metrics")[0]["address"])

    # -- the endpoint

    def probe(self, path: str, accept: str = "*/*") -> tuple[int, str, str]:
        """Send GET `path` to the metrics address; return status, content type and text."""
        connection = http.client.HTTPConnection(self.metrics_address, timeout=WITHIN_S)
        try:
            connection.request("GET", path, headers={"Accept": accept})
            response = connection.getresponse()
            return response.status, response.getheader("Content-Type", ""), response.read().decode()
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        code, _, text = self.probe("/status")
        assert code == 200, text
        answer: dict[str, Any] = json.loads(text)
        return answer

    def metrics(self) -> dict[Series, float]:
        """Return every sample of /metrics."""
        _, _, text = self.probe("/metrics")
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples with this name and these labels; 0 without any."""
        wanted = labels.items()
        return sum(value for (sample, pairs), value in self.metrics().items() if sample == name and wanted <= pairs)

    def eventually(self, predicate: Callable[[], T], within: float = WITHIN_S) -> T:
        return eventually(predicate, within)
