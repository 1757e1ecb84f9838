"""The worker class for gunicorn: `gunicorn -k asgid.gunicorn.Worker module:app` supervises asgid's worker.

The heartbeat, the signals and the settings are gunicorn's; `SETTINGS` translates the settings, and a setting without a
counterpart is refused before the start. The worker is the same as under asgid's master. This module holds the master's
end of its lifeline, and sends the messages that the arbiter cannot send.
"""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from gunicorn.workers import base

from asgid import config, descriptors, pipes, wire
from asgid.assignment import Assignment, Listener
from asgid.board import BYTES, STARTED, Board, Row
from asgid.config import translation
from asgid.config.tables import WebSocket
from asgid.errors import BootError, ConfigError
from asgid.log import Log
from asgid.pipes import PipeEnd
from asgid.worker import main, server
from asgid.worker.app.interface import adapt
from asgid.worker.process import ending
from asgid.worker.process.lifeline import Lifeline
from asgid.worker.process.malloc import raise_trim_threshold

Cfg: TypeAlias = Any  # gunicorn has no types

#: The arbiter kills at the end of its graceful timeout. Running requests get a 503 this long before it.
_RESERVE_S = 2.0
#: How long a client may still send a request on an idle connection; the response closes the connection.
_LINGER_S = 0.5


def _grace_s(cfg: Cfg) -> float:
    grace_s: float = cfg.graceful_timeout
    return max(grace_s - _RESERVE_S, grace_s / 2)


def _output(name: str | None, stream: str) -> str:
    return stream if name in (None, "-") else str(name)


def _umask() -> str:
    mask = os.umask(0)
    os.umask(mask)
    return f"{mask:04o}"


#: asgid's key -> its value for gunicorn's settings.
SETTINGS: Final[Mapping[str, Callable[[Cfg], object]]] = {
    "app.root_path": lambda cfg: getattr(cfg, "root_path", "").rstrip("/"),
    "app.lifespan": lambda cfg: getattr(cfg, "asgi_lifespan", "auto"),
    "workers.threads": lambda cfg: cfg.threads,
    "timeouts.graceful": _grace_s,
    "timeouts.keep_alive": lambda cfg: translation.keep_alive_s(cfg.keepalive),
    "limits.connections": lambda cfg: cfg.worker_connections,
    "limits.request_line": lambda cfg: translation.request_line_bytes(cfg.limit_request_line),
    "limits.header_count": lambda cfg: translation.header_count(cfg.limit_request_fields),
    "limits.header_size": lambda cfg: translation.header_bytes(cfg.limit_request_field_size),
    "websocket.max_message": lambda cfg: getattr(cfg, "websocket_max_message_size", WebSocket().max_message),
    "proxy.trusted": lambda cfg: [*cfg.forwarded_allow_ips, "unix"],  # gunicorn trusts clients of a socket file too
    "log.level": lambda cfg: {"critical": "error"}.get(cfg.loglevel.lower(), cfg.loglevel.lower()),
    "log.output": lambda cfg: _output(cfg.errorlog, "stderr"),
    "log.format": lambda _: "text",
    "log.access.enabled": lambda cfg: cfg.accesslog is not None,
    "log.access.output": lambda cfg: _output(cfg.accesslog, "stdout"),
    "log.access.format": lambda cfg: translation.access_format(cfg.access_log_format),
    "process.name": lambda cfg: cfg.proc_name,
    "process.umask": lambda _: _umask(),  # the process's, which the arbiter has set if configured
}

#: Setting of gunicorn without effect here -> its allowed values, and the sentence for any other value.
REFUSED: Final[Mapping[str, tuple[tuple[object, ...], str]]] = {
    "keyfile": ((None,), "let a proxy in front serve TLS"),
    "certfile": ((None,), "let a proxy in front serve TLS"),
    "protocol": (("http",), "asgid serves HTTP"),
    "http_protocols": (("h1", ["h1"]), "asgid serves HTTP/1.1"),
    "statsd_host": ((None,), "only asgid's own master serves metrics"),
}


def settings_of(cfg: Cfg) -> config.Config:
    """Return asgid's settings for gunicorn's. Raises RuntimeError for a refused one; gunicorn shows the message."""
    for name, (allowed, instead) in REFUSED.items():
        if (value := getattr(cfg, name, allowed[0])) not in allowed:
            raise RuntimeError(f"asgid.gunicorn.Worker does not support {name} ({value!r}): {instead}")
    if cfg.proxy_protocol != "off" and cfg.proxy_allow_ips != cfg.forwarded_allow_ips:
        raise RuntimeError("asgid.gunicorn.Worker needs the same value for proxy_allow_ips and forwarded_allow_ips")
    try:
        overrides = {key: json.dumps(value(cfg)) for key, value in SETTINGS.items()}
        return config.parse(None, "gunicorn", overrides=overrides, target="gunicorn:app")
    except (ConfigError, ValueError) as error:
        raise RuntimeError(f"asgid.gunicorn.Worker: {error}") from error


class Worker(base.Worker):  # type: ignore[misc] # gunicorn has no types
    """The class for `--worker-class`."""

    _task: asyncio.Task[None] | None = None  # while the worker serves
    _exit: BaseException | None = None  # raised by a signal that ends the worker at once
    _master_end: PipeEnd  # of the lifeline
    _decoder: wire.Decoder[wire.FromWorker]

    @classmethod
    def check_config(cls, cfg: Cfg, _log: object) -> None:
        """Refuse settings without effect while the arbiter starts."""
        settings_of(cfg)

    def run(self) -> None:
        """Serve until a signal of the arbiter, or `max_requests`. Raises BootError, which the arbiter reports."""
        if not self.alive:  # a signal arrived while the application was imported
            return
        raise_trim_threshold()
        self._settings = settings_of(self.cfg)
        self._master_end, worker_end = pipes.pair()
        self._decoder = wire.from_worker()
        assignment = Assignment(
            slot=0,
            generation=self.age,
            config=self._settings,
            listeners=tuple(map(self._listener, self.sockets)),
            lifeline=worker_end,
            last_words_fd=os.memfd_create("asgid-last-words"),
            board=Board(bytearray(BYTES)),
        )
        try:
            self._serve(assignment)
        except BootError:
            self.booted = False
            raise
        except asyncio.CancelledError:
            if self._exit:
                raise self._exit from None
            raise

    def _serve(self, assignment: Assignment) -> None:
        settings = self._settings
        log = Log(settings.log.level, settings.log.format, settings.log.output).bind(pid=self.pid)
        load = partial(adapt, self.wsgi, settings.app.target, settings)
        worker = server.Server(assignment, Lifeline(assignment.lifeline), log, load)
        runner = asyncio.Runner(loop_factory=main.loop_factory())
        try:
            runner.run(self._run_worker(worker, assignment, log))
        finally:
            ending.end(runner.get_loop(), worker.grace_ends(), log)

    def _listener(self, sock: Any) -> Listener:
        versions = {"auto": "any"}.get(self.cfg.proxy_protocol, self.cfg.proxy_protocol)
        descriptors.refuse_passed(sock.sock)
        return Listener(str(sock), os.dup(sock.fileno()), self.cfg.backlog, versions)

    async def _run_worker(self, worker: server.Server, assignment: Assignment, log: Log) -> None:
        loop = asyncio.get_running_loop()
        worker.boot(loop)  # the application is imported already
        loop.add_reader(self._master_end.reader, self._on_worker_messages)
        watching = asyncio.ensure_future(self._watch(assignment.row, log))
        self._task = asyncio.current_task()
        try:
            await worker.serve()
        finally:
            watching.cancel()
            self._task = None

    async def _watch(self, row: Row, log: Log) -> None:
        """Send the arbiter its heartbeat, and start a drain for the reasons that a gunicorn worker checks by itself."""
        is_draining = False
        while self._exit is None:
            self.notify()
            must_serve = self.alive and row[STARTED] < self.max_requests and self.ppid == os.getppid()
            if not (must_serve or is_draining):
                is_draining = True
                log.info("worker leaves", requests=row[STARTED])
                self._drain()
            await asyncio.sleep(min(1.0, self.timeout or 1.0))  # `timeout` is half of the arbiter's; 0 is none

    # Signals that end the worker at once

    def handle_quit(self, sig: int, frame: object) -> None:
        self._exit_by(super().handle_quit, sig, frame)

    def handle_abort(self, sig: int, frame: object) -> None:
        self._exit_by(super().handle_abort, sig, frame)

    def _exit_by(self, handle: Callable[[int, object], None], sig: int, frame: object) -> None:
        """Let gunicorn's handler end the process.

        The handler raises SystemExit. A request that runs at that moment would swallow it, so the worker's task is
        cancelled too, and `run` raises the exception again.
        """
        try:
            handle(sig, frame)
        except SystemExit as end:
            self._exit = end
            if self._task:
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)
            raise

    # The lifeline

    def _on_worker_messages(self) -> None:
        """Read the worker's messages. After Ready, TERM starts a drain, which waits for idle clients.

        After Failed a drain starts too, and the arbiter starts another worker.
        """
        loop, data = asyncio.get_running_loop(), self._master_end.read() or b""
        if not data:
            loop.remove_reader(self._master_end.reader)
        for message in self._decoder.feed(data):
            match message:
                case wire.Ready():
                    loop.add_signal_handler(signal.SIGTERM, self._drain)
                case wire.Failed():
                    self._drain()

    def _drain(self) -> None:
        self._send(wire.Drain(self._settings.timeouts.graceful, _LINGER_S))

    def handle_usr1(self, sig: int, frame: object) -> None:
        """Reopen the log files of gunicorn and of asgid."""
        super().handle_usr1(sig, frame)
        self._send(wire.Reopen())

    def _send(self, message: wire.FromMaster) -> None:
        if self._task:  # otherwise the worker does not read messages
            self._master_end.write(wire.encode(message))
