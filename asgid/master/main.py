"""Configuration -> listeners -> board -> loop -> exit code: the master from its start to its end."""

import gc
import mmap
import os
import resource
import socket
from collections.abc import Callable
from importlib.util import find_spec

from setproctitle import setproctitle

from asgid import __version__, address
from asgid.address import Tcp, Unix
from asgid.assignment import WorkerMain
from asgid.board import BYTES, Board
from asgid.config import Config
from asgid.errors import ExitCode
from asgid.log import Log
from asgid.master.cpus import usable_cpus
from asgid.master.listeners import Listeners, open_tcp, unavailable
from asgid.master.loop import Loop
from asgid.master.pidfile import PidFile
from asgid.master.systemd import Notifier, take_listen_fds

_SPARE_FDS = 64  # what a worker needs beside its connections: the loop's own, log files, some for the application


def run(load: Callable[[], Config], worker: WorkerMain) -> ExitCode:
    """Serve until a signal ends it; return how it ended.

    `load` reads the configuration, now and at each HUP. Raises ConfigError and UnavailableError, before any worker
    exists.
    """
    _open_standard_streams()
    config = load()
    log = Log(config.log.level, config.log.format, config.log.output)
    pid_file = PidFile(config.process.pid_file) if config.process.pid_file else None
    inherited = take_listen_fds(os.environ)
    listeners = Listeners(inherited)
    try:
        listeners.open(config.listen)
        endpoint = _open_endpoint(config, log)
        _raise_open_files(config, log)
        _warn_of_root(config, log)
        if find_spec("uvloop") is None:
            log.warning("uvloop is not installed: asyncio's own event loop serves, slower")
        setproctitle(f"asgid: master [{config.process.name}] starting")
        loop = Loop(
            config=config,
            load=load,
            worker=worker,
            cpus=usable_cpus(),
            log=log,
            listeners=listeners,
            board=Board(memoryview(mmap.mmap(-1, BYTES))),
            endpoint_socket=endpoint,
            notifier=Notifier(os.environ),
        )
        _say_where(log, listeners, endpoint)
        # What exists now is never garbage: keep the collector from touching, and so copying, pages that workers share
        # with us.
        gc.collect()
        gc.freeze()
        code = loop.run()
        log.info("stopped", code=int(code))
        return code
    finally:
        listeners.close(listeners.addresses)
        if pid_file:
            pid_file.remove()


def _open_standard_streams() -> None:
    """See to it that descriptors 0, 1 and 2 are taken: else a listener would get one, and log lines go to a client."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)


def _open_endpoint(config: Config, log: Log) -> socket.socket | None:
    """Bind the metrics address: an error where the operator wrote it, a warning where it is only the default."""
    if not config.metrics.enabled:
        return None
    where = address.parse(config.metrics.bind)
    if not isinstance(where, Tcp):
        raise AssertionError(f"metrics.bind was validated to be TCP, and is {where}")
    try:
        sock = open_tcp(where)
        sock.listen(64)
    except OSError as error:
        if "bind" in config.metrics.model_fields_set:
            raise unavailable(where, error) from error
        log.warning("no metrics: the default address is taken; set metrics.bind", address=str(where))
        return None
    sock.setblocking(False)
    return sock


def _raise_open_files(config: Config, log: Log) -> None:
    """Raise the soft limit of open files to the hard one: each connection is one, and the usual 1024 is select()'s."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and config.limits.connections + _SPARE_FDS > hard:
        log.warning(
            "limits.connections does not fit under the limit of open files (LimitNOFILE=, ulimit -n)",
            connections=config.limits.connections,
            open_files=hard,
        )


def _warn_of_root(config: Config, log: Log) -> None:
    if os.geteuid() == 0 and not config.process.user:
        log.warning("the application runs as root; set process.user to the user it should run as")


def _say_where(log: Log, listeners: Listeners, endpoint: socket.socket | None) -> None:
    """Tell a newcomer where to look and what to press, before anything slow begins."""
    for held in listeners:
        log.info("listening", listener=held.name, address=held.bound, url=_url(held.bound))
    if endpoint:
        host, port = endpoint.getsockname()[:2]
        bound = str(Tcp(host, port))
        log.info("metrics", address=bound, url=_url(bound, "/metrics"))
    pid = os.getpid()
    log.info("running", version=__version__, pid=pid, reload=f"kill -HUP {pid}", stop=f"kill -TERM {pid}, or Ctrl-C")


def _url(bound: str, path: str = "/") -> str:
    where = address.parse(bound)
    if isinstance(where, Tcp):
        host = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(where.host, where.host)  # noqa: S104 - read, not bound
        return f"http://{Tcp(host, where.port)}{path}"
    return f"http+{where}" if isinstance(where, Unix) else str(where)
