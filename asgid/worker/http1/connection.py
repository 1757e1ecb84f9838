"""asyncio.Protocol for HTTP/1.1: received bytes become exchanges, one after the other; keep-alive and pipelining.

The application is called at the end of the message if that is received already, otherwise after the received bytes are
used up. Requests of one connection are answered strictly in order (RFC 9112 section 9.3.2). A request is not parsed
before the last one has its response: until then it waits as bytes, and reading pauses. A connection has one number,
`deadline`, and the phase that it belongs to; the ticker looks at it once a second, so a request makes no timer.
"""

import asyncio
from math import inf
from time import monotonic
from typing import cast

from asgid.board import QUEUED, REQUEST_BYTES, RESPONSE_BYTES, TIMEOUT_CELL
from asgid.errors import ClientError
from asgid.worker.http import request_limit
from asgid.worker.http.context import RunningExchange, WorkerContext
from asgid.worker.http.exchange import Exchange
from asgid.worker.http.fields import Field
from asgid.worker.http.response import COMPLETE, HEAD_PENDING
from asgid.worker.http.scope import request_scope, scope_template
from asgid.worker.http1.parser import RequestParser, StopParsing
from asgid.worker.http1.phases import APP, BODY, BUFFERED, HEAD, KEEP_ALIVE, PHASES, WRITE, Phase
from asgid.worker.http1.responder import Responder
from asgid.worker.http1.response_head import error_response
from asgid.worker.net import addresses
from asgid.worker.net.addresses import Addresses
from asgid.worker.net.lingering_close import LingeringClose
from asgid.worker.net.writer import Writer

#: A larger read is parsed later if the time of this turn of the loop is spent. 2 KiB of chunks with one byte each cost
#: 0.24 ms. Most requests are shorter, and need no look at the clock, which would cost them 6 % more instructions.
_SHORT_READ = 2048
#: A body that the application does not want is read up to here, so that the connection can be kept; for a larger one
#: closing costs less.
_MAX_DISCARDED = 262144


class Connection(asyncio.Protocol):
    """One client. With `is_reading_stopped` no byte of the client is parsed any more; a response may still be due."""

    __slots__ = (
        "_addresses",
        "_client_closes",
        "_discarded",
        "_is_peer_eof",
        "_is_read_queued",
        "_is_turn_spent",
        "_parser",
        "_pending",
        "_phase",
        "_receiving",
        "_request_in_read",
        "_scope_template",
        "_timeouts",
        "context",
        "deadline",
        "exchange",
        "is_reading_stopped",
        "transport",
        "writer",
    )

    def __init__(self, context: WorkerContext, timeouts: tuple[float, ...]) -> None:
        self.context, self._timeouts = context, timeouts
        self.transport: asyncio.Transport
        self.writer: Writer
        self._request_in_read = False  # a request has begun in this read
        self._is_turn_spent = False  # no other request may begin in this read; False between reads
        self._is_read_queued = False  # received bytes are parsed in a later turn of the loop
        self._client_closes = False  # the last request asks to close: no other follows
        self.exchange: Exchange | None = None  # whose response is due
        self.deadline = inf
        self.is_reading_stopped = False
        self._parser = RequestParser(self, context.limits)
        self._phase = HEAD
        self._receiving: Exchange | None = None  # whose message is being received
        self._pending: Exchange | None = None  # not started yet
        self._is_peer_eof = False
        self._discarded = 0  # bytes of an unwanted body

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.context.connections.opened(self)
        self.attach(transport, addresses.from_transport(transport), monotonic() + self._timeouts[HEAD])

    def attach(self, transport: asyncio.BaseTransport, known: Addresses, head_by: float) -> None:
        """Serve `transport` between `known` addresses; the deadline of the first head is `head_by`."""
        self.transport = cast("asyncio.Transport", transport)  # the base class is wider than a server's transports
        context = self.context
        self.writer = Writer(self.transport, context.connections)
        self._addresses = known
        self._scope_template = scope_template(
            *known, root_path=context.config.app.root_path, extensions=context.extensions
        )
        self._phase, self.deadline = HEAD, head_by

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.deadline = inf
        self.is_reading_stopped = True
        if self.exchange:
            self.exchange.on_disconnect()
        self.exchange = self._receiving = self._pending = None
        self._parser.close()
        self.writer.resume()
        self.context.connections.closed(self)

    def data_received(self, data: bytes) -> None:
        if self.is_reading_stopped:
            return
        parser, turns = self._parser, self.context.connections.turns
        if len(data) > _SHORT_READ and turns.is_spent(monotonic()):
            parser.keep(data)
            self._continue_later()
            return
        self._request_in_read = False
        try:
            parser.feed(data)
            while parser.can_continue and not (self._is_turn_spent or turns.is_spent(monotonic())):
                parser.feed(b"")
        except ClientError as error:
            self._reject(error)
            return
        if self._pending:
            self._admit(self._pending)
        if parser.has_rest:
            self._continue_later()
        elif self._is_turn_spent:
            self._end_turn()
        if self._receiving:
            self._wait_for_body(self._receiving)
        elif parser.is_in_head:
            self._wait_for_head()

    def _end_turn(self) -> None:
        """All received bytes are parsed: the next read may begin a request."""
        self._is_turn_spent = False
        if self.exchange is None and not self.writer.is_paused:
            self._parser.is_stopped = False

    def _continue_later(self) -> None:
        """Pause reading. Parse the received bytes when their turn comes, or in a later turn of the loop."""
        self._is_turn_spent = False
        self.context.connections.pause_reading(self)
        if self.exchange is None or self._receiving is not None:
            self._parse_later()

    def eof_received(self) -> bool:
        # A client may close its sending side and still read its response (RFC 9112 section 9.6).
        exchange = self.exchange
        if exchange is None or self._receiving is not None:
            return False
        if self.context.request_limit is not None and not exchange.begun:  # a client that leaves the queue has no place
            return False
        self.is_reading_stopped = self._is_peer_eof = True
        exchange.on_peer_eof()
        return True

    def pause_writing(self) -> None:
        # Stop parsing pipelined requests while the client does not read its responses; otherwise a client that never
        # reads could make asgid buffer without limit.
        self._parser.is_stopped = True
        self.writer.pause()
        self._wait_for_write()

    def resume_writing(self) -> None:
        self.writer.resume()
        if self._phase is not WRITE or self.transport.is_closing():
            return
        if self.exchange is None:
            self._next_request(monotonic())
        elif self._receiving is self.exchange:
            self._wait_for_body(self.exchange)
        else:
            self._wait_for_app(self.exchange)

    # The parser's side

    def request_began(
        self, method: str, target: bytes, minor: int, headers: list[Field], keep_alive: bool, expects_continue: bool
    ) -> None:
        context = self.context
        if self._request_in_read:
            if self.writer.cork is None:
                self.writer.hold_back()
            self._is_turn_spent = context.connections.turns.is_spent(monotonic())
        self._request_in_read = True
        self._client_closes = not keep_alive
        scope = request_scope(self._scope_template, context.state, method, target, minor, headers)
        if self._parser.is_forwarded:
            context.forwarded_fields.apply(scope, addresses.peer_name(self._addresses, self.transport))
        responder = Responder(self, method == "HEAD", minor, keep_alive, expects_continue)
        exchange = Exchange(context, scope, responder)
        if self._parser.is_handshake and context.start_session:
            context.start_session(exchange, headers)
            responder.keep_alive = False  # a denial ends the connection
        responder.exchange = self.exchange = self._receiving = self._pending = exchange

    def body_came(self, chunk: bytes) -> None:
        self.context.row[REQUEST_BYTES] += len(chunk)
        exchange = self._receiving
        if exchange is None:  # given up meanwhile
            raise StopParsing
        if exchange.responder.state is COMPLETE:
            self._discarded += len(chunk)
            if self._discarded > _MAX_DISCARDED:
                self.close()
                raise StopParsing
        elif exchange.feed(chunk):
            self.context.connections.pause_reading(self)

    def request_ended(self) -> None:
        exchange, self._receiving = self._receiving, None
        if exchange is None:
            raise StopParsing
        if self._pending is exchange:
            exchange.is_body_complete, exchange.responder.expects_continue = True, False  # nothing waits for it yet
            # A WebSocket starts after all received bytes are parsed: the rest may be frames.
            if not exchange.session:
                self._admit(exchange)
        else:
            exchange.feed_eof()
            if exchange.responder.state is COMPLETE:
                self._discarded = 0
                self._next_request(monotonic())
            elif self._phase is BODY:
                self._wait_for_app(exchange)
        if self.is_reading_stopped:  # its response is sent, and was the last one
            raise StopParsing
        if self.exchange is not None or self._is_turn_spent:
            self._parser.is_stopped = True

    # Requests in turn

    def _admit(self, exchange: Exchange) -> None:
        """Run the exchange, or let it wait for its place, or reject it."""
        self._pending = None
        limit = self.context.request_limit
        if limit is None or self._has_place(limit, exchange):
            self.run_exchange(exchange)

    def _has_place(self, limit: request_limit.RequestLimit[RunningExchange], exchange: Exchange) -> bool:
        now = monotonic()
        admission = limit.enter(exchange, now)
        if admission is request_limit.REJECTED:
            exchange.reject_overload(now)
        elif admission is request_limit.QUEUED:
            self.context.row[QUEUED] = len(limit)
            self._wait_for_app(exchange)
        return admission is request_limit.STARTED

    def run_exchange(self, exchange: Exchange) -> None:
        """Call the application."""
        exchange.run_app(monotonic())
        # Often the application has returned by now. Its call held the loop, so no deadline was checked meanwhile. Its
        # writes may have filled the transport: then the client's reading is awaited.
        if self.exchange is not exchange or self._phase is WRITE:
            return
        if self._receiving is exchange:  # it started before the rest of its body came
            self._wait_for_body(exchange)
        else:
            self._wait_for_app(exchange)

    def has_buffered_request(self) -> bool:
        """Return whether bytes of a further request are received."""
        return self._parser.has_rest

    def response_complete(self, responder: Responder, now: float) -> None:
        """Go on after a response: close, parse the next request, or discard the rest of the body first."""
        exchange = self.exchange
        if not responder.keep_alive:  # if the server closes, the client's next request may be on its way
            self.close(linger=not self._client_closes, last=responder)
        elif exchange is None or exchange.is_body_complete:
            self._next_request(now)
        else:
            self.resume_reading()

    def _next_request(self, now: float) -> None:
        """Parse the next request if bytes of it are received, otherwise wait for it."""
        self.exchange = None
        parser, connections = self._parser, self.context.connections
        if self.writer.is_paused and (parser.has_rest or not (self.is_reading_stopped or connections.is_draining)):
            connections.pause_reading(self)  # until the client has read the response
        elif parser.has_rest:
            self._phase, self.deadline = BUFFERED, inf
            self._parse_later()  # not within this call: the stack of a hundred requests would be as deep
        else:
            parser.is_stopped = False
            if parser.is_in_head:
                self._set_deadline(HEAD)
            elif self.is_reading_stopped or connections.is_draining:
                self.close()
            else:
                self._phase, self.deadline = KEEP_ALIVE, now + self._timeouts[KEEP_ALIVE]
            if self in connections.paused:
                self.resume_reading()

    def _parse_later(self) -> None:
        if not self._is_read_queued:
            self._is_read_queued = True
            self.context.connections.turns.later(self._parse_buffered)

    def _parse_buffered(self) -> None:
        """Parse the bytes that came while another request had its turn, or the loop had no time."""
        self._is_read_queued = False
        if not self._can_parse_buffered:
            return
        parser = self._parser
        if self._receiving is None:
            parser.is_stopped = False
        self.data_received(b"")
        if self.is_reading_stopped or parser.has_rest:
            return
        if self.exchange:
            if not self.exchange.is_full:
                self.resume_reading()
        elif not parser.is_stopped:
            self._next_request(monotonic())  # the bytes held no whole request

    @property
    def _can_parse_buffered(self) -> bool:
        """Whether it is the turn of buffered bytes: not if the connection is lost, if another request has its turn, or
        if the client does not read its response.
        """
        if self.is_reading_stopped or not self._parser.has_rest:
            return False
        return self._receiving is not None or not (self.exchange or self.writer.is_paused)

    def upgrade(self, head: bytes) -> tuple[asyncio.Transport, bytes]:
        """Send the head that accepts a WebSocket; return the transport and the bytes that came after the handshake.

        The connection has no client any more.
        """
        self.writer.write(head)
        self.writer.uncork()
        rest, self.exchange, self.is_reading_stopped, self.deadline = self._parser.rest, None, True, inf
        self._parser.close()
        self.resume_reading()
        self.context.connections.open.remove(self)
        return self.transport, rest

    # Ends

    def _reject(self, error: ClientError) -> None:
        """Respond to a faulty request without the application, and close."""
        self.is_reading_stopped = True
        self._pending = None
        exchange, context = self.exchange, self.context
        request = (exchange.method, exchange.path) if exchange else (None, None)
        context.rejections.log_request(error, addresses.format_client(self._addresses.client), *request)
        if exchange is None:
            is_head = self._parser.is_head_request
            head, body = error_response(error.status, str(error), context.common_lines, error.fields, is_head=is_head)
            self.writer.write(head + body)
            context.row[RESPONSE_BYTES] += len(body)
        elif exchange.responder.state <= HEAD_PENDING:
            exchange.reject(error)
        elif exchange.responder.state is not COMPLETE:
            exchange.on_disconnect()
            self.abort()
        self.close(linger=True)

    def close(self, *, linger: bool = False, last: Responder | None = None) -> None:
        """Close after the last byte; read on meanwhile with `linger`, or if the client is still sending.

        `last` has sent the last response.
        """
        connections, writer = self.context.connections, self.writer
        linger = (linger or self._receiving is not None or self in connections.paused) and not self._is_peer_eof
        self.is_reading_stopped = True
        self.exchange = self._receiving = self._pending = None
        if self not in connections.open or self.transport.is_closing():  # it has ended already
            return
        if writer.cork:
            writer.uncork()
        if linger or self.transport.get_write_buffer_size():
            self._parser.close()
            self.resume_reading()
            connections.open.remove(self)
            is_open_ended = last is not None and last.ends_with_connection
            LingeringClose(connections, writer, is_open_ended=is_open_ended).start(linger=linger)
        else:  # nearly always: nothing to wait for, and a lingering close would cost a twentieth of the connection
            self.deadline = inf
            self.transport.close()

    # registry.Client

    def requests(self) -> tuple[str, ...]:
        return (f"{self.exchange.method} {self.exchange.path}",) if self.exchange else ()

    def on_peer_closed(self, is_reset: bool) -> None:
        if is_reset:
            self.abort()
        elif self.exchange and self.exchange.is_body_complete:  # otherwise the rest of the body may be in the socket
            self.exchange.on_peer_eof()

    def close_if_idle(self) -> None:
        # The rest of a body that the application does not want is not a request.
        if self.exchange is None:
            is_idle = not (self._parser.is_in_head or self._parser.has_rest)
        else:
            is_idle = self.exchange.responder.state is COMPLETE
        if is_idle:
            self.close()

    def abort(self) -> None:
        self.is_reading_stopped = True
        exchange = self.exchange
        is_truncated = exchange is not None and exchange.responder.ends_with_connection
        # After another protocol took over, the descriptor may belong to another client.
        self.writer.abort(is_truncated and self in self.context.connections.open)

    def on_deadline(self) -> None:
        exchange, phase = self.exchange, self._phase
        if exchange and monotonic() >= exchange.response_by:
            phase = APP
        elif self._is_read_queued:
            return  # asgid has not parsed the client's bytes yet: the next tick looks again
        self.deadline = inf
        if phase is WRITE and self.writer.has_progressed:
            self._wait_for_write()  # a slow client is not a silent one
            return
        if phase is BODY and exchange and self._holds_body_up(exchange):
            self._wait_for_body(exchange)
            return
        self.context.row[TIMEOUT_CELL[PHASES[phase].timeout]] += 1
        match phase:
            case Phase.HEAD if self._parser.is_in_head:
                self._reject(ClientError(408, "timeout", "the request head took longer than timeouts.header"))
            case Phase.BODY:
                self._reject(ClientError(408, "timeout", "no byte of the request body came within timeouts.body"))
            case Phase.APP if exchange:
                exchange.cancel(504, "the application took longer than timeouts.request")
            case Phase.WRITE:
                self.abort()
            case Phase.HEAD | Phase.KEEP_ALIVE:
                self.close()

    def _holds_body_up(self, exchange: Exchange) -> bool:
        """Return whether asgid itself does not read the body, or has not sent 100."""
        return self in self.context.connections.paused or exchange.responder.expects_continue

    # Reading, and the deadline

    def resume_reading(self) -> None:
        """Read on, unless received bytes still wait."""
        paused = self.context.connections.paused
        if self in paused and not self._parser.has_rest and not self.transport.is_closing():
            paused.remove(self)
            self.transport.resume_reading()
            self.restart_body_timeout()  # the client could not send until now

    def restart_body_timeout(self) -> None:
        if self._phase is BODY:
            self._set_deadline(BODY)

    def _set_deadline(self, phase: Phase) -> None:
        """Wait for what `phase` awaits; the application's own deadline is absolute."""
        self._phase, self.deadline = phase, monotonic() + self._timeouts[phase]
        if self.exchange:
            self.deadline = min(self.deadline, self.exchange.response_by)

    def _wait_for_head(self) -> None:
        if self._phase is not HEAD and self.exchange is None and not self.writer.is_paused:
            self._set_deadline(HEAD)

    def _wait_for_body(self, exchange: Exchange) -> None:
        if exchange is self.exchange and not self.writer.is_paused:
            self._set_deadline(BODY)

    def _wait_for_write(self) -> None:
        self.writer.mark_progress()
        self._set_deadline(WRITE)

    def _wait_for_app(self, exchange: Exchange) -> None:
        self._phase, self.deadline = APP, exchange.response_by
