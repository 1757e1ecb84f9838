"""Configuration -> what the master holds -> loop -> exit code: the master from its start to its end."""

import ctypes
import gc
import os
import signal
import socket
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
from asgid.master.workers.spawn import SIGNALS


def run(load: Callable[[], Config], reload: Callable[[], Config], worker: WorkerMain, program: Command) -> ExitCode:
    """Serve until a signal ends it; return how it ended.

    `load` reads the configuration now, `reload` at each HUP; `program` is how to run the same again. Raises ConfigError
    and UnavailableError, before any worker exists. Where this program has taken another's place, its workers do.
    """
    descriptors.open_standard_streams()
    faults.enable(2)  # systemd's watchdog sends ABRT to a master that hangs: its stack shows the place
    predecessor = new_program.read_inherited(os.environ)
    held = resources.taken_over(predecessor, os.environ) if predecessor else resources.found(load(), os.environ)
    try:
        loop = Loop(held, load=reload, worker=worker, program=program, cpus=usable_cpus(), predecessor=predecessor)
        if predecessor is None:
            _warn_at_start(held.config, held.log, [each.local_address for each in held.listeners])
            setproctitle(f"asgid: master [{held.config.process.name}] starting")
            _say_where(held.log, held.listeners, held.endpoint)
        # What exists now is never garbage: keep the collector from touching, and so copying, pages that workers share
        # with us. What was needed only to get here goes back to the system: 0.3 MB (measured).
        gc.collect()
        with suppress(AttributeError):  # musl has no such function
            ctypes.CDLL(None).malloc_trim(0)
        gc.freeze()
        return loop.run()
    finally:
        # If the loop has failed a traceback follows, and under `stty tostop` the handler of TTOU would hold that up.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        held.release()


def _warn_at_start(config: Config, log: Log, bound: Iterable[str]) -> None:
    if os.geteuid() == 0 and not config.process.user:
        log.warning("the application runs as root; set process.user to the user it should run as")
    if "*" in config.proxy.trusted and not all(address.is_local(address.parse(each)) for each in bound):
        log.warning("any client can say who it is: other machines can connect, and proxy.trusted holds everybody")
    if find_spec("uvloop") is None:
        log.warning("uvloop is not installed: asyncio's own event loop serves, slower")


def _say_where(log: Log, listeners: Listeners, endpoint: socket.socket | None) -> None:
    """Tell a newcomer where to look and what to press, before anything slow begins."""
    for held in listeners:
        log.info("listening", listener=held.name, address=held.local_address, **_url(held.local_address))
    if endpoint:
        host, port = endpoint.getsockname()[:2]
        bound = str(Tcp(host, port))
        log.info("metrics", address=bound, **_url(bound, "/metrics"))
    pid = os.getpid()
    log.info("running", version=__version__, pid=pid, reload=f"kill -HUP {pid}", stop=f"kill -TERM {pid}, or Ctrl-C")


def _url(bound: str, path: str = "/") -> dict[str, str]:
    """Return what to open in a browser; nothing for a unix socket, which has no URL that a browser or curl knows."""
    where = address.parse(bound)
    if not isinstance(where, Tcp):
        return {}
    host = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(where.host, where.host)  # noqa: S104 - read, not bound
    return {"url": f"http://{Tcp(host, where.port)}{path}"}
