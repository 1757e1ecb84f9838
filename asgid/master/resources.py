"""The master's resources: log, pid file, listeners, board memory, metrics socket, and the socket to systemd.

They are acquired at a start, or adopted from the previous program, and released at the end. Nothing here depends on
workers.
"""

import errno
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
from asgid.master.listeners import Listeners, describe, unavailable
from asgid.master.net import tcp_sockets
from asgid.master.replace.handover import Handover
from asgid.master.supervision import generations
from asgid.master.system.pidfile import PidFile
from asgid.master.system.systemd import Notifier, take_listen_fds
from asgid.master.workers.board_memory import BoardMemory
from asgid.user import user_of

_SPARE_FDS = 64  # for each worker, beside its connections: those of the event loop, log files, some for the application


@dataclass(slots=True)
class Resources:
    """The resources of one master. `config` is the configuration at its start."""

    config: Config
    log: Log
    pid_file: PidFile | None
    listeners: Listeners
    memory: BoardMemory  #: shared with the workers
    endpoint: socket.socket | None  #: the listening socket of metrics.bind
    notifier: Notifier

    def release(self) -> None:
        """Close the listeners, and remove their socket files and the pid file."""
        self.listeners.close(self.listeners.addresses)
        if self.pid_file:
            self.pid_file.remove()


def acquire(settings: Config, environ: MutableMapping[str, str]) -> Resources:
    """Return the resources for a start under `settings`. Raises UnavailableError, and then leaves nothing behind."""
    log = _log(settings)
    with ExitStack() as undo:
        pid_file = PidFile(settings.process.pid_file) if settings.process.pid_file else None
        if pid_file:
            undo.callback(pid_file.remove)
        listeners = Listeners(take_listen_fds(environ))
        settings = generations.with_systemd_sockets(settings, listeners.inherited)
        listeners.open(settings.listen)
        undo.callback(lambda: listeners.close(listeners.addresses))
        endpoint = _open_endpoint(settings, listeners, log)
        undo.pop_all()
    _raise_open_file_limit(settings, log)
    return Resources(settings, log, pid_file, listeners, BoardMemory.create(), endpoint, Notifier(environ))


def adopt(left: Handover, environ: MutableMapping[str, str]) -> Resources:
    """Return the resources of the previous program. Its descriptors are open already; only the log is opened again."""
    settings = config.parse(left.config, "the settings in force")
    return Resources(
        settings,
        _log_or_stderr(settings),
        None if left.pid_file_fd is None else PidFile(settings.process.pid_file, left.pid_file_fd),
        Listeners(left.inherited, left.listeners),
        BoardMemory(left.board_fd),
        None if left.endpoint_fd is None else socket.socket(fileno=descriptors.own(left.endpoint_fd)),
        Notifier(environ),
    )


def _log(settings: Config) -> Log:
    return Log(settings.log.level, settings.log.format, settings.log.output, user_of(settings.process))


def _log_or_stderr(settings: Config) -> Log:
    """Return the log. If its file cannot be opened, it is stderr: the old program is gone, so this one has to run."""
    try:
        return _log(settings)
    except (LookupError, OSError) as error:
        log = Log(settings.log.level, settings.log.format, "stderr")
        log.warning("log.output cannot be opened; standard error takes its place", problem=str(error))
        return log


def _open_endpoint(settings: Config, listeners: Listeners, log: Log) -> socket.socket | None:
    """Bind metrics.bind. If it cannot be bound, raise UnavailableError; if it is only the default, log a warning."""
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
            if error.errno == errno.EADDRINUSE and (bound := listeners.find_conflict(where)):
                reason = f"asgid itself listens on {describe(bound)}, for requests; choose another port"
                raise UnavailableError(f"metrics.bind: cannot listen on {where}: {reason}") from error
            raise UnavailableError(f"metrics.bind: {unavailable(where, error)}") from error
        log.warning("no metrics: the default address is taken; set metrics.bind", address=str(where))
        return None
    sock.setblocking(False)
    return descriptors.own_socket(sock)


def _raise_open_file_limit(settings: Config, log: Log) -> None:
    """Raise the soft limit of open files to the hard one: each connection is one, and the usual 1024 suits select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and settings.limits.connections + _SPARE_FDS > hard:
        log.warning(
            "limits.connections does not fit under the limit of open files (LimitNOFILE=, ulimit -n)",
            connections=settings.limits.connections,
            open_files=hard,
        )
