"""The servers that are compared: how each is started, which version it is, what it costs while it runs.

Each runs as its users run it, with as many workers as the scenario says and an access log only where it says so; asgid
keeps its metrics, limits and deadlines on. A server gets an environment of its own, so that no variable of the caller
tunes it. This file does not know how they are loaded.
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
    """A server is not installed here; the message names what to install."""


class ServerError(Exception):
    """A server did not start, does not answer as the scenario wants it, or lost a process; `last_words` may say why."""


@dataclass(frozen=True, slots=True)
class Server:
    """One way to serve. Words in braces stand for what each start decides: see `running`."""

    name: str
    command: str
    version: Callable[[], str]  #: raises MissingError
    note: str  #: for the report: what it is and what is switched on
    quiet: str = ""  #: more words, where no access log is wanted
    logging: str = ""  #: more words, where it is; what stands on standard output is then its file
    environment: Mapping[str, str] = field(default_factory=dict)
    build: str = ""  #: run once, in the folder of its name among the peers, before the first start
    reads_bodies: bool = True

    def can_play(self, scenario: Scenario) -> bool:
        is_invited = not scenario.players or self.name in scenario.players
        return is_invited and (self.reads_bodies or not scenario.body)


def distribution_version(name: str) -> str:
    """Return which version of a Python package is installed; raises MissingError where none is."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        raise MissingError(f"{name} is not installed (pip install {name})") from None


def _distribution(name: str) -> Callable[[], str]:
    return partial(distribution_version, name)


def commit(checkout: Path) -> str:
    """Return the commit of a checkout, and whether its asgid differs from that; nothing where git does not know."""
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
        said = subprocess.run(command, check=False, capture_output=True, text=True)
        if said.returncode:
            raise MissingError(f"{' '.join(command)} ended with {said.returncode}: {said.stderr.strip()[-200:]}")
        return said.stdout.strip()

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
            environment={"RUNTIME_DIRECTORY": "{directory}"},  # where its control socket goes
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
            "a master and its workers; HTTP in Rust on a thread of its own, uvloop",
            quiet="--no-access-log",
            logging="--access-log",
        ),
        Server(
            "gunicorn",
            "{python} -m gunicorn {app} -k asgi -w {workers} -b 127.0.0.1:{port} --asgi-loop uvloop --log-level warning"
            " --control-socket {directory}/gunicorn.ctl",
            _distribution("gunicorn"),
            "a master and its workers, of its own class `asgi`; uvloop, the parser it chooses itself",
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
            "uvloop answering fixed bytes to any read: no HTTP, no application; what the loop and the kernel cost",
            reads_bodies=False,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Usage:
    """What a server has used since it was started: all its processes, and those of its children that are gone."""

    cpu_s: float
    pids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Running:
    """A started server that answers."""

    pid: int
    port: int
    access_file: Path

    def usage(self) -> Usage:
        """Return user and system time of the whole tree, threads and children that are gone included."""
        with _all_alive():
            processes = _tree(self.pid)
            cpu_s = sum(_cpu_s(process) for process in processes)
        return Usage(cpu_s, frozenset(process.pid for process in processes))

    def check_answer(self, scenario: Scenario) -> str:
        """Ask once, and return in which way it was answered, where the answer says so, else nothing.

        Raises ServerError unless the answer is exactly the one that the scenario wants.
        """
        try:
            answer = _ask(self.port, scenario, timeout=START_S)
        except (OSError, HTTPException) as error:
            raise ServerError(f"no answer on port {self.port}: {error}") from None
        if (answer.status, answer.body) != (scenario.status, scenario.answer):
            found = f"{answer.status} with {len(answer.body)} bytes {answer.body[:60]!r}"
            raise ServerError(f"{scenario.path} answered {found}, not as wanted")
        return answer.way

    def check_access_log(self, requests: int) -> None:
        """Wait until the access log has a line for each of so many requests; raise ServerError after LOG_S without."""
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
    """Turn the end of a process, while it is looked at, into the fault of its server."""
    try:
        yield
    except psutil.Error as error:
        raise ServerError(f"a process could not be measured: {error}") from None


def _cpu_s(process: psutil.Process) -> float:
    """Return the time of one process, and of its children that are gone.

    Its own from its CPU clock, which counts nanoseconds: /proc/PID/stat counts ticks of 10 ms, which is 2 % of one
    second of load. Only that file knows of children, and none is expected to go.
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
    """Compile the server if it needs that. Raises MissingError where its tools refuse."""
    if server.build:
        # GOTOOLCHAIN and GOPROXY: what is installed is what is measured, and nothing comes from the network.
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

    It starts in `root`, where the application is found, and asgid itself before the one that is installed. Raises
    ServerError where it dies, is silent for START_S, or answers something else.
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
    """Return the file that is sent, made where it is not there yet."""
    path = directory / "file"
    if not path.exists():
        path.write_bytes(FILE)
    return path


def _log(server: Server, directory: Path) -> Path:
    return directory / f"{server.name}.log"


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Within, this thread and what it starts run on `core` only (affinity is inherited from the first instruction)."""
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
    """Return ports that the kernel chose and got back, for the servers bind for themselves."""
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
        body = websocket.converse(connection, scenario.body)
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
    """TERM to the server, KILL to what remains of its tree after STOP_S."""
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
