"""After the fork: privileges, loop, application, lifespan, serve, drain -> exit code: one worker's whole life."""

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING

from setproctitle import setproctitle

from asgid import descriptors, faults, wire
from asgid.assignment import DUMP, Assignment, Listener
from asgid.board import ACCEPTING
from asgid.errors import BootError, ClientDisconnectedError, ExitCode
from asgid.log import Log
from asgid.worker import tracebacks
from asgid.worker.app import startup_watch
from asgid.worker.app.lifespan import Lifespan
from asgid.worker.http.access_log import AccessLog
from asgid.worker.http.admission import Admission, Places
from asgid.worker.http.context import Service
from asgid.worker.http1.connection import Connection
from asgid.worker.net.acceptor import Doors
from asgid.worker.net.proxy_protocol import ProxyProtocol
from asgid.worker.process import ending, forked, privileges
from asgid.worker.process.drain import Drain
from asgid.worker.process.forked import ForkHooks
from asgid.worker.process.lifeline import Lifeline
from asgid.worker.process.malloc import raise_trim_threshold
from asgid.worker.process.ticker import Pulse

if TYPE_CHECKING:
    from asgid.worker.app.interface import LoadedApp
    from asgid.worker.http.exchange import Exchange
    from asgid.worker.http.fields import Field

#: What asyncio's own loop says when it accepts nobody for a second, and uvloop does not: it sends them away.
_NO_DESCRIPTOR = "socket.accept() out of system resource"

#: Modules that replace threads, sockets and signals of the standard library, on which the event loop is built.
_PATCHERS = ("gevent.monkey", "eventlet.patcher")

#: Of timeouts.kill, for tasks and threads, and for exit handlers, if the drain has used up the grace. Before them the
#: drain takes an eighth at most and the shutdown of the lifespan a quarter; at a half the master sends ABRT.
_STEP_SHARE = 1 / 16


def main(assignment: Assignment) -> int:
    """Be one worker; return the exit code of its process."""
    from asgid.worker.app.loader import load  # noqa: PLC0415 - see Worker.boot

    entitle(assignment, "booting")  # first of all: until here the process bears the title of the master
    raise_trim_threshold()
    lifeline = Lifeline(assignment.lifeline)
    settings = assignment.config.log
    try:
        try:
            user = privileges.user(assignment.config.process)
            log = Log(settings.level, settings.format, settings.output, user)
            log = log.bind(slot=assignment.slot, pid=os.getpid())
        except OSError as error:
            raise BootError(f"log.output: {settings.output!r} cannot be opened: {error.strerror}") from error
        worker = Worker(assignment, lifeline, log, partial(load, assignment.config))
        runner = asyncio.Runner(loop_factory=loop_factory())  # not closed: that would wait forever
        try:
            worker.boot(runner.get_loop())
            runner.run(worker.live())
        finally:
            ending.end(runner.get_loop(), worker.grace_ends(), log)
        ending.bound_exit(worker.grace_ends(), log, forked.exit_immediately)
    except BootError as error:
        forked.exit_if_child(error)
        cause = error.__cause__
        files = tracebacks.AppFiles.from_target(assignment.config.app.target)
        story = tracebacks.format_causes(cause, files) if cause else ""
        return _tell(assignment, lifeline, str(error), story or error.story, ExitCode.NO_WORKER)
    except BaseException as error:  # noqa: BLE001 - the border of the process
        forked.exit_if_child(error)
        patched = next(
            (f"; {name} has patched what asgid uses: serve without it" for name in _PATCHERS if name in sys.modules), ""
        )
        reason, stack = f"the worker failed: {tracebacks.one_line(error)}{patched}", tracebacks.format_traceback(error)
        return _tell(assignment, lifeline, reason, tracebacks.cut_middle(stack), ExitCode.INTERNAL)
    return int(ExitCode.OK)


def _tell(assignment: Assignment, lifeline: Lifeline, reason: str, story: str, code: int) -> int:
    """Give the master the reason in one line, and as the last words what led to it. Returns the exit code."""
    if lifeline.is_closed:
        print(f"{reason}\n{story}", file=sys.stderr)  # noqa: T201 - nothing else is left
        return wire.CUT_OFF
    half = wire.REASON_CHARACTERS // 2 - 50
    lifeline.send(wire.Failed(tracebacks.cut_middle(reason, half, half, around=" ")))
    with suppress(OSError):  # the application may have closed it, or have the number for a file of its own
        if os.readlink(f"/proc/self/fd/{assignment.last_words_fd}").startswith("/memfd:asgid-"):
            os.ftruncate(assignment.last_words_fd, 0)
            os.pwrite(assignment.last_words_fd, story.encode("utf-8", "backslashreplace"), 0)
    return code


class Worker:
    """The parts of one worker, and the order in which they come and go."""

    def __init__(self, assignment: Assignment, lifeline: Lifeline, log: Log, load: Callable[[], "LoadedApp"]) -> None:
        self._assignment, self._lifeline, self._log, self._load = assignment, lifeline, log, load
        self._config = assignment.config
        self._last_words = descriptors.identity(assignment.last_words_fd)
        self._drained_by = 0.0  # when the grace ends, time.monotonic()
        self._leave = asyncio.Event()
        self._access: AccessLog | None
        self._converse: Callable[[Exchange, Iterable[Field]], None]
        self._stack_of: Callable[[asyncio.Task[None]], str]
        self._forks: ForkHooks
        self._loaded: LoadedApp
        self._doors: Doors | None = None

    def grace_ends(self) -> float:
        """Return when the next step of the end is over at the latest, on the clock of time.monotonic()."""
        return max(self._drained_by, monotonic() + self._config.timeouts.kill * _STEP_SHARE)

    def boot(self, loop: asyncio.AbstractEventLoop) -> None:
        """Become the user that serves, and import the application. Raises BootError.

        The loop does not turn meanwhile: a module may run one of its own (`asyncio.run`), and Django answers no query
        at import where one runs. Who asks for the loop is given the one that will serve.
        """
        # Not before the fork: the master needs none of it. Not later: the user may have no access to the Python that
        # root runs, and a module of the application, on sys.path, may have the name of one that is imported here.
        from asgid.worker.app.wsgi import thread_stack  # noqa: PLC0415
        from asgid.worker.websocket.session import converse  # noqa: PLC0415

        self._converse, self._stack_of, self._forks = converse, thread_stack, ForkHooks(loop)
        timeouts = self._config.timeouts
        self._access = self._open_access(loop)  # before the user changes: a directory of root's may be closed to him
        privileges.drop(self._config.process)
        self._lifeline.end_with_master(timeouts.graceful + timeouts.kill)
        self._forks.install()
        loop.set_exception_handler(self._on_loop_error)
        asyncio.set_event_loop(loop)
        self._loaded = self._load()
        if self._lifeline.is_closed:
            target = self._config.app.target
            raise BootError(f"app.target: importing {target!r} closed descriptors of asgid, as os.closerange() does")
        descriptors.open_standard_streams()  # a module may have closed one

    async def live(self) -> None:
        """Start what has booted, serve until told to leave, drain. Raises BootError."""
        timeouts, loaded, access = self._config.timeouts, self._loaded, self._access
        loop = asyncio.get_running_loop()
        lifespan = Lifespan(loaded.app, "off" if loaded.is_http_only else self._config.app.lifespan, self._log)
        # The loop turns, so it can take TERM (set earlier, uvloop would lose it): a startup that is told to go goes.
        loop.add_signal_handler(signal.SIGTERM, self._leave.set)
        if not await self._started(lifespan):
            return
        descriptors.open_standard_streams()
        # What was imported is never garbage: collections would walk it, and copy pages that are shared with the master.
        gc.collect()
        gc.freeze()
        row = self._assignment.row

        def connection(listener: Listener) -> asyncio.Protocol:
            if listener.proxy_protocol == "off":
                return Connection(service)
            return ProxyProtocol(service, listener.name, listener.proxy_protocol)

        doors = self._doors = Doors(
            loop,
            self._assignment.listeners,
            connection,
            self._log,
            lambda is_open: row.__setitem__(ACCEPTING, is_open),
        )
        service = self._service(loaded, lifespan, access, doors)
        service.converse = None if loaded.is_http_only else self._converse
        self._forks.transports = service.transports
        self._forks.on_child = service.forget_board
        drain = Drain(service, doors)
        pulse = Pulse(service)
        pulse.start()
        await doors.open()
        self._listen_to_master(service, drain)
        entitle(self._assignment, "ready")
        self._lifeline.send(wire.Ready(loaded.interface))
        if self._leave.is_set():  # TERM came since the startup
            self._lifeline.send(wire.Leaving())
        lifespan.watch(self._report)
        await self._leave.wait()
        entitle(self._assignment, "draining")
        await drain.run()
        self._drained_by = drain.deadline
        await lifespan.shutdown(max(drain.deadline - monotonic(), timeouts.kill / 4))
        pulse.stop()
        if access:
            access.close()

    def _report(self, loss: str) -> None:
        """Ask the master for a replacement; until there is one, this worker serves what it can."""
        self._lifeline.send(wire.Failed(loss[: wire.REASON_CHARACTERS]))

    def _open_access(self, loop: asyncio.AbstractEventLoop) -> AccessLog | None:
        settings = self._config.log.access
        if not settings.enabled:
            return None
        try:
            return AccessLog(settings, self._log, loop.call_later, self._assignment.slot)
        except OSError as error:
            raise BootError(f"log.access.output: {settings.output!r} cannot be opened: {error.strerror}") from error

    def _service(self, loaded: "LoadedApp", lifespan: Lifespan, access: AccessLog | None, doors: Doors) -> Service:
        limits, loop = self._config.limits, asyncio.get_running_loop()
        threads = self._config.workers.threads if loaded.interface == "wsgi" else None
        service = Service(
            app=loaded.app,
            config=self._config,
            row=self._assignment.row,
            loop=loop,
            log=self._log,
            access=access,
            admission=Admission(
                limits.connections,
                doors.close,
                doors.reopen,
                lambda: doors.step_back(lambda: service.admission.is_ahead(service.fewest())),
            ),
            places=Places.within(limits, threads),
        )
        if loaded.is_http_only:  # neither WSGI nor ASGI 1 has a disconnect that could be received
            service.drops_s = 0.0
        if loaded.interface == "wsgi":
            service.elsewhere = self._stack_of
        board, slot = self._assignment.board, self._assignment.slot
        service.look_for_siblings = lambda since_ns, now_ns: board.siblings(slot, since_ns, now_ns)
        service.state = lifespan.state
        return service

    async def _started(self, lifespan: Lifespan) -> bool:
        """Run the application's startup; return whether it is still wanted afterwards."""
        startup = asyncio.ensure_future(lifespan.startup())
        unwanted = asyncio.ensure_future(self._leave.wait())
        words_fd, boot_s = self._assignment.last_words_fd, self._config.timeouts.boot
        watch = asyncio.ensure_future(startup_watch.watch(lifespan.stack, self._log, words_fd, boot_s))
        await asyncio.wait((startup, unwanted), return_when=asyncio.FIRST_COMPLETED)
        unwanted.cancel()
        watch.cancel()
        if startup.done():
            startup.result()
            return not self._leave.is_set()
        startup.cancel()
        return False

    # What comes from outside

    def _listen_to_master(self, service: Service, drain: Drain) -> None:
        alone = wire.Drain(self._config.timeouts.graceful, wire.STOP_LINGER_S)

        def leave_alone() -> None:
            """Drain without an order of the master, as at a stop: most often it is gone, or is about to send one."""
            drain.tell(alone)
            self._leave.set()

        def on_term() -> None:
            """Obey an operator, or a supervisor that signals the whole process group (dumb-init, systemd)."""
            if not self._leave.is_set():  # the master may have sent it away already, or a second TERM came
                self._lifeline.send(wire.Leaving())
            leave_alone()

        def on_message(message: wire.FromMaster) -> None:
            match message:
                case wire.Drain():
                    drain.tell(message)
                    self._leave.set()
                case wire.Reopen():
                    self._log.reopen()
                    if service.access:
                        service.access.reopen()

        if self._leave.is_set():  # since the startup ended
            drain.tell(alone)
        service.loop.add_signal_handler(signal.SIGTERM, on_term)
        self._lifeline.listen(service.loop, on_message, leave_alone)
        # In this order: faulthandler writes the stack and then runs the handler that it found. It does so also where C
        # code keeps the interpreter, and no handler of ours can run before that returns.
        signal.signal(DUMP, lambda _, frame: self._dump(service, frame))
        faulthandler.register(DUMP, self._assignment.last_words_fd, all_threads=False, chain=True)
        faults.make_room()  # under gunicorn nothing has called faulthandler before

    def _dump(self, service: Service, frame: FrameType | None) -> None:
        """Say what this worker is doing, from within it: its loop stands still, but Python runs signal handlers."""
        task = asyncio.current_task()
        requests = [
            f"{exchange.method} {exchange.path}"
            for connection in service.connections
            if (exchange := connection.exchange)
        ]
        if tracebacks.is_in_debugger(frame):
            keep = "--set timeouts.blocked=off --set timeouts.heartbeat=off"
            self._log.warning("a debugger holds the event loop", keep_it=keep, requests=", ".join(requests[:20]))
            self._clear_last_words()
            return
        self._log.warning(
            "event loop blocked",
            task=task.get_name() if task else "none",
            requests=", ".join(requests[:20]) or "none",
            stack=tracebacks.format_thread_stack(frame) if frame else "",
        )
        self._clear_last_words()

    def _clear_last_words(self) -> None:
        words = self._assignment.last_words_fd
        if descriptors.identity(words) != self._last_words:  # the application has closed it, and opened another file
            faulthandler.unregister(DUMP)
            faulthandler.disable()
            return
        # The log has the stack; left in the file, the one that faulthandler wrote would be taken for last words.
        os.ftruncate(words, 0)
        os.lseek(words, 0, os.SEEK_SET)

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        if isinstance(error, ClientDisconnectedError):  # a task of the application's sent to a client that had left
            return
        if self._doors and isinstance(error, OSError) and context.get("message") == _NO_DESCRIPTOR:
            self._doors.tell_of_pause(error)
            return
        stack = tracebacks.format_traceback(error) if isinstance(error, BaseException) else ""
        self._log.error("unhandled in the event loop", problem=str(context.get("message")), stack=stack)
        _tell_python(loop, context)


def entitle(assignment: Assignment, state: str) -> None:
    slot, name, generation = assignment.slot, assignment.config.process.name, assignment.generation
    setproctitle(f"asgid: worker {slot} [{name}] gen {generation} {state}")


def _tell_python(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Log an error of the loop by Python's logger `asyncio`, on which Sentry and the application's own logging listen.

    Without any handler Python would print it on standard error, where the log of asgid has it already.
    """
    logger = logging.getLogger("asyncio")
    nowhere = None if logger.hasHandlers() else logging.NullHandler()
    if nowhere:
        logger.addHandler(nowhere)
    try:
        loop.default_exception_handler(context)
    finally:
        if nowhere:
            logger.removeHandler(nowhere)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's, or None for asyncio's own where uvloop is not installed; the master has warned of that once."""
    if find_spec("uvloop") is None:
        return None
    import uvloop  # noqa: PLC0415 - where it is missing, the import is what must not happen

    return uvloop.new_event_loop
