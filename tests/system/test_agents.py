"""Monitoring agents that start before the server: each delivers the same data under asgid as under gunicorn.

The collectors are servers on loopback. The programs are in a virtual environment of `environments.py`.
"""

import gzip
import json
import os
import socket
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.client import get
from tests.daemon import WITHIN_S, eventually
from tests.system.environments import programs_of
from tests.system.needs import ROOT

REQUESTS = 8

APPLICATION = """
async def application(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    if scope["path"].startswith("/fails"):
        raise ValueError(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""
OTEL = """
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
application = OpenTelemetryMiddleware(application)
"""
DDTRACE = """
from ddtrace.contrib.asgi import TraceMiddleware
application = TraceMiddleware(application)
"""
SENTRY = """
import os, sentry_sdk
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
sentry_sdk.init(dsn=os.environ["DSN"])
application = SentryAsgiMiddleware(application)
"""
NEW_RELIC = """
import newrelic.agent
inner = application
async def named(scope, receive, send):
    newrelic.agent.set_transaction_name(scope["path"])
    await inner(scope, receive, send)
application = newrelic.agent.ASGIApplicationWrapper(named)
"""
NEW_RELIC_SETTINGS = f"""
[newrelic]
license_key = {"0" * 40}
app_name = shop
developer_mode = true
audit_log_file = audit.log
log_file = agent.log
startup_timeout = 10
"""


@pytest.fixture(scope="session")
def agents() -> Path:
    """Return the directory of the programs. They contain C code, which a machine without a compiler cannot build."""
    return programs_of(Path(__file__).with_name("agents.txt"), "--only-binary", ":all:")


@contextmanager
def collector() -> Iterator[tuple[int, list[bytes]]]:
    """Answer every request with 200; yield the port and the list of the bodies."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            elif self.headers.get("Content-Encoding") == "deflate":
                body = zlib.decompress(body)
            bodies.append(body)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST = do_PUT = _take  # noqa: N815 - the names that the library calls

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port, bodies
    finally:
        server.shutdown()
        server.server_close()


def serve(
    server: str, wrapper: list[str], home: Path, port: int, environment: Mapping[str, str], paths: list[str]
) -> str:
    """Serve `app:application` in two workers, request `paths`, and stop; return the output."""
    address = f"127.0.0.1:{port}"
    command = {
        "asgid": ["-m", "asgid", "-b", address, "-w", "2", "--set", "metrics.enabled=false", "app:application"],
        "gunicorn": ["-m", "gunicorn", "-k", "asgi", "-b", address, "-w", "2", "app:application"],
    }[server]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "DD_", "NEW_RELIC_"))}
    environ = {**clean, "PYTHONPATH": f"{home}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    with (home / f"{server}.log").open("w+") as log:
        process = subprocess.Popen([*wrapper, *command], cwd=home, env=environ, stdout=log, stderr=log)
        try:
            eventually(lambda: process.poll() is not None or accepts(port), 60)
            statuses = [get(address, path).status for path in paths]
            process.terminate()
            code = process.wait(60)
        finally:
            process.kill()
            process.wait(WITHIN_S)
        log.seek(0)
        text = log.read()
    assert code == 0, text
    assert set(statuses) <= {200, 500}, text
    return text


def accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


CASES = {
    "opentelemetry-instrument": (
        ["opentelemetry-instrument", "python"],
        OTEL,
        "/span",
        {
            "OTEL_SERVICE_NAME": "shop",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:{port}",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        },
    ),
    "ddtrace-run": (
        ["ddtrace-run", "python"],
        DDTRACE,
        "/span",
        {
            "DD_TRACE_AGENT_URL": "http://127.0.0.1:{port}",
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            "DD_REMOTE_CONFIGURATION_ENABLED": "false",
            "DD_CRASHTRACKING_ENABLED": "false",
        },
    ),
    "sentry-sdk": (["python"], SENTRY, "/fails", {"DSN": "http://key@127.0.0.1:{port}/1"}),
}


@pytest.mark.parametrize("server", ["gunicorn", "asgid"])
@pytest.mark.parametrize("agent", CASES)
def test_an_agent_delivers_everything(
    agents: Path, tmp_path: Path, port: Callable[[], int], agent: str, server: str
) -> None:
    """Also the data from just before the stop, which the agent's exit handler sends from the worker."""
    wrapper, more, prefix, environment = CASES[agent]
    (tmp_path / "app.py").write_text(APPLICATION + more)
    paths = [f"{prefix}-{number}-of-{server}" for number in range(REQUESTS)]
    with collector() as (collects, bodies):
        environ = {name: value.format(port=collects) for name, value in environment.items()}
        text = serve(server, [str(agents / program) for program in wrapper], tmp_path, port(), environ, paths)
        got = b"".join(bodies)

    assert [path for path in paths if path.encode() not in got] == [], text


@pytest.mark.parametrize("server", ["gunicorn", "asgid"])
def test_new_relic_delivers_everything(agents: Path, tmp_path: Path, port: Callable[[], int], server: str) -> None:
    """Its developer mode has no collector, but writes the data to a file."""
    (tmp_path / "app.py").write_text(APPLICATION + NEW_RELIC)
    (tmp_path / "newrelic.ini").write_text(NEW_RELIC_SETTINGS)
    paths = [f"/span-{number}-of-{server}" for number in range(REQUESTS)]
    wrapper = [str(agents / "newrelic-admin"), "run-python"]
    text = serve(server, wrapper, tmp_path, port(), {"NEW_RELIC_CONFIG_FILE": "newrelic.ini"}, paths)
    sent = (tmp_path / "audit.log").read_text()

    assert [path for path in paths if path not in sent] == [], text


@pytest.mark.parametrize("patch", ["", "patch = _exit\n"])
@pytest.mark.parametrize("server", ["gunicorn", "asgid"])
def test_coverage_reports_the_lines_that_workers_executed(
    agents: Path, tmp_path: Path, port: Callable[[], int], server: str, patch: str
) -> None:
    """`coverage run -m asgid`: each worker saves its data at its end.

    `coverage run` saves its data when the program returns. A worker of asgid ends with os._exit instead, so that it
    runs no code of the master. `patch = _exit` is coverage's setting for such processes; asgid does not need it.
    """
    (tmp_path / "app.py").write_text(APPLICATION)
    (tmp_path / ".coveragerc").write_text(f"[run]\nparallel = true\n{patch}include = app.py\n")
    coverage = [str(agents / "coverage")]
    text = serve(server, [*coverage, "run"], tmp_path, port(), {}, ["/hello"])
    for command in (["combine"], ["json", "-o", "report.json"]):
        subprocess.run([*coverage, *command], cwd=tmp_path, check=True, capture_output=True)
    report = json.loads((tmp_path / "report.json").read_text())
    lines = APPLICATION.splitlines()
    executed = "\n".join(lines[number - 1] for number in report["files"]["app.py"]["executed_lines"])

    assert "http.response.body" in executed, text
