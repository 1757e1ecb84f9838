"""The endpoint: /metrics, /livez, /readyz and /status, answered from the master's own loop.

Nothing here waits for a client: one that never sends and one that never reads cost a descriptor each, for ten seconds
at most, and the oldest makes room where many come. So the probes answer while every worker is stuck. Each connection
carries one request.

This file does not know what is measured, nor how a worker lives; it reads the snapshot and the ledger. A snapshot
asks the kernel about every worker, so the probes, which come often, do without one.
"""

import errno
import json
import re
import socket
import time
import traceback
from collections.abc import Callable
from http import HTTPStatus
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector
from typing import Any, TypeAlias

import asgid
from asgid import descriptors
from asgid.board import CONNECTIONS, in_flight
from asgid.date import http_date
from asgid.log import Log
from asgid.master.status.exposition import render
from asgid.master.status.metrics import heartbeat_age_s, metrics
from asgid.master.status.snapshot import Snapshot, WorkerStatus
from asgid.master.workers.ledger import Ledger

DEADLINE_S = 10.0  #: from accept to the end
MAX_CLIENTS = 64
_HEAD_BYTES = 8192
_LINGER_BYTES = 2**20  # what a client may send after its request
_PAUSE_S = 1.0  # where descriptors ran out: the queue stays readable, and would keep the loop spinning
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_START = re.compile(rb"[A-Z]{0,20}\Z|[A-Z]{1,20} ")  # of a request; a TLS hello is refused at once
_END = re.compile(rb"\r?\n\r?\n")
_REQUEST = re.compile(rb"([A-Z]{1,20}) (/[!-~]*) HTTP/1\.[01]\r?\n")
_ACCEPT = re.compile(rb"\naccept:([^\r\n]*)", re.IGNORECASE)
_Answer: TypeAlias = tuple[HTTPStatus, str, bytes]  # status, content type, body


class Endpoint:
    """Serves `listening`, which is bound and stays its caller's, in the loop of `selector`.

    What it registers there has as data a callable that takes the ready mask; the loop calls it, and `expire` at
    `next_deadline`.
    """

    def __init__(
        self,
        listening: socket.socket,
        selector: BaseSelector,
        unready: Callable[[], str],
        snapshot: Callable[[], Snapshot],
        ledger: Ledger,
        log: Log,
    ) -> None:
        """`unready` says why nobody should be sent here, "" where all is well; it is asked often, and costs nothing."""
        self._listening = listening
        self._selector = selector
        self._unready = unready
        self._snapshot = snapshot
        self._ledger = ledger
        self._log = log
        self._clients: dict[_Client, None] = {}  # by age, the oldest first
        self._resume: float | None = None  # when accepting goes on
        self._pages: dict[str, Callable[[str], _Answer]] = {
            "/metrics": self._metrics,
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/status": self._status,
        }
        listening.settimeout(0)
        selector.register(listening, EVENT_READ, self._accept)

    def next_deadline(self) -> float | None:
        """Return when `expire` is wanted next, on time.monotonic()'s clock; None: not at all."""
        paused = [] if self._resume is None else [self._resume]
        return min([client.deadline for client in self._clients] + paused, default=None)

    def expire(self, now: float) -> None:
        """Close the clients whose time is over, and accept again where that was paused."""
        for client in [client for client in self._clients if client.deadline <= now]:
            client.close()
        if self._resume is not None and self._resume <= now:
            self._resume = None
            self._selector.register(self._listening, EVENT_READ, self._accept)

    def close(self) -> None:
        """Leave the loop: close every client, and forget the listening socket."""
        for client in list(self._clients):
            client.close()
        if self._resume is None:
            self._selector.unregister(self._listening)
        self._resume = None

    def _accept(self, _mask: int) -> None:
        try:
            sock, _ = self._listening.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._log.warning("endpoint pauses", reason=error.strerror, pause_s=_PAUSE_S)
                self._selector.unregister(self._listening)
                self._resume = time.monotonic() + _PAUSE_S
            return  # the other errors say that this one client has gone again: accept(2)
        sock = descriptors.own_socket(sock)
        if len(self._clients) >= MAX_CLIENTS:
            idle = (client for client in self._clients if client.is_idle)
            next(idle, next(iter(self._clients))).close()
        client = _Client(sock, self._selector, self._respond, self._clients, time.monotonic() + DEADLINE_S)
        # The request is often there already: answered now, it cannot be pushed out by those that come after.
        client.read()

    def _respond(self, received: bytes) -> bytes | None:
        """Return the response to what was received, None while more is wanted."""
        size, received = len(received), received.lstrip(b"\r\n")  # RFC 9112 section 2.2
        end = _END.search(received)
        behind = len(received) - end.start() if end else 0
        if size - behind > _HEAD_BYTES:  # with the empty lines before it, of which there is no end either
            return _response(_text(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"send at most {_HEAD_BYTES} bytes"))
        if not end and _START.match(received):
            return None
        request = _REQUEST.match(received) if end else None
        if not request:
            return _response(_text(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request"))
        method, target = request[1], request[2].decode()
        accept = _ACCEPT.search(received)
        answer = self._answer(method, target.partition("?")[0], accept[1].decode("latin-1") if accept else "")
        return _response(answer, has_body=method != b"HEAD")

    def _answer(self, method: bytes, path: str, accept: str) -> _Answer:
        if method not in (b"GET", b"HEAD"):
            return _text(HTTPStatus.METHOD_NOT_ALLOWED, "send GET or HEAD")
        if path not in self._pages:
            return _text(HTTPStatus.NOT_FOUND, "there is " + " ".join(self._pages))
        try:
            return self._pages[path](accept)
        except Exception:  # noqa: BLE001 - the border of a page: its fault must not end the master
            self._log.error("page failed", path=path, stack=traceback.format_exc())
            return _text(HTTPStatus.INTERNAL_SERVER_ERROR, "this page failed; the log of asgid says why")

    def _metrics(self, accept: str) -> _Answer:
        return HTTPStatus.OK, *render(metrics(self._snapshot(), self._ledger), accept)

    def _livez(self, _accept: str) -> _Answer:
        return _text(HTTPStatus.OK, "the master's loop turns")

    def _readyz(self, _accept: str) -> _Answer:
        if problem := self._unready():
            return _text(HTTPStatus.SERVICE_UNAVAILABLE, problem)
        return _text(HTTPStatus.OK, "ready")

    def _status(self, _accept: str) -> _Answer:
        page = json.dumps(status(self._snapshot(), self._ledger), indent=2)
        return HTTPStatus.OK, "application/json", page.encode() + b"\n"


class _Client:
    """One connection: it reads a request, writes the response, then waits for the client to close.

    It waits because closing with bytes unread makes the kernel reset the connection, which can take the response back
    out of the client's hands (RFC 9112 section 9.6). One that goes on and on gets that reset. `clients` holds it for as
    long as it lives.
    """

    def __init__(
        self,
        sock: socket.socket,
        selector: BaseSelector,
        respond: Callable[[bytes], bytes | None],
        clients: "dict[_Client, None]",
        deadline: float,
    ) -> None:
        self.deadline = deadline
        self._sock = sock
        self._selector = selector
        self._respond = respond
        self._clients = clients
        self._received = b""
        self._lingering_bytes = 0
        self._unsent = memoryview(b"")
        self._is_answered = False
        sock.settimeout(0)
        selector.register(sock, EVENT_READ, self.read)
        clients[self] = None

    @property
    def is_idle(self) -> bool:
        """Whether no response is on its way."""
        return not self._unsent

    def read(self, _mask: int = EVENT_READ) -> None:
        if self not in self._clients:  # closed in this same turn of the loop, to make room
            return
        try:
            data = self._sock.recv(_HEAD_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        elif not self._is_answered:
            self._received += data
            response = self._respond(self._received)
            if response is not None:
                self._is_answered = True
                self._unsent = memoryview(response)
                self._write()
        else:
            self._lingering_bytes += len(data)
            if self._lingering_bytes > _LINGER_BYTES:
                self.close()

    def _write(self, _mask: int = EVENT_WRITE) -> None:
        if self not in self._clients:
            return
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
            if self._unsent:
                self._selector.modify(self._sock, EVENT_WRITE, self._write)
            else:
                self._sock.shutdown(socket.SHUT_WR)
                self._selector.modify(self._sock, EVENT_READ, self.read)
        except BlockingIOError:
            self._selector.modify(self._sock, EVENT_WRITE, self._write)
        except OSError:
            self.close()

    def close(self) -> None:
        del self._clients[self]
        self._selector.unregister(self._sock)
        self._sock.close()


def _text(code: HTTPStatus, line: str) -> _Answer:
    return code, "text/plain; charset=utf-8", f"{line}\n".encode()


def _response(answer: _Answer, *, has_body: bool = True) -> bytes:
    code, content_type, body = answer
    lines = [
        f"HTTP/1.1 {code.value} {code.phrase}",
        f"Date: {http_date(time.time())}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if code is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    return "\r\n".join([*lines, "", ""]).encode() + (body if has_body else b"")


def status(snapshot: Snapshot, ledger: Ledger) -> dict[str, Any]:
    """Return the page of /status, ready for JSON; times are seconds, memory is bytes."""
    last = snapshot.last_reload
    return {
        "version": asgid.__version__,
        "generation": snapshot.generation,
        "uptime": round(snapshot.uptime_s, 3),
        "ready": snapshot.is_ready,
        "stopping": snapshot.stopping,
        "reloading": snapshot.reloading,
        "last_reload": last
        and {"verdict": last.verdict, "reason": last.reason, "generation": last.generation, "at": last.at},
        "desired": snapshot.desired,
        "backing_off": snapshot.backing_off,
        "slots": list(snapshot.slots),
        "listeners": [
            {"name": listener.name, "backlog": listener.backlog, "backlog_limit": listener.backlog_limit}
            for listener in snapshot.listeners
        ],
        "workers": [_worker(worker, snapshot, ledger) for worker in snapshot.workers],
    }


def _worker(worker: WorkerStatus, snapshot: Snapshot, ledger: Ledger) -> dict[str, Any]:
    row = ledger.row(worker.slot)
    age_s = heartbeat_age_s(row, snapshot.now_ns)
    process = snapshot.processes.get(worker.slot)
    return {
        "slot": worker.slot,
        "pid": worker.pid,
        "generation": worker.generation,
        "state": worker.state,
        "age": round(worker.age_s, 3),
        "connections": row[CONNECTIONS],
        "requests": in_flight(row),
        "memory": process and process.resident_bytes,
        "heartbeat_age": age_s and round(age_s, 3),
    }
