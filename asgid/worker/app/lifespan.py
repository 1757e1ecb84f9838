"""The startup and shutdown of the application (ASGI specification, "Lifespan Protocol").

With `lifespan = "auto"` an application that raises an exception during the startup is served without lifespan, as the
specification requires. If it had received lifespan.startup, a warning has the traceback, because that may be a fault.
An application that sends `lifespan.startup.failed`, or exits, has failed in each mode.
"""

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Literal

from asgid.errors import AppError, BootError
from asgid.log import Log
from asgid.worker import forked, tracebacks
from asgid.worker.asgi import Application, Message

#: The version of the lifespan specification, independent of the other ASGI versions.
SPEC_VERSION = "2.0"
#: The time for an application that sent lifespan.startup.failed to raise its exception, too.
_RAISES_WITHIN_S = 0.1


class _Phase(Enum):
    SILENT = auto()  # the application has not received anything
    STARTING = auto()
    STARTED = auto()
    STOPPING = auto()
    STOPPED = auto()


class Lifespan:
    """The lifespan of the application in this worker; `state` is for its requests, None without a lifespan."""

    def __init__(self, app: Application, mode: Literal["auto", "on", "off"], log: Log) -> None:
        self._app, self._mode, self._log = app, mode, log
        self.state: dict[str, Any] | None = None
        self._phase = _Phase.SILENT
        self._is_supported = mode != "off"
        self._stop = asyncio.Event()
        self._answered = asyncio.Event()
        self._failure: str | None = None
        self._error: BaseException | None = None  # raised by the application in its startup
        self._task: asyncio.Task[None] | None = None
        self._loss = ""  # the reason why the task failed while the worker served
        self._on_loss: Callable[[str], None] | None = None
        self._worker: asyncio.Task[None] | None = None  # the task that serves

    async def startup(self) -> None:
        """Return when the application has started. Raises BootError with the reason of the application if it fails."""
        if not self._is_supported:
            return
        self._task = asyncio.create_task(self._run(), name="lifespan")
        await self._answered.wait()
        if self._failure is not None:
            # Frameworks send a reason and then raise the exception, which has the causes.
            await asyncio.wait([self._task], timeout=_RAISES_WITHIN_S)
            # The reason from Starlette is a traceback, with the error in its last line.
            *above, reason = str(self._failure).strip().splitlines() or [""]
            details = tracebacks.cut_middle(str(self._failure)) if above else ""
            raise BootError(f"lifespan startup failed: {reason.strip()}", details) from self._error

    def stack(self) -> str:
        """Return the stack where the application waits, "" if it was not called or has ended."""
        if self._task is None or self._task.done():
            return ""
        return tracebacks.format_await_chain(self._task.get_coro())

    def watch(self, on_loss: Callable[[str], None]) -> None:
        """Call `on_loss` with the reason if the task fails before its shutdown: the resources for requests are gone.

        An application that returns after its startup has not failed. A cancellation after the end of the calling task
        is not a failure either, because the worker ends then.
        """
        self._on_loss, self._worker = on_loss, asyncio.current_task()
        if self._loss:
            on_loss(self._loss)

    async def shutdown(self, within: float) -> None:
        """Send lifespan.shutdown and wait at most `within` seconds. Failures are logged, not raised."""
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
        self._task.cancel()  # the end of the worker waits for the task, with a deadline
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
                return  # the application has sent the reason
            if self._phase is _Phase.STARTING:
                self._failure = "the application returned before it sent lifespan.startup.complete"
            elif self._phase is _Phase.SILENT and self._mode == "on":
                self._failure = "the application returned without receiving anything, and app.lifespan is on"
            elif self._phase is _Phase.SILENT:
                self._set_unsupported("it returned without receiving anything")
        finally:
            self._answered.set()

    def _is_serving(self) -> bool:
        is_ending = self._stop.is_set() or (self._worker is not None and self._worker.done())
        return self._phase is _Phase.STARTED and not is_ending

    def _lose(self, error: BaseException) -> None:
        """Log a failure while the worker serves; a task that cancels all others may cause it."""
        self._log.error("application failed in its lifespan", stack=tracebacks.format_traceback(error, skip=1))
        self._loss = f"the application's lifespan ended while it served: {tracebacks.one_line(error)}"
        if self._on_loss:
            self._on_loss(self._loss)

    def _on_error(self, error: BaseException) -> None:
        is_starting = self._phase in (_Phase.SILENT, _Phase.STARTING)
        if is_starting:  # main() logs it below the BootError
            self._error = error
        if self._failure is not None:  # the application has sent the reason before it raised
            return
        reason = tracebacks.one_line(error)
        if self._phase is _Phase.SILENT and self._mode == "auto":
            self._set_unsupported(reason)
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
            self._failure = reason
        if not is_starting:
            self._log.error("application failed in its lifespan", stack=tracebacks.format_traceback(error, skip=1))

    def _set_unsupported(self, reason: str) -> None:
        self._is_supported, self.state = False, None
        self._log.debug("the application has no lifespan", reason=reason)

    async def _receive(self) -> Message:
        if self._phase is _Phase.SILENT:
            self._phase = _Phase.STARTING
            return {"type": "lifespan.startup"}
        await self._stop.wait()
        if self._phase is _Phase.STARTED:
            self._phase = _Phase.STOPPING
            return {"type": "lifespan.shutdown"}
        # Nothing follows the shutdown: a further call waits until the task is cancelled.
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    async def _send(self, message: Message) -> None:
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
