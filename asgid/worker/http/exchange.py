"""One request: its body and `receive()`, the application's task, its errors, and the counters.

An exchange is the border for the application's errors: whatever the application raises is logged here, once. Before the
response has begun the client receives 500; after that its connection or stream is aborted, so that no client takes half
a response for a whole one. An exchange does not depend on the version of HTTP: its responder does.
"""

import asyncio
import sys
from asyncio import Future, Task
from collections.abc import Iterable
from math import inf
from time import monotonic
from typing import Protocol

from asgid.board import (
    ABANDONED,
    AT_ONCE,
    DISCONNECTS,
    DURATION,
    EXCEPTIONS,
    OVERLOADED,
    QUEUED,
    REQUEST_CELL,
    RESPONSE_BYTES,
    START,
    STARTED,
    count_answer,
    observe,
)
from asgid.errors import AppError, ClientError
from asgid.worker import forked, tracebacks
from asgid.worker.asgi import Application, Message, Scope
from asgid.worker.http.context import HIGH_WATER, WorkerContext
from asgid.worker.http.fields import Field
from asgid.worker.http.responder import Responder
from asgid.worker.http.response import COMPLETE, HEAD_PENDING, STREAMING, WAITING, named

#: Counted for each chunk beside its bytes; otherwise a client that sends two bytes at a time could fill 25 times the
#: limit.
_CHUNK_BYTES = 48
#: In the access log, for a client that has gone before its response began: nginx's number, because HTTP has none.
CLIENT_CLOSED_REQUEST = 499
#: How long each further `receive()` waits that follows the disconnect without a turn of the loop in between.
_REPEATED_S = 1.0
#: The `retry-after` of a rejected request, in seconds: a queue of short requests is gone by then.
RETRY_AFTER_S = 1

# From Python 3.12 on a task can start where it is made: an application that never waits costs no turn of the loop.
_EAGER = sys.version_info >= (3, 12)
_NO_CHUNKS: list[bytes] = []  # shared by all exchanges that have received none; never changed
_NO_WAITERS: list[Future[None]] = []  # the same, if nothing waits


class Session(Protocol):
    """What replaces `receive` and `send` of an exchange, if its client asks for a WebSocket."""

    is_accepted: bool

    @property
    def is_over(self) -> bool: ...
    async def run(self, app: Application) -> None: ...


class Exchange:
    """From a complete request head to the last byte of the response, and to the end of the application's call."""

    __slots__ = (
        "_buffered",
        "_cancelled_for",
        "_chunks",
        "_disconnects",
        "_is_body_given",
        "_waiters",
        "begun",
        "context",
        "is_body_complete",
        "is_peer_eof",
        "is_slow_logged",
        "method",
        "path",
        "responder",
        "scope",
        "session",
        "stalled_s",
        "task",
    )

    def __init__(self, context: WorkerContext, scope: Scope, responder: Responder) -> None:
        self.context = context
        self.scope = scope
        self.method, self.path = scope["method"], scope["path"]  # the application may change its scope
        self.responder = responder
        self.is_body_complete = False  # as received
        self._is_body_given = False  # to the application, to its end
        self._chunks = _NO_CHUNKS
        self._buffered = 0
        self._waiters = _NO_WAITERS  # several tasks of the application may wait at once
        self._disconnects = (-1, 0)  # the turn in which `receive()` last returned it, and how often it repeated that
        self.is_peer_eof = False  # the client has closed its sending side, and may have gone
        self.task: Task[None] | None = None
        self.begun = 0.0  # when the application was called, time.monotonic()
        self.stalled_s = 0.0  # since then, in which the worker did not run
        self.is_slow_logged = False
        self._cancelled_for: tuple[int, str] | None = None
        self.session: Session | None = None

    # What a connection or a stream calls

    @property
    def response_by(self) -> float:
        """When `timeouts.request` ends, time.monotonic(); inf before the application is called."""
        return self.begun + self.context.timeouts.request + self.stalled_s if self.begun else inf

    def run_app(self, now: float) -> None:
        """Call the application. On Python 3.12+ it runs at once, up to its first wait: often to its end."""
        self.begun = now
        context = self.context
        try:
            context.cells[STARTED] += 1
        except ValueError:
            context.row[STARTED] += 1
        loop = context.loop
        # Not the current context: an exchange may start, or resume reading, within the call of another request.
        variables = context.contextvars.copy()
        if _EAGER:  # a partial of Task costs 0.1 µs more
            self.task = task = Task(self._run(), loop=loop, context=variables, eager_start=True)  # type: ignore[call-arg] # seen as on 3.11
        else:
            self.task = task = Task(self._run(), loop=loop, context=variables)
        if not task.done():
            context.running.add(self)
            task.add_done_callback(self._on_done)
        elif context.request_limit is not None or self.session is not None:
            self._leave_limit()

    def _on_done(self, task: "Task[None]") -> None:
        if task.cancelled():  # on Python 3.11 perhaps before its first step: then `_run` has not begun
            self._fail_cancelled()
        self.context.running.discard(self)
        self._leave_limit()
        self.context.connections.on_closed()

    def _leave_limit(self) -> None:
        """The call has ended: leave the request limit. An accepted WebSocket has left it before."""
        session, self.session = self.session, None  # they refer to each other
        if session is None or not session.is_accepted:
            self.context.leave_limit()

    def start_queued(self) -> None:
        """Start after a wait in the queue; if the client has gone meanwhile, leave the limit at once."""
        if self.responder.is_disconnected:
            self.context.leave_limit()
        else:
            self.responder.run_exchange()

    def reject_overload(self, now: float) -> None:
        """Respond with 503 (RFC 9110 section 15.6.4) without a call of the application."""
        self.begun = now
        self.context.row[STARTED] += 1
        self.context.row[OVERLOADED] += 1
        self._send_error(503, "Too many concurrent requests", [(b"retry-after", b"%d" % RETRY_AFTER_S)])

    def reject(self, error: ClientError) -> None:
        """Respond to a faulty request body; an application that waits for the body receives a disconnect."""
        if not self.begun:
            self._leave_queue()
            self.begun = monotonic()
            self.context.row[STARTED] += 1
        self._send_error(error.status, str(error), error.fields)
        self.responder.is_disconnected = True

    def feed(self, chunk: bytes) -> bool:
        """Take a part of the request body; return whether the client should wait."""
        responder = self.responder
        if responder.state is COMPLETE:  # the application does not read it any more
            return False
        responder.expects_continue = False  # the client did not wait for 100
        if self._chunks:
            self._chunks.append(chunk)
        else:
            self._chunks = [chunk]
        self._buffered += len(chunk) + _CHUNK_BYTES
        if self._waiters and self.notify():  # taken before more comes: a pause would be two system calls without effect
            return False
        return self._buffered >= HIGH_WATER

    @property
    def is_full(self) -> bool:
        """Whether so much of the body waits for the application that the client should wait."""
        return self._buffered >= HIGH_WATER

    def feed_eof(self) -> None:
        """Take the end of the request body."""
        self.is_body_complete = True
        self.responder.expects_continue = False  # nothing is left to ask for
        if self._waiters:
            self.notify()

    def on_disconnect(self) -> None:
        """The client has gone, or its connection is given up."""
        responder = self.responder
        if not responder.is_disconnected:
            responder.is_disconnected = True
            if not self.begun:
                self._leave_queue()
            elif responder.state is not COMPLETE:
                self.context.row[DISCONNECTS] += 1
                self._count_aborted()
            self.notify()
            responder.release()

    def _count_aborted(self) -> None:
        """The response stays incomplete: count its end, and log how much of it was sent."""
        context, responder = self.context, self.responder
        context.row[ABANDONED] += 1
        context.row[RESPONSE_BYTES] += responder.body_bytes
        if context.access:
            status = responder.status if responder.state > HEAD_PENDING else CLIENT_CLOSED_REQUEST
            context.access.add(self.scope, status, responder.body_bytes, monotonic() - self.begun)

    def _leave_queue(self) -> None:
        limit = self.context.request_limit
        if limit is not None:
            limit.withdraw(self)
            self.context.row[QUEUED] = len(limit)

    def on_peer_eof(self) -> None:
        """The client has half-closed: `receive()` returns http.disconnect, and `send()` still works.

        If the response has no body (HEAD, 304) and its head is sent, nothing is left to send. Then the client has
        disconnected: no later write would show that it has gone.
        """
        self.is_peer_eof = True
        responder = self.responder
        if responder.is_bodiless and responder.state is STREAMING:
            self.on_disconnect()
            responder.finish()
        self.notify()

    def cancel(self, status: int, text: str) -> None:
        """Cancel the application's call; respond with `status` if the response has not begun."""
        if self.task and not self.task.done():
            self._cancelled_for = (status, text)
            try:
                self.task.cancel()
            except Exception as error:  # noqa: BLE001 - what it awaits is the application's, and may refuse
                self._log_exception(error)
                self._send_error(status, text)

    # The application's side

    async def receive(self) -> Message:
        """Return the next http.request, or http.disconnect when nothing more comes."""
        has_waited = False
        responder = self.responder
        while True:
            if responder.is_disconnected or responder.state is COMPLETE:
                break
            if not self._is_body_given:
                if self._chunks or self.is_body_complete:
                    return self._next_body()
                if responder.expects_continue:
                    responder.expects_continue = False  # after a part of the response, the body is late like any other
                    if responder.state <= HEAD_PENDING:
                        responder.send_continue()
            if self.is_peer_eof:
                # The application will end its stream early. That must not look like the end of the whole body.
                if responder.state > HEAD_PENDING and not self.context.connections.is_draining:
                    self.abort()
                break
            await self.wait_for_event()
            has_waited = True
        await self.before_disconnect(has_waited=has_waited)
        responder.drops_until = inf  # the application knows: nothing that it sends from now on is an error
        return {"type": "http.disconnect"}

    def abort(self) -> None:
        """Treat a client that has closed its sending side as gone."""
        responder = self.responder
        self.on_disconnect()
        responder.abort()

    async def wait_for_event(self) -> None:
        """Wait until something has come from the client, or the client has gone."""
        waiter = self.context.loop.create_future()
        if self._waiters:
            self._waiters.append(waiter)
        else:
            self._waiters = [waiter]
        try:
            await waiter
        except BaseException:
            # Cancelled: an application may ask 20 times a second, for days, whether its client is still there.
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    async def before_disconnect(self, *, has_waited: bool) -> None:
        """Let the loop turn if `receive()`, which has not waited, returns the disconnect again in the same turn.

        Such an application loops on `receive()` and ignores the disconnect. The second return takes a turn of the loop,
        each further one a second: then the loop costs the other clients nothing, and can be cancelled. An application
        that awaits something else in between does not wait: several parts of it may each receive the disconnect once.
        """
        turns = self.context.connections.turns
        if not has_waited:
            turn, repeats = self._disconnects
            repeats = repeats + 1 if turn == turns.number else 0
            self._disconnects = turn, repeats
            if repeats:
                await asyncio.sleep(0 if repeats == 1 else _REPEATED_S)
        self._disconnects = turns.notice(), self._disconnects[1]

    def _next_body(self) -> Message:
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if chunks:
            self._chunks = _NO_CHUNKS
            was_full, self._buffered = self._buffered >= HIGH_WATER, 0
            if was_full:
                self.responder.body_consumed()
        self._is_body_given = self.is_body_complete
        return {"type": "http.request", "body": body, "more_body": not self.is_body_complete}

    # What the responder calls

    def response_started(self) -> bool:
        """Count that the head was sent; return whether the client waits for nothing more."""
        observe(self.context.row, START, monotonic() - self.begun)
        is_enough = self.is_peer_eof and self.responder.is_bodiless
        if is_enough:
            self.on_peer_eof()
        return is_enough

    def response_complete(self, histogram: int = DURATION) -> float:
        """Count the response, whose last byte is passed to the transport; return the time.monotonic() of that."""
        context, responder, now = self.context, self.responder, monotonic()
        status, size, elapsed = responder.status, responder.body_bytes, now - self.begun
        count_answer(context.cells, REQUEST_CELL[self.method][status], size, histogram, elapsed)
        if context.access:
            context.access.add(self.scope, status, size, elapsed)
        if self._waiters:
            self.notify()
        return now

    def websocket_accepted(self) -> None:
        """Count the response that accepts a WebSocket: the request is complete, and leaves the limit."""
        row = self.context.row
        row[REQUEST_CELL[self.method][101]] += 1
        observe(row, AT_ONCE, monotonic() - self.begun)
        self.context.leave_limit()

    # The border for the application's errors

    async def _run(self) -> None:
        try:
            if self.session:
                await self.session.run(self.context.app)
            else:
                await self.context.app(self.scope, self.receive, self.responder.send)
            if self.responder.state is COMPLETE or self._has_lost_client:
                return
            if not self.is_peer_eof:
                if self.responder.state is WAITING:
                    self.context.withdraw_files()
                raise AppError(  # noqa: TRY301 - one border for errors and for missing responses
                    f"the application returned while its response was {named(self.responder.state)}"
                )
            # The application received a disconnect, and sends no response: right, unless the disconnect was ours.
            if self.context.connections.is_draining:
                self._send_error(503, "the server is stopping")
            else:
                self.abort()
        except BaseException as error:  # the border: no error of an application ends a worker
            forked.exit_if_child(error)
            if tracebacks.is_task_cancelled(error):
                self._fail_cancelled()
                raise
            if self._has_lost_client and tracebacks.is_caused_by_disconnect(error):
                return  # asgid raised it, and the application let it pass: nothing is wrong
            try:
                self._log_exception(error)
            finally:  # an error that cannot be formatted does not leave its client without a response
                self._send_error(500, "Internal Server Error")

    def _log_exception(self, error: BaseException) -> None:
        self.context.row[EXCEPTIONS] += 1
        self.context.log.error(
            "application failed",
            method=self.method,
            path=self.path,
            response=named(self.responder.state),
            stack=tracebacks.format_traceback(error, skip=1),
        )

    @property
    def _has_lost_client(self) -> bool:
        """Whether `send()` has no client any more. An application may hold the `send` of many requests, so an error
        because of another client must not count here.
        """
        if self.session and self.session.is_accepted:
            return self.session.is_over
        return self.responder.is_disconnected or self.responder.is_closing()

    def _fail_cancelled(self) -> None:
        self._send_error(*(self._cancelled_for or (500, "Internal Server Error")))

    def _send_error(self, status: int, text: str, fields: Iterable[Field] = ()) -> None:
        """Respond instead of the application if nothing was sent yet; otherwise abort the response."""
        responder = self.responder
        if responder.is_disconnected or responder.state is COMPLETE:
            return
        if responder.state > HEAD_PENDING:
            responder.is_disconnected = True
            self._count_aborted()
            responder.abort()
            responder.release()
        else:
            responder.send_error(status, text, fields)

    def notify(self) -> bool:
        """Wake everything that waits for the client; return whether something waited that was not cancelled."""
        waiters, self._waiters = self._waiters, _NO_WAITERS
        is_awaited = False
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
                is_awaited = True
        return is_awaited

    @property
    def is_unanswered(self) -> bool:
        """Whether the client still waits for the first byte; a stream that has begun is not slow."""
        return not self.responder.is_disconnected and self.responder.state <= HEAD_PENDING

    def stack(self) -> str:
        """Return where the application's task waits, from its call inwards, and the stack of its thread."""
        if self.task is None:
            return ""
        return tracebacks.format_await_chain(self.task.get_coro()) + self.context.thread_stack(self.task)
