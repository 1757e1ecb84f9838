"""One request and its response: what the application's `receive()` and `send()` do.

The border for the application's errors: whatever it raises is logged here, once. Before the response has begun the
client gets 500; after that the connection is aborted, so that nobody takes half an answer for a whole one. An exchange
does not know the parser; it pulls on its connection for everything that concerns the transport.
"""

import asyncio
import sys
from asyncio import Future, Task
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

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
from asgid.errors import AppError, ClientDisconnectedError, ClientError
from asgid.worker import tracebacks
from asgid.worker.http import files
from asgid.worker.http.context import HIGH_WATER
from asgid.worker.http.scope import Scope
from asgid.worker.http1.response import COMPLETE, HELD, WAITING, Message, Response, State
from asgid.worker.process import forked

if TYPE_CHECKING:
    from asgid.worker.http1.connection import Connection
    from asgid.worker.websocket.session import Conversation

#: Counted for each chunk beside its bytes: else a client that sends two bytes at a time could fill 25 times the limit.
_CHUNK_BYTES = 48
#: In the access log, of a client that has left before an answer began: nginx's number, for HTTP has none.
CLIENT_LEFT = 499
#: How long each further `receive()` waits that asks again after the end, without a turn of the loop in between.
_ASKED_AGAIN_S = 1.0
#: What a client is told that finds no place: by then a queue of short requests has gone.
RETRY_AFTER_S = 1

# From Python 3.12 on a task can begin where it is made: an application that never waits costs no trip through the loop.
_EAGER = sys.version_info >= (3, 12)
_NOTHING: list[bytes] = []  # shared by all that have received nothing; never changed
_NO_WAITERS: list[Future[None]] = []  # the same for those that nothing waits in


class Exchange:
    """From a complete request head to the last byte of the response, and to the end of the application's call."""

    __slots__ = (
        "_buffered",
        "_cancelled_for",
        "_chunks",
        "_drops_until",
        "_end_given",
        "_is_body_given",
        "_service",
        "_waiters",
        "begun",
        "connection",
        "conversation",
        "expects_continue",
        "is_body_complete",
        "is_disconnected",
        "is_hung_up",
        "is_slow_logged",
        "method",
        "path",
        "response",
        "response_bytes",
        "scope",
        "stalled_s",
        "task",
    )

    def __init__(self, connection: "Connection", scope: Scope, response: Response, expects_continue: bool) -> None:
        self.connection = connection
        self._service = connection.service
        self.scope = scope
        self.method, self.path = scope["method"], scope["path"]  # the scope is the application's, to empty it even
        self.response = response
        self.expects_continue = expects_continue
        self.is_body_complete = False  # as far as it has arrived
        self._is_body_given = False  # to the application, to its end
        self._chunks = _NOTHING
        self._buffered = 0
        self._waiters = _NO_WAITERS  # several tasks of the application may wait at once
        self._end_given = (-1, 0)  # the turn in which `receive()` last returned the end; how often it was asked again
        self.is_disconnected = False
        self.is_hung_up = False  # the client will send no more, and may be gone
        self._drops_until = 0.0  # time.monotonic(): until then send() drops what the client cannot read any more
        self.task: Task[None] | None = None
        self.begun = 0.0  # when the application was called, time.monotonic()
        self.stalled_s = 0.0  # since then, in which the worker did not run
        self.response_bytes = 0
        self.is_slow_logged = False
        self._cancelled_for: tuple[int, str] | None = None
        self.conversation: Conversation | None = None  # in place of ours, where a WebSocket is asked for

    # The connection's side

    @property
    def answer_by(self) -> float:
        """When `timeouts.request` ends, time.monotonic(); inf before the application is called."""
        return self.begun + self._service.timeouts.request + self.stalled_s if self.begun else inf

    def start(self, now: float) -> None:
        """Call the application. On Python 3.12+ it runs at once, up to where it first has to wait: often to its end."""
        self.begun = now
        service = self._service
        try:
            service.cells[STARTED] += 1
        except ValueError:
            service.row[STARTED] += 1
        loop = service.loop
        # Not the context at hand: the turn came, or reading was resumed, within another request's call.
        context = service.context.copy()
        if _EAGER:  # a partial of Task costs 0.1 µs more
            self.task = task = Task(self._run(), loop=loop, context=context, eager_start=True)  # type: ignore[call-arg] # seen as on 3.11
        else:
            self.task = task = Task(self._run(), loop=loop, context=context)
        if not task.done():
            service.running.add(self)
            task.add_done_callback(self._ended)
        elif service.places is not None or self.conversation is not None:
            self._free_place()

    def _ended(self, task: "Task[None]") -> None:
        if task.cancelled():  # on Python 3.11 perhaps before its first step: then the border was never entered
            self._fail_for_cancelled()
        self._service.running.discard(self)
        self._free_place()
        self._service.on_left()

    def _free_place(self) -> None:
        """The call has ended: give its place back. An accepted WebSocket has left the place before."""
        conversation, self.conversation = self.conversation, None  # each would keep the other
        if conversation is None or not conversation.is_accepted:
            self._service.free_place()

    def begin(self) -> None:
        """Begin after waiting for a place; a client that has left meanwhile has given it back."""
        if self.is_disconnected:
            self._service.free_place()
        else:
            self.connection.begin(self)

    def refuse(self, now: float) -> None:
        """Answer that there is no place (RFC 9110 section 15.6.4); the application never hears of it."""
        self.begun = now
        self._service.row[STARTED] += 1
        self._service.row[OVERLOADED] += 1
        self._fail(503, "too many requests at a time", b"retry-after: %d\r\n" % RETRY_AFTER_S)

    def give_up(self, error: ClientError) -> None:
        """Answer what is wrong with the body; an application that waits for it hears that its client is gone."""
        if not self.begun:
            self._leave_waiting_room()
            self.begun = monotonic()
            self._service.row[STARTED] += 1
        self._fail(error.status, str(error), error.lines)
        self.is_disconnected = True

    def feed(self, chunk: bytes) -> bool:
        """Take a part of the request body; return whether the client should wait."""
        if self.response.state is COMPLETE:  # nobody will read it
            return False
        self.expects_continue = False  # it did not wait to be asked
        if self._chunks:
            self._chunks.append(chunk)
        else:
            self._chunks = [chunk]
        self._buffered += len(chunk) + _CHUNK_BYTES
        if self._waiters and self.wake():  # it is taken before more comes: a pause would be two system calls in vain
            return False
        return self._buffered >= HIGH_WATER

    @property
    def is_full(self) -> bool:
        """Whether so much of the body waits for the application that the client should wait."""
        return self._buffered >= HIGH_WATER

    def feed_end(self) -> None:
        self.is_body_complete = True
        self.expects_continue = False  # there is nothing left to ask for
        if self._waiters:
            self.wake()

    def disconnect(self) -> None:
        """The client is gone, or this connection is given up."""
        if not self.is_disconnected:
            self.is_disconnected = True
            if not self.begun:
                self._leave_waiting_room()
            elif self.response.state is not State.COMPLETE:
                self._service.row[DISCONNECTS] += 1
                self._abandon()
            self.wake()

    def _abandon(self) -> None:
        """The answer will never be whole: count it as ended, and tell how much of it there was."""
        row, response = self._service.row, self.response
        row[ABANDONED] += 1
        row[RESPONSE_BYTES] += self.response_bytes
        if self._service.access:
            status = response.status if response.state > HELD else CLIENT_LEFT
            self._service.access.add(self.scope, status, self.response_bytes, monotonic() - self.begun)

    def _leave_waiting_room(self) -> None:
        places = self._service.places
        if places is not None:
            places.forget(self)
            self._service.row[QUEUED] = len(places)

    def hang_up(self) -> None:
        """The client has closed its sending side: who waits for a disconnect has it; what is sent may still be read.

        Of an answer to HEAD, or a 304, all has left with the head: nobody is there for the rest, and no write ever
        finds that out.
        """
        self.is_hung_up = True
        if self.response.is_bodiless and self.response.state is State.STREAMING:
            self.disconnect()
            self.connection.finish()
        self.wake()

    def cancel(self, status: int, text: str) -> None:
        """End the application's call; `status` is the answer where it had not begun one."""
        if self.task and not self.task.done():
            self._cancelled_for = (status, text)
            try:
                self.task.cancel()
            except Exception as error:  # noqa: BLE001 - what it awaits is the application's, and may refuse
                self._tell_of(error)
                self._fail(status, text)

    # The application's side

    async def receive(self) -> Message:
        """Return the next http.request, or http.disconnect once there is nothing more to come."""
        has_waited = False
        while True:
            if self.is_disconnected or self.response.state is COMPLETE:
                break
            if not self._is_body_given:
                if self._chunks or self.is_body_complete:
                    return self._next_body()
                if self.expects_continue:
                    self.expects_continue = False  # once a part of the answer has left, the body is late like another
                    if self.response.state <= HELD:
                        self.connection.write_continue()
            if self.is_hung_up:
                # The application will end its stream early. Its end must not look like the end of the whole body.
                if self.response.state > HELD and not self._service.is_draining:
                    self._leave()
                break
            await self.news()
            has_waited = True
        await self.before_end(has_waited=has_waited)
        self._drops_until = inf  # the application knows: nothing that it sends from now on is an error
        return {"type": "http.disconnect"}

    def _leave(self) -> None:
        """Take a client that has closed its sending side for one that has gone."""
        self.disconnect()
        self.connection.abort()

    async def news(self) -> None:
        """Wait until something has come from the client, or it has gone."""
        waiter = self._service.loop.create_future()
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

    async def before_end(self, *, has_waited: bool) -> None:
        """Let the loop turn if `receive()`, which has not waited, returns the end a second time in one turn of it.

        Such an application loops on `receive()` and does not look for the end. The second time takes a turn of the
        loop, each further one a second: then it costs the other clients nothing, and can be cancelled. An application
        that does something else in between is not made to wait: several parts of it may each ask once.
        """
        turns = self._service.turns
        if not has_waited:
            turn, times = self._end_given
            times = times + 1 if turn == turns.number else 0
            self._end_given = turn, times
            if times:
                await asyncio.sleep(0 if times == 1 else _ASKED_AGAIN_S)
        self._end_given = turns.notice(), self._end_given[1]

    def _next_body(self) -> Message:
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if chunks:
            self._chunks = _NOTHING
            if self._buffered >= HIGH_WATER:
                self.connection.resume_reading()
            self._buffered = 0
        self._is_body_given = self.is_body_complete
        return {"type": "http.request", "body": body, "more_body": not self.is_body_complete}

    async def send(self, message: Message) -> None:  # noqa: C901 - a call more for each message costs 0.5 %
        """Take one response message; returns when the transport can take another."""
        kind = message.get("type")
        if self.is_disconnected:
            await self.drop(message)
            return
        response = self.response
        if kind == "http.response.start":
            if self._drops_until and self._is_second_answer():
                await self.drop(message)
                return
            response.start(message)
            return
        if kind != "http.response.body":
            await files.send(self, kind, message)
            return
        was_held = response.state is HELD
        connection, service = self.connection, self._service
        writer = connection.writer
        if writer.transport.is_closing() and response.state is not COMPLETE:  # we are told in the next turn
            await self.drop(message)
            return
        before, payload, after = response.body(
            message,
            service.common_lines,
            self.expects_continue or ((connection.is_deaf or service.is_draining) and connection.is_last()),
        )
        if writer.cork:
            writer.cork.writelines((before, payload, after))
        elif len(payload) <= service.most_joined:
            # A sum of two costs less than a join; only chunks have an end.
            writer.transport.write(b"".join((before, payload, after)) if after else before + payload)
        else:
            writer.transport.writelines((before, payload, after) if after else (before, payload))
        self.response_bytes += len(payload)
        if response.state is COMPLETE:
            self.complete(monotonic(), AT_ONCE if was_held else DURATION)
            return
        if was_held and self._is_enough():
            return
        writer.hold_back()
        # A client that keeps up never makes its application wait: one that waits for nothing else would keep the loop,
        # from the others and from the news that the client has gone.
        if writer.is_paused or (writer.cork and writer.cork.is_passed):
            await self.until_taken()

    def _is_enough(self) -> bool:
        """Take note that the head has left; return whether the client waits for nothing after it."""
        observe(self._service.row, START, monotonic() - self.begun)
        is_enough = self.is_hung_up and self.response.is_bodiless
        if is_enough:
            self.hang_up()
        return is_enough

    def _is_second_answer(self) -> bool:
        """Whether an application that knows of its client's end now ends as frameworks do: with another answer."""
        is_second = self.is_hung_up and self.response.state is not WAITING
        if is_second:
            self._leave()
        return is_second

    async def drop(self, message: Message) -> None:
        """Take a message for a client that has left: that is not an error (ASGI HTTP specification 2.3).

        An application that never calls receive() would not learn of it, and could stream forever. So after a while its
        next part raises ClientDisconnectedError. What ends an answer never does: background tasks may follow it.
        """
        if message.get("more_body", False):
            now = monotonic()
            self._drops_until = self._drops_until or now + self._service.drops_s
            if now >= self._drops_until:
                await asyncio.sleep(0)  # it may catch the error and send again
                raise ClientDisconnectedError("the client has disconnected")
        await asyncio.sleep(0)  # one that only sends must not hold the loop

    async def until_taken(self) -> None:
        """Wait for the client if it is slow, else for one turn of the loop."""
        await self.connection.writer.taken()

    def complete(self, now: float, histogram: int) -> None:
        """The last byte is handed to the transport: count it, and let the connection go on."""
        service, status = self._service, self.response.status
        size, elapsed = self.response_bytes, now - self.begun
        count_answer(service.cells, REQUEST_CELL[self.method][status], size, histogram, elapsed)
        if service.access:
            service.access.add(self.scope, status, size, elapsed)
        if self._waiters:
            self.wake()
        self.connection.exchange_done(self, now)

    def upgraded(self, now: float) -> None:
        """The head that accepts a WebSocket has left: the request is answered; its connection is not HTTP any more."""
        response, row = self.response, self._service.row
        response.state, response.status = COMPLETE, 101
        row[REQUEST_CELL[self.method][101]] += 1
        observe(row, AT_ONCE, now - self.begun)
        self._service.free_place()
        del self.connection

    # The border

    async def _run(self) -> None:
        try:
            if self.conversation:
                await self.conversation.run(self._service.app)
            else:
                await self._service.app(self.scope, self.receive, self.send)
            if self.response.state is COMPLETE or self._has_lost_client:
                return
            if not self.is_hung_up:
                if self.response.state is WAITING:
                    self._service.withdraw_files()
                raise AppError(  # noqa: TRY301 - the border is one for what it raises and for what it leaves undone
                    f"the application returned while its response was {self.response.state.name.lower()}"
                )
            # It was told that nobody waits for an answer, and gives none: true, but where it was we who said so.
            if self._service.is_draining:
                self._fail(503, "the server is stopping")
            else:
                self._leave()
        except BaseException as error:  # the border: nothing an application does ends a worker
            forked.exit_if_child(error)
            if tracebacks.is_task_cancelled(error):
                self._fail_for_cancelled()
                raise
            if self._has_lost_client and tracebacks.is_caused_by_disconnect(error):
                return  # we said so ourselves, and the application let it through: nothing is wrong
            self._tell_of(error)
            self._fail(500, "Internal Server Error")

    def _tell_of(self, error: BaseException) -> None:
        self._service.row[EXCEPTIONS] += 1
        self._service.log.error(
            "application failed",
            method=self.method,
            path=self.path,
            response=self.response.state.name.lower(),
            stack=tracebacks.format_traceback(error, skip=1),
        )

    @property
    def _has_lost_client(self) -> bool:
        """Whether `send()` has nobody left to send to. One application may hold the `send` of many requests: that
        another of them has lost its client says nothing about this one.
        """
        if self.conversation and self.conversation.is_accepted:
            return self.conversation.is_over
        return self.is_disconnected or self.connection.transport.is_closing()

    def _fail_for_cancelled(self) -> None:
        self._fail(*(self._cancelled_for or (500, "Internal Server Error")))

    def _fail(self, status: int, text: str, lines: bytes = b"") -> None:
        """Answer for the application where nothing was sent yet; else make plain that the answer is not whole."""
        if self.is_disconnected or self.response.state is State.COMPLETE:
            return
        if self.response.state > HELD:
            self.is_disconnected = True
            self._abandon()
            self.connection.abort()
            return
        self.response.status = status
        self.response.state = State.COMPLETE
        self.response.keep_alive = False
        # Not by the scope: it is the application's, and there is middleware that makes a GET of a HEAD.
        is_head = self.response.is_head
        self.response_bytes = self.connection.write_error(status, text, is_head=is_head, lines=lines)
        self.complete(monotonic(), AT_ONCE)

    def wake(self) -> bool:
        """Let all that wait for news go on; return whether one did. One that was cancelled does not wait any more."""
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
        return not self.is_disconnected and self.response.state in (State.WAITING, State.HELD)

    def stack(self) -> str:
        """Return where the application's task waits, from its call inwards, and where its thread stands."""
        if self.task is None:
            return ""
        return tracebacks.format_await_chain(self.task.get_coro()) + self._service.elsewhere(self.task)
