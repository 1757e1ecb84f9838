"""The real gunicorn with asgid's worker: signals, heartbeat and settings work, and no request is lost."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import pytest
from gunicorn.config import Config
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.client import Answer, Client, Load, get, in_thread, request
from tests.daemon import APPS, ENVIRONMENT, WITHIN_S, eventually, is_alive
from tests.e2e.test_passed_descriptors import needs_passrights

GUNICORN = Path(sys.executable).parent / "gunicorn"
#: gunicorn before 25.1 has no control socket and refuses the option that disables it.
NO_CONTROL_SOCKET = ("--no-control-socket",) if "control_socket" in Config().settings else ()

HELLO = {
    "asgi": """
async def hello_world(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"Hello, World!"})
""",
    "wsgi": """
def hello_world(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello, World!"]
""",
}


class Gunicorn:
    """A `gunicorn -k asgid.gunicorn.Worker` in a directory of its own; it ends with its `with` block."""

    def __init__(self, directory: Path, *arguments: str, app: str = "pid:application") -> None:
        self.directory = directory
        self._arguments = (app, "-k", "asgid.gunicorn.Worker", *NO_CONTROL_SOCKET, *arguments)
        if "--bind" not in arguments:
            self._arguments += ("--bind", "127.0.0.1:0")

    def __enter__(self) -> Self:
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(GUNICORN), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=os.environ | ENVIRONMENT | {"PYTHONPATH": str(APPS)},
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            print(self.log())
        left = [self.process.pid, *self.workers()]
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(WITHIN_S)
        for pid in left:  # by pid, and only in the session of this gunicorn
            if psutil.pid_exists(pid) and os.getsid(pid) == self.process.pid:
                psutil.Process(pid).kill()
        self.process.wait(WITHIN_S)

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def signal(self, name: str) -> None:
        os.kill(self.process.pid, getattr(signal, f"SIG{name}"))

    def workers(self) -> list[int]:
        try:
            return [child.pid for child in psutil.Process(self.process.pid).children()]
        except psutil.NoSuchProcess:
            return []

    def address(self) -> str:
        """Return the address, after a first request was answered."""
        line = re.compile(r"Listening at: (?:http://)?(unix:\S+|\S+:\d+)")
        address: str = eventually(lambda: line.findall(self.log()))[0]

        def answers() -> bool:
            try:
                get(address)
            except OSError:
                return False
            return True

        eventually(answers)
        return address


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Gunicorn]]:
    with ExitStack() as stack:
        yield lambda *arguments, **others: stack.enter_context(Gunicorn(tmp_path, *arguments, **others))


Served = Callable[..., Gunicorn]


@pytest.mark.parametrize("interface", HELLO)
@pytest.mark.parametrize("more", [(), ("--preload",), ("--workers", "2")])
def test_gunicorn_serves_a_module_with_asgids_worker(
    served: Served, tmp_path: Path, interface: str, more: tuple[str, ...]
) -> None:
    (tmp_path / "app.py").write_text(HELLO[interface])
    gunicorn = served("--bind", "localhost:0", *more, app="app:hello_world")

    answer = get(gunicorn.address())

    assert (200, b"Hello, World!", "asgid") == (answer.status, answer.body, answer.headers["server"])
    eventually(lambda: len(gunicorn.workers()) == (2 if "--workers" in more else 1))
    gunicorn.signal("TERM")
    assert gunicorn.process.wait(WITHIN_S) == 0


def test_a_socket_file_is_served(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    gunicorn = served("--bind", f"unix:{path}")

    assert get(f"unix:{path}" if gunicorn.address() else "").status == 200
    gunicorn.signal("TERM")
    assert gunicorn.process.wait(WITHIN_S) == 0
    assert not path.exists()


@needs_passrights
def test_a_client_cannot_pass_a_descriptor_to_a_worker_of_gunicorn(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    gunicorn = served("--bind", f"unix:{path}")
    assert get(f"unix:{path}" if gunicorn.address() else "").status == 200

    with Client(f"unix:{path}").socket as client, pytest.raises(PermissionError):
        socket.send_fds(client, [b"G"], [0])


def test_a_reload_replaces_the_worker_and_loses_no_request(served: Served) -> None:
    """At HUP, under load, the old worker or the new one answers each request."""
    gunicorn = served()
    with Load(gunicorn.address()) as load:
        before = gunicorn.workers()
        eventually(lambda: load.bodies)
        gunicorn.signal("HUP")
        eventually(lambda: len(load.bodies) == 2 and not set(before) & set(gunicorn.workers()))

    assert [] == load.failures


def test_websockets_are_served_and_closed_by_a_reload(served: Served) -> None:
    """With compression and the extension of `websockets`; HUP closes with 1012, as under asgid's own master."""
    gunicorn = served(app="echoes:application")
    with connect(f"ws://{gunicorn.address()}/", open_timeout=WITHIN_S) as socket:
        for message in ("short", "long " * 1000, b"\xff" * 100_000):
            socket.send(message)
            assert message == socket.recv(timeout=WITHIN_S)
        (worker,) = gunicorn.workers()
        assert "websockets/speedups." in Path(f"/proc/{worker}/maps").read_text()
        gunicorn.signal("HUP")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=WITHIN_S)

    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1012


def test_workers_are_recycled_and_lose_no_request(served: Served) -> None:
    """After `--max-requests`, with a jitter, three workers are replaced, and each request is answered."""
    gunicorn = served("--max-requests", "100", "--max-requests-jitter", "20", "--workers", "2")
    with Load(gunicorn.address()) as load:
        eventually(lambda: len(load.bodies) >= 5)

    assert [] == load.failures
    assert "worker leaves" in gunicorn.log()


def test_a_stop_lets_requests_complete(served: Served) -> None:
    gunicorn = served(app="ticks:application")
    with Client(gunicorn.address()) as client:
        client.send(request("GET", "/2"))
        client.head()
        assert client.chunk() == b"0"
        gunicorn.signal("TERM")

        assert [b"1", b""] == [client.chunk(), client.chunk()]
    assert gunicorn.process.wait(WITHIN_S) == 0


def test_a_request_that_does_not_end_is_answered_before_the_arbiter_kills(served: Served) -> None:
    """The worker exits before the graceful timeout, after the application's shutdown."""
    gunicorn = served("--graceful-timeout", "8", app="sleeper:application")
    with Client(gunicorn.address()) as client:
        client.send(request("GET", "/sleep"))
        eventually(lambda: "asleep" in gunicorn.log())
        gunicorn.signal("TERM")

        assert 503 == client.answer().status
    assert gunicorn.process.wait(WITHIN_S) == 0
    assert "farewell" in gunicorn.log()


def test_a_thread_that_never_returns_is_ended_by_the_arbiter(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its request is answered at the end of the graceful timeout; `--timeout` does not wait for the thread."""
    gate = tmp_path / "gate"
    monkeypatch.setenv("GATE", str(gate))
    gate.touch()
    gunicorn = served("--timeout", "4", "--graceful-timeout", "1", app="wsgi_gate:application")
    address = gunicorn.address()
    gate.unlink()
    (worker,) = gunicorn.workers()
    with Client(address) as client:
        client.send(request("GET"))
        eventually(lambda: gunicorn.log().count("holds") == 2)
        os.kill(worker, signal.SIGTERM)

        assert 503 == client.answer().status
    eventually(lambda: worker not in gunicorn.workers())
    gate.touch()
    assert 200 == get(gunicorn.address()).status
    assert "RuntimeError" not in gunicorn.log()


def test_a_blocked_loop_is_ended_by_the_arbiter(served: Served) -> None:
    gunicorn = served("--timeout", "4", app="stuck:application")
    first = get(gunicorn.address()).body
    with Client(gunicorn.address()) as client:
        client.send(request("GET", "/stuck"))
        eventually(lambda: gunicorn.workers() and int(first) not in gunicorn.workers())

    assert first != get(gunicorn.address()).body
    log = gunicorn.log()
    assert "WORKER TIMEOUT" in log
    assert "never_gives_the_loop_back" in log
    assert "exited with code 1" in log
    assert "CancelledError" not in log
    assert "failed in its lifespan" not in log


@pytest.mark.parametrize(("app", "path"), [("ticks:application", "/7"), ("wsgi_countdown:application", "/sse/")])
def test_a_stream_outlives_the_timeout(served: Served, monkeypatch: pytest.MonkeyPatch, app: str, path: str) -> None:
    """A worker that streams is not stuck: the stream takes more than twice `--timeout`."""
    monkeypatch.setenv("PACE_S", "0.07")
    gunicorn = served("--timeout", "3", "--threads", "2", app=app)
    address = gunicorn.address()
    worker = gunicorn.workers()
    begun = time.monotonic()
    with Client(address) as client:
        client.send(request("GET", path))
        answer = client.answer()

    assert 200 == answer.status
    assert time.monotonic() - begun > 6
    assert worker == gunicorn.workers()


def test_quit_ends_a_worker_at_once(served: Served) -> None:
    """Even during a request of twenty seconds; the arbiter starts another worker."""
    gunicorn = served(app="ticks:application")
    address = gunicorn.address()
    (worker,) = gunicorn.workers()
    with Client(address) as client:
        client.send(request("GET", "/20"))
        client.head()
        os.kill(worker, signal.SIGQUIT)

        eventually(lambda: worker not in gunicorn.workers(), within=15)
    assert get(gunicorn.address(), "/0").status == 200
    assert "exited with code" not in gunicorn.log()


def test_no_worker_outlives_its_arbiter(served: Served) -> None:
    gunicorn = served()
    gunicorn.address()
    (worker,) = gunicorn.workers()
    gunicorn.signal("KILL")
    gunicorn.process.wait(WITHIN_S)

    eventually(lambda: not is_alive(worker))


def test_logs_are_rotated_by_usr1(served: Served, tmp_path: Path) -> None:
    """asgid writes the access log in gunicorn's format, and opens it again by its name."""
    log = tmp_path / "access.log"
    gunicorn = served("--access-logfile", str(log), "--access-logformat", '%(h)s "%(r)s" %(s)s %({user-agent}i)s')
    address = gunicorn.address()
    with Client(address) as client:
        client.get("/before", **{"User-Agent": "me"})
    eventually(lambda: '127.0.0.1 "GET /before HTTP/1.1" 200 me\n' in log.read_text())
    log.rename(tmp_path / "access.log.1")
    gunicorn.signal("USR1")
    eventually(log.exists)  # the arbiter has created it and signals the worker next

    eventually(lambda: get(address, "/after") and "/after" in log.read_text())
    assert "/before" not in log.read_text()


FAILURES = {
    # case: (application, arguments, exit code, text in the log)
    "its startup fails": ("startup_fails:application", (), 3, "the database of this application is down"),
    "it is not an application": ("app:strange", (), 3, ": it is not an application"),
    "its import fails": ("raises_at_import:application", (), 3, "Worker failed to boot"),
    "TLS": ("pid:application", ("--certfile", "log", "--keyfile", "log"), 1, "let a proxy in front serve TLS"),
    "an unknown atom": ("pid:application", ("--access-logformat", "%(T)s"), 1, "access_log_format: %(T)s is not"),
}


@pytest.mark.parametrize(("app", "arguments", "code", "message"), FAILURES.values(), ids=FAILURES.keys())
def test_an_application_that_cannot_be_served_ends_gunicorn(
    served: Served, tmp_path: Path, app: str, arguments: tuple[str, ...], code: int, message: str
) -> None:
    """With its own exit codes, and without further attempts."""
    (tmp_path / "app.py").write_text("async def strange(scope, receive): ...\n")
    gunicorn = served(*arguments, app=app)

    assert gunicorn.process.wait(WITHIN_S) == code
    assert message in gunicorn.log()


def test_hooks_are_called(served: Served, tmp_path: Path) -> None:
    """The hooks of a worker's life; the last one still has gunicorn's sockets."""
    (tmp_path / "gunicorn.conf.py").write_text(
        "def post_worker_init(worker):\n    print('hook: begins', flush=True)\n"
        "def worker_exit(server, worker):\n    print('hook: ends on', worker.sockets[0].getsockname()[0], flush=True)\n"
    )
    gunicorn = served()
    assert get(gunicorn.address()).status == 200
    gunicorn.signal("TERM")

    assert gunicorn.process.wait(WITHIN_S) == 0
    assert ["hook: begins", "hook: ends on 127.0.0.1"] == re.findall("hook: .*", gunicorn.log())


def test_gunicorns_threads_limit_the_requests_of_wsgi(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two requests run, and the third one waits until it is served."""
    gate = tmp_path / "gate"
    monkeypatch.setenv("GATE", str(gate))
    gate.touch()
    gunicorn = served("--threads", "2", app="wsgi_gate:application")
    address = gunicorn.address()
    gate.unlink()
    answers: list[Answer] = []
    clients = [in_thread(lambda: answers.append(get(address))) for _ in range(3)]
    (worker,) = map(psutil.Process, gunicorn.workers())
    eventually(lambda: [end.status for end in worker.net_connections("tcp")].count("ESTABLISHED") == 3)
    eventually(lambda: gunicorn.log().count("holds") == 3)  # including the first request
    gate.touch()
    for client in clients:
        client.join(WITHIN_S)

    assert [b"held most=2"] * 3 == [answer.body for answer in answers]
