"""Adapts WSGI applications, which run in threads, to ASGI 3 (PEP 3333).

A thread waits until each part of a body is sent or received: a slow client blocks its thread, and no part waits in
memory. A thread cannot be cancelled. When its request has ended, its next read or write raises an exception.
"""

import asyncio
import io
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote_to_bytes

from asgid.errors import AppError, ClientDisconnectedError
from asgid.worker.asgi import Application, Message, Receive, Send
from asgid.worker.http.scope import strip_root_path

if TYPE_CHECKING:
    from types import TracebackType
    from wsgiref.types import WSGIApplication, WSGIEnvironment

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

T = TypeVar("T")

#: Task of a request -> its call. A call refers to its task, by `receive()` and the exchange, so a WeakKeyDictionary
#: would keep both forever.
_CALLS: dict["asyncio.Task[Any]", "_Call"] = {}


def thread_stack(task: "asyncio.Task[Any]") -> str:
    """Return the stack of the application in the thread of a request, "" if the request has no thread now."""
    call = _CALLS.get(task)
    frame = sys._current_frames().get(call.thread) if call and call.thread else None  # noqa: SLF001 - it is documented
    frames = traceback.extract_stack(frame) if frame else []
    first = next((number for number, each in enumerate(frames, 1) if each.filename == __file__), len(frames))
    return "".join(traceback.format_list(frames[first:]))


def adapt(app: "WSGIApplication", threads: int) -> Application:
    """Return an ASGI 3 application that calls `app` in one of `threads` threads; it must only get HTTP requests."""
    executor = ThreadPoolExecutor(threads, "WSGI")

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        call = _Call(app, scope, receive, send)
        task = cast("asyncio.Task[Any]", asyncio.current_task())  # a coroutine always has a task here
        _CALLS[task] = call
        try:
            # A request that is cancelled before it has a thread never runs: its client may have sent it again.
            await call.loop.run_in_executor(executor, copy_context().run, call.run)
            if call.failure:
                raise call.failure
            if call.last is not None:
                await call.send(call.last, more=False)
        finally:
            call.is_over, call.failure = True, None  # the traceback of the failure refers to the call
            del _CALLS[task]

    return application


class _Call:
    """One request: the application's call in a thread, and its messages in the loop."""

    def __init__(self, app: "WSGIApplication", scope: Message, receive: Receive, send: Send) -> None:
        self._app, self._scope, self._receive, self._send = app, scope, receive, send
        self.loop = asyncio.get_running_loop()
        self.is_over = False  #: the client has disconnected, or the request has ended
        self.thread: int | None = None  #: the thread of the application, while it runs
        self.failure: BaseException | None = None
        self.last: bytes | None = None  #: a whole body, which the task of the request sends: that saves a message
        self._head: Message | None = None
        self._is_head_sent = False
        self._is_read = False  # the body of the request was read to its end

    # In the loop

    async def send(self, part: bytes, *, more: bool = True) -> None:
        """Send a part of the body, the first one with the head: until then start_response may replace the head."""
        if self.is_over:
            raise ClientDisconnectedError("the client has disconnected")
        if not self._is_head_sent:
            if self._head is None:
                raise AppError("the application did not call start_response before its body")
            self._is_head_sent = True
            await self._send(self._head)
        await self._send({"type": "http.response.body", "body": part, "more_body": more})

    async def _next_part(self) -> bytes:
        """Return the next part of the request's body, b"" at its end."""
        while not self._is_read:
            message = await self._receive()
            self.is_over = self.is_over or message["type"] == "http.disconnect"
            if self.is_over:
                raise ClientDisconnectedError("the client has disconnected")
            self._is_read = not message["more_body"]
            if message["body"]:
                return bytes(message["body"])
        return b""

    # In the thread

    def run(self) -> None:
        """Call the application and send its response. Keep its exception: a future rejects StopIteration."""
        self.thread = get_ident()
        parts: Iterable[bytes] = ()
        try:
            try:
                parts = self._app(_environ(self._scope, self._read), self._start_response)
                self._send_parts(parts)
            finally:
                if close := getattr(parts, "close", None):
                    close()
        except BaseException as error:  # noqa: BLE001 - SystemExit too: the task of the request raises it
            self.failure = error
        finally:
            self.thread = None

    def _send_parts(self, parts: Iterable[bytes]) -> None:
        if isinstance(parts, list | tuple) and len(parts) < 2:
            self.last = parts[0] if parts else b""
            return
        for part in parts:
            self._write(part)
        self._wait(self.send(b"", more=False))

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: "ExcInfo | None" = None, /
    ) -> Callable[[bytes], object]:
        if exc_info and exc_info[1] and self._is_head_sent:
            raise exc_info[1].with_traceback(exc_info[2])
        if self._head and not exc_info:
            raise AppError("start_response was called a second time without exc_info")
        code, _, _ = status.partition(" ")
        if not (len(code) == 3 and code.isdecimal()):
            raise AppError(f"start_response: the status must be three digits, a space and a reason, not {status!r}")
        lines = [(name.encode("latin-1").lower(), value.strip().encode("latin-1")) for name, value in headers]
        self._head = {"type": "http.response.start", "status": int(code), "headers": lines}
        return self._write

    def _write(self, part: bytes) -> None:
        if part:
            self._wait(self.send(part))

    def _read(self) -> bytes:
        return self._wait(self._next_part())

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()


class _Input(io.RawIOBase):
    """The body of a request as a raw file; `read` waits for the next part, and returns b"" at the end."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read_part = read
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # Python 3.11 has no name for a buffer
        target = memoryview(buffer)
        self._rest = self._rest or memoryview(self._read_part())
        size = min(len(target), len(self._rest))
        target[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def _environ(scope: Message, read: Callable[[], bytes]) -> "WSGIEnvironment":
    """Return the environment of a request: octets as characters, and field names in capitals.

    A header name with an underscore is dropped: the application could take `X_User` for `X-User`, which a proxy checks.
    """
    server, client = scope["server"], scope["client"]
    host, port = server if server and server[1] is not None else ("localhost", 80)  # a path of a socket is not a host
    root_path = scope["root_path"].encode()
    # Not from scope["path"]: PEP 3333 keeps octets that are not UTF-8.
    path = strip_root_path(root_path, unquote_to_bytes(scope["raw_path"]))
    environ: WSGIEnvironment = {
        "asgi.scope": scope,
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": root_path.decode("latin-1"),
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "REMOTE_ADDR": client[0] if client else "",  # "" on a unix socket
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BufferedReader(_Input(read)),
        "wsgi.input_terminated": True,  # it ends with the body, also without a content-length
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if client:
        environ["REMOTE_PORT"] = str(client[1])
    for name, value in scope["headers"]:
        if b"_" not in name:
            key = name.decode("latin-1").upper().replace("-", "_")
            key = key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"
            text, separator = value.decode("latin-1"), "; " if name == b"cookie" else ","
            environ[key] = f"{environ[key]}{separator}{text}" if key in environ else text
    return environ
