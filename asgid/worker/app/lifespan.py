"""The startup and shutdown conversation with the application (ASGI specification, "Lifespan Protocol").

With `lifespan = "auto"` an application that raises an exception instead of an answer to the startup is served without
lifespan, as the specification asks. If it had received the startup, a warning has the traceback: that may be a fault.
An application that answers `lifespan.startup.failed`, or exits, has failed in every mode.
"""

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Literal

from asgid.errors import AppError, BootError
from asgid.log import Log
from asgid.worker import tracebacks
from asgid.worker.http.context import Application, Event
from asgid.worker.process import forked

#: The version of the lifespan specification, which is counted by itself.
SPEC_VERSION = "2.0"
#: How long an application that sent why its startup failed may take to raise it, too.
_RAISES_WITHIN_S = 0.1


class _Phase(Enum):
    SILENT = auto()  # it has not received anything yet
    STARTING = auto()
    STARTED = auto()
    STOPPING = auto()
    STOPPED = auto()


class Lifespan:
    """One application's life in this worker. `state` is what it leaves for its requests; None where it has no
    lifespan, and so nothing that could be left.
    """

    def __init__(self, app: Application, mode: Literal["auto", "on", "off"], log: Log) -> None:
        self._app, self._mode, self._log = app, mode, log
        self.state: dict[str, Any] | None = None
        self._phase = _Phase.SILENT
        self._is_supported = mode != "off"
        self._stop = asyncio.Event()
        self._answered = asyncio.Event()
        self._failure: str | None = None
        self._error: BaseException | None = None  # what the application raised in its startup
        self._task: asyncio.Task[None] | None = None
        self._loss = ""  # why its task ended while the worker served
        self._on_loss: Callable[[str], None] | None = None
        self._worker: asyncio.Task[None] | None = None  # the task that serves

    async def startup(self) -> None:
        """Return when the application has started; raises BootError with its own words when it cannot."""
        if not self._is_supported:
            return
        self._task = asyncio.create_task(self._run(), name="lifespan")
        await self._answered.wait()
        if self._failure is not None:
            # Frameworks send why they failed and then raise it: the exception has the causes.
            await asyncio.wait([self._task], timeout=_RAISES_WITHIN_S)
            # Starlette gives a whole traceback as its reason, whose last line names the fault.
            *above, reason = str(self._failure).strip().splitlines() or [""]
            story = tracebacks.cut_middle(str(self._failure)) if above else ""
            raise BootError(f"lifespan startup failed: {reason.strip()}", story) from self._error

    def stack(self) -> str:
        """Return where the application waits, "" if it was not called or has ended."""
        if self._task is None or self._task.done():
            return ""
        return tracebacks.format_await_chain(self._task.get_coro())

    def watch(self, on_loss: Callable[[str], None]) -> None:
        """Call `on_loss` with the reason if the task fails before its shutdown: what it holds for requests is gone.

        An application that returns after its startup has not failed, and neither has one whose task is cancelled after
        the calling task has ended, for the worker ends then.
        """
        self._on_loss, self._worker = on_loss, asyncio.current_task()
        if self._loss:
            on_loss(self._loss)

    async def shutdown(self, within: float) -> None:
        """Let the application end, in at most `within` seconds; what goes wrong is logged and holds nothing up."""
        if self._task is None or self._task.done() or not self._is_supported:
            return
        self._answered.clear()
        self._stop.set()
        try:
            async with asyncio.timeout(within):
                await self._answered.wait()
        except TimeoutError:
            self._log.warning("lifespan shutdown did not end in time", within_s=round(within, 2), stack=self.stack())
        if self._failure is not None:
            self._log.error("lifespan shutdown failed", problem=self._failure)
        self._task.cancel()  # the end of the worker waits for it, and has a deadline
        await asyncio.sleep(0)

    async def _run(self) -> None:
        self.state = {}
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": SPEC_VERSION}, "state": self.state}
        try:
            await self._app(scope, self._receive, self._send)
        except BaseException as error:  # the border to the application
            forked.exit_if_child(error)
            is_from_outside = tracebacks.is_task_cancelled(error)
            if self._is_serving() and (self._on_loss or not is_from_outside):
                self._lose(error)
            elif is_from_outside:
                raise
            else:
                self._on_error(error)
        else:
            if self._failure is not None:
                return  # it has said so itself, and why
            if self._phase is _Phase.STARTING:
                self._failure = "the application returned before it said lifespan.startup.complete"
            elif self._phase is _Phase.SILENT and self._mode == "on":
                self._failure = "the application returned without receiving anything, and app.lifespan is on"
            elif self._phase is _Phase.SILENT:
                self._unsupported("it returned without receiving anything")
        finally:
            self._answered.set()

    def _is_serving(self) -> bool:
        is_ending = self._stop.is_set() or (self._worker is not None and self._worker.done())
        return self._phase is _Phase.STARTED and not is_ending

    def _lose(self, error: BaseException) -> None:
        """Log an end while the worker serves, which may come from a task that cancels all others."""
        self._log.error("application failed in its lifespan", stack=tracebacks.format_traceback(error, skip=1))
        self._loss = f"the application's lifespan ended while it served: {tracebacks.one_line(error)}"
        if self._on_loss:
            self._on_loss(self._loss)

    def _on_error(self, error: BaseException) -> None:
        is_starting = self._phase in (_Phase.SILENT, _Phase.STARTING)
        if is_starting:  # it is shown by the border of the process, below why the worker does not boot
            self._error = error
        if self._failure is not None:  # it has said so already, and then raised it again
            return
        said = tracebacks.one_line(error)
        if self._phase is _Phase.SILENT and self._mode == "auto":
            self._unsupported(said)
            return
        if self._phase is _Phase.STARTING and self._mode == "auto" and isinstance(error, Exception):
            self._is_supported, self.state, self._error = False, None, None
            self._log.warning(
                "application raised in its lifespan startup; it is served without a lifespan",
                hint='app.lifespan = "on" makes this a failed start, "off" silences it',
                stack=tracebacks.format_traceback(error, skip=1),
            )
            return
        if self._phase is not _Phase.STOPPED:
            self._failure = said
        if not is_starting:
            self._log.error("application failed in its lifespan", stack=tracebacks.format_traceback(error, skip=1))

    def _unsupported(self, why: str) -> None:
        self._is_supported, self.state = False, None
        self._log.debug("the application has no lifespan", reason=why)

    async def _receive(self) -> Event:
        if self._phase is _Phase.SILENT:
            self._phase = _Phase.STARTING
            return {"type": "lifespan.startup"}
        await self._stop.wait()
        if self._phase is _Phase.STARTED:
            self._phase = _Phase.STOPPING
            return {"type": "lifespan.shutdown"}
        # Nothing follows a shutdown: whoever asks again waits for its end.
        nothing: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        return await nothing

    async def _send(self, message: Event) -> None:
        match self._phase, message["type"]:
            case _Phase.STARTING, "lifespan.startup.complete":
                self._phase = _Phase.STARTED
            case _Phase.STARTING, "lifespan.startup.failed":
                self._failure = message.get("message") or "the application gave no reason"
            case _Phase.STOPPING, "lifespan.shutdown.complete":
                self._phase = _Phase.STOPPED
            case _Phase.STOPPING, "lifespan.shutdown.failed":
                self._phase = _Phase.STOPPED
                self._failure = message.get("message") or "the application gave no reason"
            case _:
                raise AppError(f"{message['type']!r} is not expected while the lifespan is {self._phase.name.lower()}")
        self._answered.set()
