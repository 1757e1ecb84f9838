"""The parts of one worker, built in one place and in order: application, lifespan, connections, drain, shutdown."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from asgid import descriptors, wire
from asgid.assignment import Assignment, Listener
from asgid.errors import BootError, ClientDisconnectedError, UnavailableError
from asgid.log import Log
from asgid.worker import tracebacks
from asgid.worker.app import startup_watch
from asgid.worker.app.lifespan import Lifespan
from asgid.worker.forked import ForkHooks
from asgid.worker.http.access_log import AccessLog
from asgid.worker.http.context import DROPS_S, WorkerContext
from asgid.worker.http.request_limit import RequestLimit
from asgid.worker.http1.connection import Connection
from asgid.worker.http1.phases import phase_timeouts
from asgid.worker.net.acceptor import Acceptor, ProtocolFactory
from asgid.worker.net.connection_limit import ConnectionLimit
from asgid.worker.net.proxy_protocol import ProxyPolicy, ProxyProtocol
from asgid.worker.net.registry import Connections
from asgid.worker.process import privileges
from asgid.worker.process.drain import Drain
from asgid.worker.process.dump import handle_dumps
from asgid.worker.process.last_words import LastWords
from asgid.worker.process.lifeline import Lifeline
from asgid.worker.process.ticker import Ticker
from asgid.worker.process.title import set_title

if TYPE_CHECKING:
    from asgid.worker.app.interface import LoadedApp

#: The message of asyncio's own loop when it cannot accept for a second; uvloop resets such connections.
_NO_DESCRIPTOR = "socket.accept() out of system resource"
#: Of timeouts.kill, for tasks and threads, and for exit handlers, if the drain has used up the grace. Before them the
#: drain takes an eighth at most and the shutdown of the lifespan a quarter; at a half the master sends ABRT.
_STEP_SHARE = 1 / 16


class Server:
    """One worker, from its boot to the end of its drain."""

    def __init__(self, assignment: Assignment, lifeline: Lifeline, log: Log, load: Callable[[], "LoadedApp"]) -> None:
        self._assignment, self._lifeline, self._log, self._load = assignment, lifeline, log, load
        self._config = assignment.config
        self._last_words = LastWords(assignment.last_words_fd)
        self._drained_by = 0.0  # when the grace ends, time.monotonic()
        self._leave = asyncio.Event()
        self._access: AccessLog | None
        self._fork_hooks: ForkHooks
        self._loaded: LoadedApp
        self._acceptor: Acceptor | None = None

    def grace_ends(self) -> float:
        """Return the end of the next step, at the latest, on the clock of time.monotonic()."""
        return max(self._drained_by, monotonic() + self._config.timeouts.kill * _STEP_SHARE)

    # The boot

    def boot(self, loop: asyncio.AbstractEventLoop) -> None:
        """Become the user that serves, and import the application. Raises BootError.

        The loop does not run meanwhile: a module may run its own (`asyncio.run`), and Django refuses queries at import
        if a loop runs. A module that asks for the current loop gets the one that will serve.
        """
        # Not before the fork: the master does not need them. Not later: the user may have no access to the Python that
        # root runs, and a module of the application, on sys.path, may have the name of a module that is imported here.
        import asgid.worker.app.wsgi  # noqa: PLC0415
        import asgid.worker.websocket.session  # noqa: F401, PLC0415

        self._fork_hooks = ForkHooks(loop)
        timeouts = self._config.timeouts
        self._access = self._open_access_log(loop)  # before the user changes: its directory may be root's
        privileges.drop(self._config.process)
        self._lifeline.end_with_master(timeouts.graceful + timeouts.kill)
        self._fork_hooks.install()
        loop.set_exception_handler(self._on_loop_error)
        asyncio.set_event_loop(loop)
        self._loaded = self._load()
        if self._lifeline.is_closed:
            target = self._config.app.target
            raise BootError(f"app.target: importing {target!r} closed descriptors of asgid, as os.closerange() does")
        _open_standard_streams()  # a module may have closed one

    def _open_access_log(self, loop: asyncio.AbstractEventLoop) -> AccessLog | None:
        settings = self._config.log.access
        if not settings.enabled:
            return None
        try:
            return AccessLog(settings, self._log, loop.call_later, self._assignment.slot)
        except OSError as error:
            raise BootError(f"log.access.output: {settings.output!r} cannot be opened: {error.strerror}") from error

    # The service

    async def serve(self) -> None:
        """Start the application, serve until the worker is to leave, and drain. Raises BootError."""
        timeouts, loaded, loop = self._config.timeouts, self._loaded, asyncio.get_running_loop()
        lifespan = Lifespan(loaded.app, "off" if loaded.is_http_only else self._config.app.lifespan, self._log)
        # The loop runs, so TERM can end a startup. A handler that is set before the loop runs would be lost in uvloop.
        loop.add_signal_handler(signal.SIGTERM, self._leave.set)
        if not await self._start(lifespan):
            return
        _open_standard_streams()
        # Imported objects are never garbage: collections would visit them, and copy pages that the master shares.
        gc.collect()
        gc.freeze()
        acceptor = self._acceptor = Acceptor(loop, self._assignment.listeners, self._log, self._assignment.row)
        connections = self._make_connections(loop, acceptor)
        context = self._make_context(connections, lifespan)
        self._fork_hooks.transports = connections.transports
        self._fork_hooks.on_child = context.count_apart
        drain = Drain(context, acceptor)
        ticker = Ticker(context)
        ticker.start()
        await acceptor.start(protocol_factory(context))
        self._listen_to_master(context, drain)
        set_title(self._assignment, "ready")
        self._lifeline.send(wire.Ready(loaded.interface))
        if self._leave.is_set():  # TERM came after the startup
            self._lifeline.send(wire.Leaving())
        lifespan.watch(self._report_loss)
        await self._leave.wait()
        set_title(self._assignment, "draining")
        await drain.run()
        self._drained_by = drain.deadline
        await lifespan.shutdown(max(drain.deadline - monotonic(), timeouts.kill / 4))
        ticker.stop()
        if self._access:
            self._access.close()

    async def _start(self, lifespan: Lifespan) -> bool:
        """Run the application's startup; return False if the worker is to leave meanwhile."""
        startup = asyncio.ensure_future(lifespan.startup())
        leaving = asyncio.ensure_future(self._leave.wait())
        write, boot_s = self._last_words.write, self._config.timeouts.boot
        watch = asyncio.ensure_future(startup_watch.watch(lifespan.stack, self._log, write, boot_s))
        await asyncio.wait((startup, leaving), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        watch.cancel()
        if startup.done():
            startup.result()
            return not self._leave.is_set()
        startup.cancel()
        return False

    def _make_connections(self, loop: asyncio.AbstractEventLoop, acceptor: Acceptor) -> Connections:
        return Connections(
            loop,
            self._assignment.row,
            ConnectionLimit(self._config.limits.connections),
            acceptor,
            write_timeout=self._config.timeouts.write,
            sibling_rows=partial(self._assignment.board.siblings, self._assignment.slot),
        )

    def _make_context(self, connections: Connections, lifespan: Lifespan) -> WorkerContext:
        from asgid.worker.app.wsgi import thread_stack  # noqa: PLC0415 - see boot
        from asgid.worker.websocket.session import start_session  # noqa: PLC0415

        loaded, config = self._loaded, self._config
        threads = config.workers.threads if loaded.interface == "wsgi" else None
        return WorkerContext(
            app=loaded.app,
            config=config,
            row=self._assignment.row,
            log=self._log,
            access=self._access,
            connections=connections,
            request_limit=RequestLimit.from_settings(config.limits, threads),
            state=lifespan.state,
            start_session=None if loaded.is_http_only else start_session,
            thread_stack=thread_stack,
            drops_s=0.0 if loaded.is_http_only else DROPS_S,  # WSGI and ASGI 1 cannot receive a disconnect
        )

    def _report_loss(self, loss: str) -> None:
        """Ask the master for a replacement; until it is there, this worker serves as far as it can."""
        self._lifeline.send(wire.Failed(loss[: wire.REASON_CHARACTERS]))

    # The master, and signals

    def _listen_to_master(self, context: WorkerContext, drain: Drain) -> None:
        stop = wire.Drain(self._config.timeouts.graceful, wire.STOP_LINGER_S)

        def leave_alone() -> None:
            """Drain without an order of the master, as at a stop: the master has gone, or will send one soon."""
            drain.order(stop)
            self._leave.set()

        def on_term() -> None:
            """Obey an operator, or a supervisor that signals the whole process group (dumb-init, systemd)."""
            if not self._leave.is_set():  # otherwise the master has sent an order before, or TERM came twice
                self._lifeline.send(wire.Leaving())
            leave_alone()

        def on_message(message: wire.FromMaster) -> None:
            match message:
                case wire.Drain():
                    drain.order(message)
                    self._leave.set()
                case wire.Reopen():
                    self._log.reopen()
                    if context.access:
                        context.access.reopen()

        if self._leave.is_set():  # TERM came after the startup
            drain.order(stop)
        context.loop.add_signal_handler(signal.SIGTERM, on_term)
        self._lifeline.listen(context.loop, on_message, leave_alone)
        handle_dumps(context.connections, self._last_words, self._log)

    # Errors of the loop

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, details: dict[str, object]) -> None:
        error = details.get("exception")
        if isinstance(error, ClientDisconnectedError):  # a task of the application sent to a client that had gone
            return
        if self._acceptor and isinstance(error, OSError) and details.get("message") == _NO_DESCRIPTOR:
            self._acceptor.log_pause(error)
            return
        stack = tracebacks.format_traceback(error) if isinstance(error, BaseException) else ""
        self._log.error("unhandled in the event loop", problem=str(details.get("message")), stack=stack)
        _log_to_asyncio(loop, details)


def _open_standard_streams() -> None:
    """Open the standard streams that the application has closed. Raises BootError."""
    try:
        descriptors.open_standard_streams()
    except UnavailableError as error:
        raise BootError(str(error)) from error


def protocol_factory(context: WorkerContext) -> ProtocolFactory:
    """Return the maker of protocols for accepted connections."""
    timeouts = phase_timeouts(context.timeouts)
    make_connection = partial(Connection, context, timeouts)

    def make(listener: Listener) -> asyncio.Protocol:
        if listener.proxy_protocol == "off":
            return Connection(context, timeouts)
        policy = ProxyPolicy(
            listener.proxy_protocol,
            context.trusted_proxies,
            context.timeouts.header,
            lambda error, peer: context.rejections.log_proxy_header(error, listener.name, peer),
        )
        return ProxyProtocol(context.connections, policy, make_connection)

    return make


def _log_to_asyncio(loop: asyncio.AbstractEventLoop, details: dict[str, object]) -> None:
    """Log an error of the loop by Python's logger `asyncio`, which Sentry and the application's logging handle.

    Without a handler Python would print it on standard error, where asgid's own line is already.
    """
    logger = logging.getLogger("asyncio")
    nowhere = None if logger.hasHandlers() else logging.NullHandler()
    if nowhere:
        logger.addHandler(nowhere)
    try:
        loop.default_exception_handler(details)
    finally:
        if nowhere:
            logger.removeHandler(nowhere)
