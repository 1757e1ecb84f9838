"""The master from its start to its end: configuration -> resources -> loop -> exit code."""

import ctypes
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.util import find_spec

from setproctitle import setproctitle

from asgid import __version__, address, descriptors, faults
from asgid.address import Tcp
from asgid.assignment import WorkerMain
from asgid.config import Config
from asgid.errors import ExitCode
from asgid.log import Log
from asgid.master import resources
from asgid.master.listeners import Listeners
from asgid.master.loop import Loop
from asgid.master.replace import new_program
from asgid.master.replace.new_program import Command
from asgid.master.system.cpus import usable_cpus
from asgid.master.system.signals import SIGNALS


def run(load: Callable[[], Config], reload: Callable[[], Config], worker: WorkerMain, program: Command) -> ExitCode:
    """Serve until a signal stops the master. Return the exit code.

    `load` reads the configuration now, `reload` at each HUP. `program` is the command that starts this program again.
    Raises ConfigError and UnavailableError before it starts a worker. After an upgrade, workers of the previous program
    run already.
    """
    descriptors.open_standard_streams()
    faults.enable(2)  # systemd's watchdog sends ABRT to a master that hangs: stderr gets its stack
    predecessor = new_program.read_inherited(os.environ)
    own = resources.adopt(predecessor, os.environ) if predecessor else resources.acquire(load(), os.environ)
    try:
        loop = Loop(own, load=reload, worker=worker, program=program, cpus=usable_cpus(), predecessor=predecessor)
        if predecessor is None:
            _warn_at_start(own.config, own.log, [each.local_address for each in own.listeners])
            setproctitle(f"asgid: master [{own.config.process.name}] starting")
            _log_addresses(own.log, own.listeners, own.endpoint)
        # The objects that exist now live to the end. Freeze them: a collection would write to their pages, and so copy
        # pages that workers share with the master. Memory that only the start needed goes back: 0.3 MB (measured).
        gc.collect()
        with suppress(AttributeError):  # musl has no such function
            ctypes.CDLL(None).malloc_trim(0)
        gc.freeze()
        code = loop.run()
    finally:
        # If the loop has failed, Python prints a traceback. Under `stty tostop` the handler of TTOU would block that.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        own.release()
    if loop.start_failure and own.log.is_hidden_file:
        # systemd and containers show the standard error of a program that does not start, not its log file.
        with suppress(OSError):
            print(f"asgid: cannot start: {loop.start_failure}; see {own.config.log.output}", file=sys.stderr)  # noqa: T201
    return code


def _warn_at_start(config: Config, log: Log, bound: Iterable[str]) -> None:
    if os.geteuid() == 0 and not config.process.user:
        log.warning("the application runs as root; set process.user to the user it should run as")
    if "*" in config.proxy.trusted and not all(address.is_local(address.parse(each)) for each in bound):
        log.warning("any client can forge its address: other machines can connect, and proxy.trusted accepts them all")
    if find_spec("uvloop") is None:
        log.warning("uvloop is not installed: asyncio's own event loop serves, slower")


def _log_addresses(log: Log, listeners: Listeners, endpoint: socket.socket | None) -> None:
    """Log the addresses, and how to reload and stop, before the first worker boots."""
    for each in listeners:
        log.info("listening", listener=each.name, address=each.local_address, **_url(each.local_address))
    if endpoint:
        host, port = endpoint.getsockname()[:2]
        bound = str(Tcp(host, port))
        log.info("metrics", address=bound, **_url(bound, "/metrics"))
    pid = os.getpid()
    log.info("running", version=__version__, pid=pid, reload=f"kill -HUP {pid}", stop=f"kill -TERM {pid}, or Ctrl-C")


def _url(bound: str, path: str = "/") -> dict[str, str]:
    """Return the URL for a browser as `url`; nothing for a unix socket, which has no URL."""
    where = address.parse(bound)
    if not isinstance(where, Tcp):
        return {}
    host = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(where.host, where.host)  # noqa: S104 - read, not bound
    return {"url": f"http://{Tcp(host, where.port)}{path}"}
