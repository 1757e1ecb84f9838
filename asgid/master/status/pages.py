"""The pages of the metrics address: the bytes of a request in, the bytes of a response out.

A snapshot asks the kernel about every worker, so /livez and /readyz, which are requested often, take none. This file
does not know sockets, nor which metrics exist.
"""

import json
import re
import time
import traceback
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeAlias

import asgid
from asgid.board import CONNECTIONS, in_flight
from asgid.date import http_date
from asgid.log import Log
from asgid.master.status.exposition import render
from asgid.master.status.metrics import heartbeat_age_s, metrics
from asgid.master.status.snapshot import Snapshot, WorkerStatus
from asgid.master.workers.ledger import Ledger

_MAX_HEAD_BYTES = 8192

_START = re.compile(rb"[A-Z]{0,20}\Z|[A-Z]{1,20} ")  # of a request; any other byte, as of TLS, is refused at once
_END = re.compile(rb"\r?\n\r?\n")
_REQUEST = re.compile(rb"([A-Z]{1,20}) (/[!-~]*) HTTP/1\.[01]\r?\n")
_ACCEPT = re.compile(rb"\naccept:([^\r\n]*)", re.IGNORECASE)
_Page: TypeAlias = tuple[HTTPStatus, str, bytes]  # status, content type, body


class Pages:
    """The four pages: /metrics, /livez, /readyz and /status."""

    def __init__(self, unready: Callable[[], str], snapshot: Callable[[], Snapshot], ledger: Ledger, log: Log) -> None:
        """`unready` returns why no request should be sent here, "" if the service is ready; it costs nothing."""
        self._unready = unready
        self._snapshot = snapshot
        self._ledger = ledger
        self._log = log
        self._pages: dict[str, Callable[[str], _Page]] = {
            "/metrics": self._metrics,
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/status": self._status,
        }

    def respond(self, received: bytes) -> bytes | None:
        """Return the response to the bytes received so far; None if the head of the request is not complete."""
        size, received = len(received), received.lstrip(b"\r\n")  # RFC 9112 section 2.2
        end = _END.search(received)
        after_head = len(received) - end.start() if end else 0
        if size - after_head > _MAX_HEAD_BYTES:  # with the empty lines before it: a client may send them forever
            return _response(_text(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"send at most {_MAX_HEAD_BYTES} bytes"))
        if not end and _START.match(received):
            return None
        request = _REQUEST.match(received) if end else None
        if not request:
            return _response(_text(HTTPStatus.BAD_REQUEST, "this is not an HTTP/1.1 request"))
        method, target = request[1], request[2].decode()
        accept = _ACCEPT.search(received)
        page = self._page(method, target.partition("?")[0], accept[1].decode("latin-1") if accept else "")
        return _response(page, has_body=method != b"HEAD")

    def _page(self, method: bytes, path: str, accept: str) -> _Page:
        if method not in (b"GET", b"HEAD"):
            return _text(HTTPStatus.METHOD_NOT_ALLOWED, "send GET or HEAD")
        if path not in self._pages:
            return _text(HTTPStatus.NOT_FOUND, "the pages are " + " ".join(self._pages))
        try:
            return self._pages[path](accept)
        except Exception:  # noqa: BLE001 - the border of a page: its fault must not end the master
            self._log.error("status page failed", path=path, stack=traceback.format_exc())
            return _text(HTTPStatus.INTERNAL_SERVER_ERROR, "this page failed; see the log of asgid")

    def _metrics(self, accept: str) -> _Page:
        return HTTPStatus.OK, *render(metrics(self._snapshot(), self._ledger), accept)

    def _livez(self, _accept: str) -> _Page:
        return _text(HTTPStatus.OK, "the master is running")

    def _readyz(self, _accept: str) -> _Page:
        if problem := self._unready():
            return _text(HTTPStatus.SERVICE_UNAVAILABLE, problem)
        return _text(HTTPStatus.OK, "ready")

    def _status(self, _accept: str) -> _Page:
        page = json.dumps(status(self._snapshot(), self._ledger), indent=2)
        return HTTPStatus.OK, "application/json", page.encode() + b"\n"


def _text(code: HTTPStatus, line: str) -> _Page:
    return code, "text/plain; charset=utf-8", f"{line}\n".encode()


def _response(page: _Page, *, has_body: bool = True) -> bytes:
    code, content_type, body = page
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
    last = snapshot.history.last_reload
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
        "slots": sorted(snapshot.history.slots),
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
