"""The door for gunicorn: `gunicorn -k asgid.gunicorn.Worker module:app` has its arbiter supervise asgid's worker.

The arbiter keeps its own manners: its heartbeat, its signals, its settings, as far as `SETTINGS` translates them; what
has no counterpart is refused before anything is served. The worker is the one that asgid's master forks. This file
holds the other end of its lifeline, and is its master in all that the arbiter does not know.
"""

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from gunicorn.workers import base

from asgid import config, wire
from asgid.assignment import Assignment, Listener
from asgid.board import BYTES, STARTED, Board, Row
from asgid.errors import BootError, ConfigError
from asgid.log import Log
from asgid.worker import main
from asgid.worker.app.interface import adapted
from asgid.worker.process import ending
from asgid.worker.process.lifeline import Lifeline
from asgid.worker.process.malloc import keep_memory

Cfg: TypeAlias = Any  # gunicorn has no types

#: The arbiter kills at the end of its graceful timeout: so much before it, what still runs is cancelled and answered.
_RESERVE_S = 2.0
#: How long a client that has an idle connection may still send a request, and is told to close.
_LINGER_S = 0.5
#: What gunicorn means where it says that nothing is limited.
_UNLIMITED_BYTES = 2**20

#: An atom of gunicorn's access log format -> a field of ours.
ATOMS: Final[Mapping[str, str]] = {
    "h": "{client}",
    "l": "-",
    "u": "-",
    "t": "[{clf_time}]",
    "r": "{method} {target} HTTP/{version}",
    "m": "{method}",
    "U": "{path}",
    "q": "{query}",
    "H": "HTTP/{version}",
    "s": "{status}",
    "b": "{bytes}",
    "B": "{bytes}",
    "f": "{referer}",
    "a": "{user_agent}",
    "M": "{duration_ms}",
    "L": "{duration_s}",
    "p": "<{pid}>",
}


def _grace_s(cfg: Cfg) -> float:
    grace_s: float = cfg.graceful_timeout
    return max(grace_s - _RESERVE_S, grace_s / 2)


def _header_bytes(cfg: Cfg) -> int:
    # gunicorn's is for one field, ours for all of them.
    one = cfg.limit_request_field_size
    return max(config.Limits().header_size, 4 * one) if one else _UNLIMITED_BYTES


def _access_format(cfg: Cfg) -> str:
    def field(atom: re.Match[str]) -> str:
        header, name = atom.groups()
        if header or name in ATOMS:
            return f"{{header[{header}]}}" if header else ATOMS[name]
        raise ValueError(f"access_log_format: {atom[0]} is not known here; there are {' '.join(ATOMS)} {{name}}i")

    literal = cfg.access_log_format.replace("{", "{{").replace("}", "}}")
    return re.sub(r"%\((?:\{\{([\w-]+)\}\}i|([^)]+))\)s", field, literal)


def _output(name: str | None, stream: str) -> str:
    return stream if name in (None, "-") else str(name)


def _umask() -> str:
    mask = os.umask(0)
    os.umask(mask)
    return f"{mask:04o}"


#: Our key -> how its value follows from gunicorn's settings.
SETTINGS: Final[Mapping[str, Callable[[Cfg], object]]] = {
    "app.root_path": lambda cfg: getattr(cfg, "root_path", "").rstrip("/"),
    "app.lifespan": lambda cfg: getattr(cfg, "asgi_lifespan", "auto"),
    "workers.threads": lambda cfg: cfg.threads,
    "timeouts.graceful": _grace_s,
    "timeouts.keep_alive": lambda cfg: cfg.keepalive or 0.001,  # 0 is no keep-alive there, and no limit here
    "limits.connections": lambda cfg: cfg.worker_connections,
    "limits.request_line": lambda cfg: cfg.limit_request_line or _UNLIMITED_BYTES,
    "limits.header_count": lambda cfg: cfg.limit_request_fields,
    "limits.header_size": _header_bytes,
    "websocket.max_message": lambda cfg: getattr(cfg, "websocket_max_message_size", config.WebSocket().max_message),
    "proxy.trusted": lambda cfg: [*cfg.forwarded_allow_ips, "unix"],  # it believes who comes by a socket file, too
    "log.level": lambda cfg: {"critical": "error"}.get(cfg.loglevel.lower(), cfg.loglevel.lower()),
    "log.output": lambda cfg: _output(cfg.errorlog, "stderr"),
    "log.format": lambda _: "text",
    "log.access.enabled": lambda cfg: cfg.accesslog is not None,
    "log.access.output": lambda cfg: _output(cfg.accesslog, "stdout"),
    "log.access.format": _access_format,
    "process.name": lambda cfg: cfg.proc_name,
    "process.umask": lambda _: _umask(),  # the arbiter's: it has set it, where it does
}

#: A setting of gunicorn -> what it may be, for it does nothing here; and what to do instead.
REFUSED: Final[Mapping[str, tuple[tuple[object, ...], str]]] = {
    "keyfile": ((None,), "have a proxy in front speak TLS"),
    "certfile": ((None,), "have a proxy in front speak TLS"),
    "protocol": (("http",), "asgid speaks HTTP"),
    "http_protocols": (("h1", ["h1"]), "asgid speaks HTTP/1.1"),
    "statsd_host": ((None,), "asgid counts on its own board; its master serves the metrics"),
}


def settings_of(cfg: Cfg) -> config.Config:
    """Return asgid's settings for gunicorn's; raises RuntimeError, which gunicorn shows, for what cannot be."""
    for name, (allowed, instead) in REFUSED.items():
        if (value := getattr(cfg, name, allowed[0])) not in allowed:
            raise RuntimeError(f"asgid.gunicorn.Worker has no {name} ({value!r}): {instead}")
    if cfg.proxy_protocol != "off" and cfg.proxy_allow_ips != cfg.forwarded_allow_ips:
        raise RuntimeError("asgid.gunicorn.Worker trusts the same proxies in all: proxy_allow_ips, forwarded_allow_ips")
    try:
        overrides = {key: json.dumps(value(cfg)) for key, value in SETTINGS.items()}
        return config.parse(None, "gunicorn", overrides=overrides, target="gunicorn:app")
    except (ConfigError, ValueError) as error:
        raise RuntimeError(f"asgid.gunicorn.Worker: {error}") from error


class Worker(base.Worker):  # type: ignore[misc] # gunicorn has no types
    """What `--worker-class` names."""

    _life: asyncio.Task[None] | None = None  # while the worker serves
    _end: BaseException | None = None  # what a signal ends it by
    _master_end: socket.socket  # of the lifeline
    _decoder: wire.Decoder[wire.FromWorker]

    @classmethod
    def check_config(cls, cfg: Cfg, _log: object) -> None:
        """Refuse settings that would do nothing, while the arbiter starts."""
        settings_of(cfg)

    def run(self) -> None:
        """Serve until the arbiter ends it, or `max_requests`. Raises BootError, which the arbiter takes for one."""
        if not self.alive:  # told to go while the application was imported
            return
        keep_memory()
        self._settings = settings_of(self.cfg)
        self._master_end, theirs = socket.socketpair()
        self._decoder = wire.from_worker()
        assignment = Assignment(
            slot=0,
            generation=self.age,
            config=self._settings,
            listeners=tuple(map(self._listener, self.sockets)),
            lifeline_fd=theirs.detach(),
            last_words_fd=os.memfd_create("asgid-last-words"),
            board=Board(bytearray(BYTES)),
        )
        try:
            self._serve(assignment)
        except BootError:
            self.booted = False
            raise
        except asyncio.CancelledError:
            if self._end:
                raise self._end from None
            raise

    def _serve(self, assignment: Assignment) -> None:
        settings = self._settings
        log = Log(settings.log.level, settings.log.format, settings.log.output).bind(pid=self.pid)
        load = partial(adapted, self.wsgi, settings.app.target, settings)
        worker = main.Worker(assignment, Lifeline(assignment.lifeline_fd), log, load)
        runner = asyncio.Runner(loop_factory=main.loop_factory())
        try:
            runner.run(self._live(worker, assignment, log))
        finally:
            ending.end(runner.get_loop(), worker.grace_ends(), log)

    def _listener(self, sock: Any) -> Listener:
        versions = {"auto": "any"}.get(self.cfg.proxy_protocol, self.cfg.proxy_protocol)
        return Listener(str(sock), os.dup(sock.fileno()), self.cfg.backlog, versions)

    async def _live(self, worker: main.Worker, assignment: Assignment, log: Log) -> None:
        loop = asyncio.get_running_loop()
        worker.boot(loop)  # the application is there already
        loop.add_reader(self._master_end, self._serves)
        beating = asyncio.ensure_future(self._beat(assignment.row, log))
        self._life = asyncio.current_task()
        try:
            await worker.live()
        finally:
            beating.cancel()
            self._life = None

    async def _beat(self, row: Row, log: Log) -> None:
        """Tell the arbiter that the loop turns, and leave for the reasons that a worker has to find out by itself."""
        is_leaving = False
        while self._end is None:
            self.notify()
            is_wanted = self.alive and row[STARTED] < self.max_requests and self.ppid == os.getppid()
            if not (is_wanted or is_leaving):
                is_leaving = True
                log.info("worker leaves", requests=row[STARTED])
                self._drain()
            await asyncio.sleep(min(1.0, self.timeout or 1.0))  # half of the arbiter's, or none

    # Signals that end it at once

    def handle_quit(self, sig: int, frame: object) -> None:
        self._end_by(super().handle_quit, sig, frame)

    def handle_abort(self, sig: int, frame: object) -> None:
        self._end_by(super().handle_abort, sig, frame)

    def _end_by(self, handle: Callable[[int, object], None], sig: int, frame: object) -> None:
        """Let gunicorn's handler end the process. It raises, and where that is within a request the request takes it
        for its own: so the worker's task is ended besides, and the exception raised once more outside of it.
        """
        try:
            handle(sig, frame)
        except SystemExit as end:
            self._end = end
            if self._life:
                self._life.get_loop().call_soon_threadsafe(self._life.cancel)
            raise

    # The lifeline

    def _serves(self) -> None:
        """Read what the worker sends. From Ready on, TERM lets it leave as our order does: it waits for idle clients.

        After Failed it leaves, and the arbiter starts another one.
        """
        loop, data = asyncio.get_running_loop(), self._master_end.recv(wire.MOST_BYTES)
        if not data:
            loop.remove_reader(self._master_end)
        for message in self._decoder.feed(data):
            match message:
                case wire.Ready():
                    loop.add_signal_handler(signal.SIGTERM, self._drain)
                case wire.Failed():
                    self._drain()

    def _drain(self) -> None:
        self._tell(wire.Drain(self._settings.timeouts.graceful, _LINGER_S))

    def handle_usr1(self, sig: int, frame: object) -> None:
        """Open log files again: those of gunicorn, and ours."""
        super().handle_usr1(sig, frame)
        self._tell(wire.Reopen())

    def _tell(self, message: wire.FromMaster) -> None:
        if self._life:  # else there is nobody who would listen
            self._master_end.sendall(wire.encode(message))
