"""What the master holds for its whole life: log, pid file, listeners, board, metrics socket, the line to systemd.

It is found at a start, taken over from a program that this one replaces, and let go at the end. Nothing here knows of
workers.
"""

import resource
import socket
from collections.abc import MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass

from asgid import address, config, descriptors
from asgid.address import Tcp
from asgid.config import Config
from asgid.errors import UnavailableError
from asgid.log import Log
from asgid.master.listeners import Listeners, unavailable
from asgid.master.net import tcp_sockets
from asgid.master.replace.handover import Handover
from asgid.master.supervision import generations
from asgid.master.system.pidfile import PidFile
from asgid.master.system.systemd import Notifier, take_listen_fds
from asgid.master.workers.board_memory import Memory
from asgid.user import user_of

_SPARE_FDS = 64  # what a worker needs beside its connections: the loop's own, log files, some for the application


@dataclass(slots=True)
class Holdings:
    """What a master has in hand. `config` is the one in force."""

    config: Config
    log: Log
    pid_file: PidFile | None
    listeners: Listeners
    memory: Memory  #: that the board is laid over, shared with the workers
    endpoint: socket.socket | None  #: where the metrics are asked for
    notifier: Notifier

    def release(self) -> None:
        """Let go of what others would find: addresses, socket files, the pid file."""
        self.listeners.close(self.listeners.addresses)
        if self.pid_file:
            self.pid_file.remove()


def found(settings: Config, environ: MutableMapping[str, str]) -> Holdings:
    """Return everything that a start under `settings` needs, or raise UnavailableError and leave nothing behind."""
    log = _log(settings)
    with ExitStack() as undo:
        pid_file = PidFile(settings.process.pid_file) if settings.process.pid_file else None
        if pid_file:
            undo.callback(pid_file.remove)
        listeners = Listeners(take_listen_fds(environ))
        settings = generations.with_passed(settings, listeners.inherited)
        listeners.open(settings.listen)
        undo.callback(lambda: listeners.close(listeners.addresses))
        endpoint = _open_endpoint(settings, log)
        undo.pop_all()
    _raise_open_files(settings, log)
    return Holdings(settings, log, pid_file, listeners, Memory.made(), endpoint, Notifier(environ))


def taken_over(left: Handover, environ: MutableMapping[str, str]) -> Holdings:
    """Return what the program before this one held; all of it is open already, but for the log."""
    settings = config.parse(left.config, "the settings in force")
    return Holdings(
        settings,
        _log_or_stderr(settings),
        None if left.pid_file_fd is None else PidFile(settings.process.pid_file, left.pid_file_fd),
        Listeners(left.inherited, left.listeners),
        Memory(left.board_fd),
        None if left.endpoint_fd is None else socket.socket(fileno=descriptors.own(left.endpoint_fd)),
        Notifier(environ),
    )


def _log(settings: Config) -> Log:
    return Log(settings.log.level, settings.log.format, settings.log.output, user_of(settings.process))


def _log_or_stderr(settings: Config) -> Log:
    """Return the log. The trial has opened it, but that is a moment ago, and there is no program to go back to."""
    try:
        return _log(settings)
    except (LookupError, OSError) as error:
        log = Log(settings.log.level, settings.log.format, "stderr")
        log.warning("log.output cannot be opened; standard error takes its place", problem=str(error))
        return log


def _open_endpoint(settings: Config, log: Log) -> socket.socket | None:
    """Bind the metrics address: an error where the operator wrote it, a warning where it is only the default."""
    if not settings.metrics.enabled:
        return None
    where = address.parse(settings.metrics.bind)
    if not isinstance(where, Tcp):
        raise AssertionError(f"metrics.bind was validated to be TCP, and is {where}")
    try:
        sock = tcp_sockets.open_first(where)
        sock.listen(64)
    except OSError as error:
        if "bind" in settings.metrics.model_fields_set:
            raise UnavailableError(f"metrics.bind: {unavailable(where, error)}") from error
        log.warning("no metrics: the default address is taken; set metrics.bind", address=str(where))
        return None
    sock.setblocking(False)
    return descriptors.own_socket(sock)


def _raise_open_files(settings: Config, log: Log) -> None:
    """Raise the soft limit of open files to the hard one: each connection is one, and the usual 1024 is select()'s."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and settings.limits.connections + _SPARE_FDS > hard:
        log.warning(
            "limits.connections does not fit under the limit of open files (LimitNOFILE=, ulimit -n)",
            connections=settings.limits.connections,
            open_files=hard,
        )
