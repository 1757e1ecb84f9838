"""asyncio.Protocol: what is read becomes exchanges, in turn; keep-alive, pipelining, and one deadline.

The application is started at the end of the message where that is already here, else after the bytes at hand are used
up. Requests of one connection are answered strictly in order, and one is not read before the last one has its answer:
until then it waits as bytes, and no more of them are taken from the client. A connection has one number, `deadline`,
and the phase that it belongs to; the pulse looks at it once a second, so no timer is made or cancelled for a request.
"""

import asyncio
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, cast

from asgid.board import QUEUED, REQUEST_BYTES, RESPONSE_BYTES, TIMEOUT_CELL
from asgid.errors import ClientError
from asgid.worker.http.admission import Entry, Places
from asgid.worker.http.context import Service
from asgid.worker.http.exchange import Exchange
from asgid.worker.http.fields import Field
from asgid.worker.http.scope import request_scope, scope_template
from asgid.worker.http1.parser import SLICE, RequestParser, StopParsing
from asgid.worker.http1.response import COMPLETE, HELD, Response, error_response
from asgid.worker.net import addresses
from asgid.worker.net.addresses import Addresses
from asgid.worker.net.lingering_close import Farewell
from asgid.worker.net.writer import Writer

if TYPE_CHECKING:
    from asgid.worker.websocket.protocol import WebSocket

#: Body that nobody wants, read so that the connection can be kept; above it closing is cheaper.
_DISCARDED = 262144


class Connection(asyncio.Protocol):
    """One client. `is_deaf` once nothing that it sends is looked at any more; an answer may still be owed."""

    __slots__ = (
        "_common",
        "_discarded",
        "_ends",
        "_has_begun",
        "_has_said_last",
        "_is_ended",
        "_is_in_line",
        "_is_turn_spent",
        "_phase",
        "_reader",
        "_receiving",
        "_unstarted",
        "deadline",
        "exchange",
        "is_deaf",
        "service",
        "transport",
        "writer",
    )

    def __init__(self, service: Service) -> None:
        self.service = service
        self.transport: asyncio.Transport
        self.writer: Writer
        self._has_begun = False  # a request, in this read
        self._is_turn_spent = False  # no other is to begin in it; false between reads
        self._is_in_line = False  # what was received is read on in a later turn of the loop
        self._has_said_last = False  # the client: it sends no request after the one that came last
        self.exchange: Exchange | None = None  # the one whose turn it is to answer
        self.deadline = inf
        self.is_deaf = False
        self._reader = RequestParser(self, service.limits)
        self._phase = ""
        self._receiving: Exchange | None = None  # the one whose message is arriving
        self._unstarted: Exchange | None = None
        self._is_ended = False  # the client has closed its sending side
        self._discarded = 0

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.service.entered(self)
        self.begin_on(transport, addresses.from_transport(transport), monotonic() + self.service.timeouts.header)

    def begin_on(self, transport: asyncio.BaseTransport, known: Addresses, header_by: float) -> None:
        """Serve `transport`, whose two ends are `known`; the first head is to be here at `header_by`."""
        self.transport = cast("asyncio.Transport", transport)  # the base class is wider than what a server is given
        service = self.service
        self.writer = Writer(self.transport, service)
        self._ends = known
        self._common = scope_template(*known, root_path=service.config.app.root_path, extensions=service.extensions)
        self._phase, self.deadline = "header", header_by

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature; lost is lost
        self.deadline = inf
        self.is_deaf = True
        if self.exchange:
            self.exchange.disconnect()
        self.exchange = self._receiving = self._unstarted = None
        self._reader.close()
        self.writer.release()
        self.service.left(self)

    def data_received(self, data: bytes) -> None:
        if self.is_deaf:
            return
        reader = self._reader
        if len(data) > SLICE and self.service.turns.is_spent(monotonic()):
            reader.keep(data)
            self._hold_rest()
            return
        self._has_begun = False
        try:
            reader.feed(data)
            while reader.can_continue and not (self._is_turn_spent or self.service.turns.is_spent(monotonic())):
                reader.feed(b"")
        except ClientError as error:
            self._fail(error)
            return
        if self._unstarted:
            self._start(self._unstarted)
        if reader.has_rest:
            self._hold_rest()
        elif self._is_turn_spent:
            self._end_turn()
        if self._receiving:
            self._await_body(self._receiving)
        elif reader.is_in_head:
            self._await_head()

    def _end_turn(self) -> None:
        """All that was here is read: the next read may begin a request."""
        self._is_turn_spent = False
        if self.exchange is None and not self.writer.is_paused:
            self._reader.is_stopped = False

    def _hold_rest(self) -> None:
        """Take no more of the client. Read what is here when its turn comes, or in a later turn of the loop."""
        self._is_turn_spent = False
        self.service.pause_reading(self)
        if self.exchange is None or self._receiving is not None:
            self._read_later()

    def eof_received(self) -> bool:
        # A client may close its sending side and still read what it is owed (RFC 9112 section 9.6); else it leaves.
        exchange = self.exchange
        if exchange is None or self._receiving is not None:
            return False
        if self.service.places is not None and not exchange.begun:  # who leaves the waiting room is not kept a place
            return False
        self.is_deaf = self._is_ended = True
        exchange.hang_up()
        return True

    def client_left(self, is_reset: bool) -> None:
        """The client has closed its sending side, or the connection, while we do not read."""
        if is_reset:
            self.abort()
        elif self.exchange and self.exchange.is_body_complete:  # else the rest of the body may still be there
            self.exchange.hang_up()

    def pause_writing(self) -> None:
        # While the client does not take what it has asked for, what it asks for further waits: else one that never
        # reads could fill the memory with answers.
        self._reader.is_stopped = True
        self.writer.pause()
        self._await_reader()

    def resume_writing(self) -> None:
        self.writer.release()
        if self._phase != "write" or self.transport.is_closing():
            return
        if self.exchange is None:
            self._next(monotonic())
        elif self._receiving is self.exchange:
            self._await_body(self.exchange)
        else:
            self._await_answer(self.exchange)

    # The reader's side

    def request_began(
        self, method: str, target: bytes, minor: int, headers: list[Field], keep_alive: bool, expects_continue: bool
    ) -> None:
        if self._has_begun:
            self.writer.hold_back()
            self._is_turn_spent = self.service.turns.is_spent(monotonic())
        self._has_begun = True
        self._has_said_last = not keep_alive
        scope = request_scope(self._common, self.service.state, method, target, minor, headers)
        if self._reader.is_forwarded:
            self.service.forwarding.apply(scope, addresses.peer_name(self._ends, self.transport))
        response = Response(method == "HEAD", minor, keep_alive)
        self._receiving = exchange = Exchange(self, scope, response, expects_continue)
        if self._reader.is_handshake and self.service.converse:
            self.service.converse(exchange, headers)
        self.exchange = self._unstarted = exchange

    def body_came(self, chunk: bytes) -> None:
        self.service.row[REQUEST_BYTES] += len(chunk)
        exchange = self._receiving
        if exchange is None:  # given up meanwhile
            raise StopParsing
        if exchange.response.state is COMPLETE:
            self._discarded += len(chunk)
            if self._discarded > _DISCARDED:
                self.finish()
                raise StopParsing
        elif exchange.feed(chunk):
            self.service.pause_reading(self)

    def request_ended(self) -> None:
        exchange, self._receiving = self._receiving, None
        if exchange is None:
            raise StopParsing
        if self._unstarted is exchange:
            exchange.is_body_complete, exchange.expects_continue = True, False  # and nothing waits for the body yet
            if not exchange.conversation:  # the bytes at hand may be the WebSocket's already: it is started after them
                self._start(exchange)
        else:
            exchange.feed_end()
            if exchange.response.state is COMPLETE:
                self._discarded = 0
                self._next(monotonic())
            elif self._phase == "body":
                self._await_answer(exchange)
        if self.is_deaf:  # its answer is here, and the last
            raise StopParsing
        if self.exchange is not None or self._is_turn_spent:
            self._reader.is_stopped = True

    # Requests in turn

    def _start(self, exchange: Exchange) -> None:
        self._unstarted = None
        if self.service.places is not None and not self._has_place(self.service.places, exchange):
            return
        self.begin(exchange)

    def _has_place(self, places: Places[Exchange], exchange: Exchange) -> bool:
        now = monotonic()
        entry = places.enter(exchange, now)
        if entry is Entry.REFUSED:
            exchange.refuse(now)
        elif entry is Entry.WAITS:
            self.service.row[QUEUED] = len(places)
            self._await_answer(exchange)
        return entry is Entry.BEGINS

    def begin(self, exchange: Exchange) -> None:
        """Call the application."""
        now = monotonic()
        exchange.start(now)
        # Often the application has ended by now; it had the loop, so no deadline was looked at meanwhile. What it wrote
        # may have made the client the one who is waited for.
        if self.exchange is not exchange or self._phase == "write":
            return
        if self._receiving is exchange:  # its turn, or its place, came before the rest of its body
            self._await_body(exchange)
        else:
            self._await_answer(exchange)

    def is_last(self) -> bool:
        """Whether the answer that is about to begin ends the connection."""
        return (self.is_deaf or self.service.is_draining) and not self._reader.has_rest

    def exchange_done(self, exchange: Exchange, now: float) -> None:
        """The response has left whole."""
        response = exchange.response
        if not response.keep_alive:  # where it is we who close, its next request may be on the way
            self.finish(hears_out=not self._has_said_last, answer=response)
        elif exchange.is_body_complete:
            self._next(now)
        else:  # read on, to where the next request can begin
            self.resume_reading()

    def _next(self, now: float) -> None:
        """The next request has its turn: what is here of it is read, else it is awaited."""
        self.exchange = None
        reader, service = self._reader, self.service
        if self.writer.is_paused and (reader.has_rest or not (self.is_deaf or service.is_draining)):
            service.pause_reading(self)  # until what was asked for is taken
        elif reader.has_rest:
            self._phase, self.deadline = "", inf
            self._read_later()  # not from within the last one's stack: a hundred of them would be as deep
        else:
            reader.is_stopped = False
            if reader.is_in_head:
                self._expect("header")
            elif self.is_deaf or service.is_draining:
                self.finish()
            else:
                self._phase, self.deadline = "keep_alive", now + service.timeouts.keep_alive
            if self in service.unread:
                self.resume_reading()

    def _read_later(self) -> None:
        if not self._is_in_line:
            self._is_in_line = True
            self.service.turns.later(self._read_rest)

    def _read_rest(self) -> None:
        """Read what came while the last request had its turn, or the loop no time."""
        self._is_in_line = False
        if not self._can_read_rest:
            return
        reader = self._reader
        if self._receiving is None:
            reader.is_stopped = False
        self.data_received(b"")
        if self.is_deaf or reader.has_rest:
            return
        if self.exchange:
            if not self.exchange.is_full:
                self.resume_reading()
        elif not reader.is_stopped:
            self._next(monotonic())  # of that no request was whole

    @property
    def _can_read_rest(self) -> bool:
        """Not where the connection is lost, another request has its turn, or the client takes nothing of its answer."""
        if self.is_deaf or not self._reader.has_rest:
            return False
        return self._receiving is not None or not (self.exchange or self.writer.is_paused)

    def upgrade(self, websocket: "WebSocket", head: bytes) -> None:
        """Accept the handshake with `head`: from here on the transport is the WebSocket's."""
        self.writer.write(head)
        rest, self.exchange, self.is_deaf, self.deadline = self._reader.rest, None, True, inf
        self._reader.close()
        self.resume_reading()
        self.service.connections.remove(self)
        websocket.begin_on(self.writer, rest)

    # Ends

    def _fail(self, error: ClientError) -> None:
        """What the client sent cannot be the application's to answer: answer it ourselves, and close."""
        self.is_deaf = True
        self._unstarted = None
        exchange = self.exchange
        self.service.refusals.log_request(error, addresses.format_client(self._ends.client), exchange)
        if exchange is None:
            size = self.write_error(error.status, str(error), is_head=self._reader.is_head_request, lines=error.lines)
            self.service.row[RESPONSE_BYTES] += size
        elif exchange.response.state <= HELD:
            exchange.give_up(error)
        elif exchange.response.state is not COMPLETE:
            exchange.disconnect()
            self.abort()
        self.finish(hears_out=True)

    def finish(self, *, hears_out: bool = False, answer: Response | None = None) -> None:
        """End once what was written has left; a client that is still sending, or may be, is heard out first."""
        service, writer = self.service, self.writer
        hears_out = (hears_out or self._receiving is not None or self in service.unread) and not self._is_ended
        self.is_deaf = True
        self.exchange = self._receiving = self._unstarted = None
        if self not in service.connections or self.transport.is_closing():  # it has ended already
            return
        writer.uncork()
        if hears_out or writer.unsent:
            self._reader.close()
            self.resume_reading()
            service.connections.remove(self)
            is_open_ended = answer is not None and answer.is_open_ended
            Farewell(service, writer, is_open_ended=is_open_ended).begin(hears_out)
        else:  # nearly always: there is nobody to wait for, and what a farewell takes would be a twentieth of it all
            self.deadline = inf
            self.transport.close()

    def close_if_idle(self) -> None:
        """Close a connection on which nothing is in hand, not even a part of a head; the rest of a body that nothing
        wants is nothing.
        """
        if self.exchange is None:
            is_idle = not (self._reader.is_in_head or self._reader.has_rest)
        else:
            is_idle = self.exchange.response.state is COMPLETE
        if is_idle:
            self.finish()

    def abort(self) -> None:
        """End the connection in a way that nobody takes for an orderly end."""
        self.is_deaf = True
        is_half = self.exchange is not None and self.exchange.response.is_open_ended
        self.writer.abort(is_half and self in self.service.connections)  # else the descriptor may be another's by now

    def overdue(self) -> None:
        """The deadline has passed: end what it was for."""
        exchange, phase = self.exchange, self._phase
        if exchange and monotonic() >= exchange.answer_by:
            phase = "request"
        elif self._is_in_line:
            return  # it is we who have not read: the next beat looks again
        self.deadline = inf
        if phase == "request":
            pass
        elif phase == "write" and self.writer.is_moving:
            self._await_reader()  # slow is not silent
            return
        elif phase == "body" and exchange and (self in self.service.unread or exchange.expects_continue):
            self._await_body(exchange)  # it is we who do not read, or have not asked for it
            return
        self.service.row[TIMEOUT_CELL[phase]] += 1
        if phase == "header" and self._reader.is_in_head:
            self._fail(ClientError(408, "", "the request head took longer than timeouts.header"))
        elif phase == "body":
            self._fail(ClientError(408, "", "the request body stood still for timeouts.body"))
        elif phase == "request" and exchange:
            exchange.cancel(504, "the application took longer than timeouts.request")
        elif phase == "write":
            self.abort()
        else:
            self.finish()

    # The transport

    def write_continue(self) -> None:
        self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._phase == "body":
            self._expect("body")

    def write_error(self, status: int, text: str, *, is_head: bool, lines: bytes = b"") -> int:
        """Answer ourselves; return the bytes of the body. `lines` are what the status needs beside the common ones."""
        head, body = error_response(status, text, self.service.common_lines + lines, is_head=is_head)
        self.writer.write(head + body)
        return len(body)

    def resume_reading(self) -> None:
        if self in self.service.unread and not self._reader.has_rest and not self.transport.is_closing():
            self.service.unread.remove(self)
            self.transport.resume_reading()
            if self._phase == "body":  # it could not send until now
                self._expect("body")

    # The deadline

    def _expect(self, phase: str) -> None:
        """Wait for what one of the `timeouts` is for; the application's own limit is absolute."""
        self._phase, self.deadline = phase, monotonic() + getattr(self.service.timeouts, phase)
        if self.exchange:
            self.deadline = min(self.deadline, self.exchange.answer_by)

    def _await_head(self) -> None:
        """The client is to send the rest of a head, within a time from its first byte; its turn comes first."""
        if self._phase != "header" and self.exchange is None and not self.writer.is_paused:
            self._expect("header")

    def _await_body(self, exchange: Exchange) -> None:
        """The client is to send more of the body; not where it first has to read, or others have their turn before."""
        if exchange is self.exchange and not self.writer.is_paused:
            self._expect("body")

    def _await_reader(self) -> None:
        """The client is to take what was written."""
        self.writer.watch()
        self._expect("write")

    def _await_answer(self, exchange: Exchange) -> None:
        """Nothing is expected of the client; of the application, once it is called: before, its place is awaited."""
        self._phase = "request"
        self.deadline = exchange.answer_by
