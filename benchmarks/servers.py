"""The compared servers: their command, their version, and their cost while they run.

Each runs as its users run it, with the workers of the scenario, and with an access log only if the scenario has one.
asgid keeps its metrics, limits and deadlines on. A server gets its own environment, so no variable of the caller tunes
it. This file does not depend on the load.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException
from importlib import metadata
from pathlib import Path

import psutil

from benchmarks import websocket
from benchmarks.scenarios import FILE, FILE_VARIABLE, WAY, Scenario

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "benchmarks" / "peers"
LOG_S = 5.0
START_S = 15.0  # hypercorn, the slowest peer, takes 0.25 on an idle machine
STOP_S = 10.0


class MissingError(Exception):
    """A server is not installed here; the message names the package."""


class ServerError(Exception):
    """A server did not start, sent a wrong answer, or lost a process; `last_words` may have the reason."""


@dataclass(frozen=True, slots=True)
class Server:
    """One way to serve. `running` replaces the words in braces at each start."""

    name: str
    command: str
    version: Callable[[], str]  #: raises MissingError
    note: str  #: for the report: its kind and its features that are on
    quiet: str = ""  #: more words, without an access log
    logging: str = ""  #: more words, with an access log; standard output is then its file
    environment: Mapping[str, str] = field(default_factory=dict)
    build: str = ""  #: run once, in its folder among the peers, before the first start
    reads_bodies: bool = True

    def can_play(self, scenario: Scenario) -> bool:
        is_invited = not scenario.players or self.name in scenario.players
        return is_invited and (self.reads_bodies or not scenario.body)


def distribution_version(name: str) -> str:
    """Return the installed version of a Python package. Raises MissingError without one."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        raise MissingError(f"{name} is not installed (pip install {name})") from None


def _distribution(name: str) -> Callable[[], str]:
    return partial(distribution_version, name)


def commit(checkout: Path) -> str:
    """Return the commit of a checkout, and whether its asgid differs from that; "" without git."""
    git = ("git", "-C", os.fspath(checkout))
    try:
        known = subprocess.run((*git, "describe", "--always"), capture_output=True, text=True, check=False)
        same = subprocess.run((*git, "diff", "--quiet", "HEAD", "--", "asgid"), capture_output=True, check=False)
    except FileNotFoundError:
        return ""
    return known.stdout.strip() + (", changed" if same.returncode == 1 and known.stdout else "")


def _program(package: str, *command: str) -> Callable[[], str]:
    def version() -> str:
        if shutil.which(command[0]) is None:
            raise MissingError(f"{command[0]} is not on PATH (Debian: apt-get install {package})")
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise MissingError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-200:]}")
        return done.stdout.strip()

    return version


SERVERS = {
    server.name: server
    for server in (
        Server(
            "asgid",
            "{python} -m asgid {app} -b 127.0.0.1:{port} -w {workers} --set metrics.bind=127.0.0.1:{metrics_port}"
            " --set http.sendfile=true",
            _distribution("asgid"),
            "a master and its workers; metrics, limits and deadlines on, as shipped; http.sendfile on",
            quiet="--set log.access.enabled=false",
            logging="--set log.access.output={access_file}",
            environment={"RUNTIME_DIRECTORY": "{directory}"},  # for its control socket
        ),
        Server(
            "uvicorn",
            "{python} -m uvicorn {app} --host 127.0.0.1 --port {port} --workers {workers} --loop uvloop"
            " --http httptools --ws websockets-sansio",
            _distribution("uvicorn"),
            "one process, and with two workers a parent; uvloop, httptools, the sans-IO core of websockets",
            quiet="--no-access-log --log-level warning",
        ),
        Server(
            "granian",
            "{python} -m granian {app} --interface asgi --host 127.0.0.1 --port {port} --workers {workers}"
            " --loop uvloop --log-level warning",
            _distribution("granian"),
            "a master and its workers; HTTP in Rust on another thread, uvloop",
            quiet="--no-access-log",
            logging="--access-log",
        ),
        Server(
            "h2corn",
            "{python} -m h2corn {app} --bind 127.0.0.1:{port} --workers {workers} --loop uvloop --no-access-log",
            _distribution("h2corn"),
            "a master and its workers; HTTP in Rust on two other threads, uvloop",
        ),
        Server(
            "gunicorn",
            "{python} -m gunicorn {app} -k asgi -w {workers} -b 127.0.0.1:{port} --asgi-loop uvloop --log-level warning"
            " --control-socket {directory}/gunicorn.ctl",
            _distribution("gunicorn"),
            "a master and its workers, of its own class `asgi`; uvloop, its default parser",
        ),
        Server(
            "hypercorn",
            "{python} -m hypercorn {app} -k uvloop -w {workers} -b 127.0.0.1:{port} --log-level WARNING",
            _distribution("hypercorn"),
            "a master and its workers; uvloop, h11",
        ),
        Server(
            "node",
            "node benchmarks/peers/node.mjs {port}",
            _program("nodejs", "node", "--version"),
            "node:http, one process; the same answers in JavaScript",
        ),
        Server(
            "go",
            "{directory}/go-peer {port}",
            _program("golang-go", "go", "env", "GOVERSION"),
            "net/http, one process, GOMAXPROCS=1; the same answers in Go",
            environment={"GOMAXPROCS": "1"},
            build="go build -buildvcs=false -o {directory}/go-peer .",
        ),
        Server(
            "floor",
            "{python} -m benchmarks.peers.floor {port} {scenario}",
            _distribution("uvloop"),
            "uvloop answers each read with fixed bytes, without HTTP or application: the cost of loop and kernel",
            reads_bodies=False,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Usage:
    """The use of a server since its start: all its processes, including children that have ended."""

    cpu_s: float
    pids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Running:
    """A started server that answers."""

    pid: int
    port: int
    access_file: Path

    def usage(self) -> Usage:
        """Return user and system time of the whole tree, including threads and children that have ended."""
        with _all_alive():
            processes = _tree(self.pid)
            cpu_s = sum(_cpu_s(process) for process in processes)
        return Usage(cpu_s, frozenset(process.pid for process in processes))

    def check_answer(self, scenario: Scenario) -> str:
        """Send one request, and return the way in which the answer was sent, or "".

        Raises ServerError unless the answer is exactly that of the scenario.
        """
        try:
            answer = _ask(self.port, scenario, timeout=START_S)
        except (OSError, HTTPException) as error:
            raise ServerError(f"no answer on port {self.port}: {error}") from None
        if (answer.status, answer.body) != (scenario.status, scenario.answer):
            found = f"{answer.status} with {len(answer.body)} bytes {answer.body[:60]!r}"
            raise ServerError(f"{scenario.path} answered {found}, not as expected")
        return answer.way

    def check_access_log(self, requests: int) -> None:
        """Wait until the access log has a line for each request. Raises ServerError after LOG_S."""
        deadline = time.monotonic() + LOG_S
        while (lines := _lines(self.access_file)) < requests:
            if time.monotonic() > deadline:
                raise ServerError(f"its access log has {lines} lines after {requests} requests")
            time.sleep(0.05)  # a server may write in batches; the deadline above ends the wait

    def resident_bytes(self) -> int:
        """Return the proportional set size of the whole tree: pages that forked processes share count once."""
        with _all_alive():
            return sum(process.memory_full_info().pss for process in _tree(self.pid))


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    way: str


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(2**20), b""))


@contextmanager
def _all_alive() -> Iterator[None]:
    """Raise ServerError if a process ends while it is measured."""
    try:
        yield
    except psutil.Error as error:
        raise ServerError(f"a process could not be measured: {error}") from None


def _cpu_s(process: psutil.Process) -> float:
    """Return the time of one process, and of its children that have ended.

    Its own time comes from its CPU clock, which counts nanoseconds: /proc/PID/stat counts ticks of 10 ms, 2 % of one
    second of load. Only that file has the time of children, which normally do not end.
    """
    clock = ~process.pid << 3 | 2  # the id that clock_getcpuclockid(3) makes: this process, as the scheduler counts
    try:
        own_s = time.clock_gettime(clock)
    except OSError:
        raise psutil.NoSuchProcess(process.pid) from None
    return own_s + sum(process.cpu_times()[2:4])


def _tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def build(server: Server, directory: Path) -> None:
    """Compile the server if it needs that. Raises MissingError if its tools fail."""
    if server.build:
        # GOTOOLCHAIN and GOPROXY: use the installed Go, and nothing from the network.
        environment = _environment({"GOTOOLCHAIN": "local", "GOPROXY": "off"})
        command = [part.format(directory=directory) for part in server.build.split()]
        done = subprocess.run(
            command, cwd=PEERS / server.name, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise MissingError(f"{server.name} does not build: {done.stderr.strip()[-500:]}")


@contextmanager
def running(
    server: Server, scenario: Scenario, directory: Path, core: int | None = None, root: Path = ROOT
) -> Iterator[Running]:
    """Start `server` on a free port (on one `core`, if given); wait until it answers `scenario`; end it by pid.

    It starts in `root`, which has the application, and an asgid that comes before the installed one. Raises ServerError
    if it dies, does not answer within START_S, or sends another answer.
    """
    port, metrics_port = _free_ports(2)
    access_file = directory / f"{server.name}.access"
    words = {
        "port": port,
        "metrics_port": metrics_port,
        "access_file": access_file,
        "workers": scenario.workers,
        "scenario": scenario.name,
        "directory": directory,
        "python": sys.executable,
        "app": scenario.app,
    }
    options = server.logging if scenario.has_access_log else server.quiet
    command = [part.format_map(words) for part in f"{server.command} {options}".split()]
    additions = {key: value.format_map(words) for key, value in server.environment.items()}
    if scenario.answer == FILE:
        additions[FILE_VARIABLE] = str(_file(directory))
    environment = _environment(additions)
    with _log(server, directory).open("wb") as log, access_file.open("wb") as access, pinned(core):
        output = access if scenario.has_access_log else log
        process = subprocess.Popen(
            command, cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=log
        )
    try:
        _wait_for_answer(process, port, scenario)
        instance = Running(process.pid, port, access_file)
        instance.check_answer(scenario)
        yield instance
    finally:
        _end(process)


def last_words(server: Server, directory: Path) -> str:
    """Return the end of the log of the server's last start, up to 600 characters."""
    log = _log(server, directory)
    return log.read_text(errors="replace")[-600:].strip() if log.exists() else ""


def _file(directory: Path) -> Path:
    """Return the file to send; make it if it does not exist."""
    path = directory / "file"
    if not path.exists():
        path.write_bytes(FILE)
    return path


def _log(server: Server, directory: Path) -> Path:
    return directory / f"{server.name}.log"


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Run this thread and its children on `core` only (children inherit the affinity from their first instruction)."""
    before = os.sched_getaffinity(0)
    try:
        if core is not None:
            os.sched_setaffinity(0, {core})
        yield
    finally:
        os.sched_setaffinity(0, before)


def _environment(additions: Mapping[str, str]) -> dict[str, str]:
    kept = ("HOME", "LANG", "PATH", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | dict(additions)


def _free_ports(count: int) -> list[int]:
    """Return ports that the kernel chose; they are closed again, because the servers bind them."""
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


def _wait_for_answer(process: subprocess.Popen[bytes], port: int, scenario: Scenario) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            _ask(port, scenario, timeout=max(0.1, deadline - time.monotonic()))
        except (OSError, HTTPException) as error:
            if process.poll() is not None:
                raise ServerError(f"ended with {process.returncode} before it answered") from None
            if time.monotonic() > deadline:
                raise ServerError(f"no answer on port {port} within {START_S:g} s: {error}") from None
            time.sleep(0.02)  # until it listens; the deadline above ends the wait
        else:
            return


def _ask(port: int, scenario: Scenario, timeout: float) -> _Answer:
    return (_ask_over_websocket if scenario.is_websocket else _ask_over_http)(port, scenario, timeout)


def _ask_over_websocket(port: int, scenario: Scenario, timeout: float) -> _Answer:
    with websocket.connect(port, scenario.path, timeout) as connection:
        body = websocket.echo(connection, scenario.body)
        websocket.close(connection)
    return _Answer(101, body, "")


def _ask_over_http(port: int, scenario: Scenario, timeout: float) -> _Answer:
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(scenario.method, scenario.path, scenario.body or None, dict(scenario.headers))
        response = connection.getresponse()
        return _Answer(response.status, response.read(), response.getheader(WAY.decode(), ""))
    finally:
        connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Send TERM to the server, and KILL to the rest of its tree after STOP_S."""
    try:
        tree = _tree(process.pid)
    except psutil.NoSuchProcess:
        tree = []
    process.terminate()
    _, alive = psutil.wait_procs(tree, timeout=STOP_S)
    for remaining in alive:
        remaining.kill()
    psutil.wait_procs(alive, timeout=STOP_S)
    process.wait()
