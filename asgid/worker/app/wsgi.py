"""Adapts WSGI applications, which run in threads, to ASGI 3 (PEP 3333), with a2wsgi.

a2wsgi has the threads, and passes messages between them and the loop with back-pressure. It must not see an exception:
a thread would wait in it forever after a disconnect, and SystemExit of an application would end the worker. So a
`_Call` is on both sides of it: the server in the loop, and the application in the thread. Both sides record exceptions
instead, and the task of the request raises them at the end. Decision 24 lists where this module follows PEP 3333 and
a2wsgi does not.
"""

import asyncio
import io
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from threading import get_ident
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote_to_bytes

from asgid.errors import AppError, BootError, ClientDisconnectedError
from asgid.worker.asgi import Application, Message, Receive, Send
from asgid.worker.http.scope import strip_root_path

if TYPE_CHECKING:
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

#: The max number of body parts that wait between thread and loop; the application chooses their size.
_MAX_WAITING_PARTS = 1
#: The key of the call in the scope, which a2wsgi passes to the thread.
_CALL = "asgid.call"

#: Task of a request -> its call. A call refers to its task, by `receive()` and the exchange, so a WeakKeyDictionary
#: would keep both forever.
_CALLS: dict["asyncio.Task[Any]", "_Call"] = {}


def thread_stack(task: "asyncio.Task[Any]") -> str:
    """Return the stack of the application in the thread of a request, "" if the request has no thread now."""
    call = _CALLS.get(task)
    frame = sys._current_frames().get(call.thread) if call and call.thread else None  # noqa: SLF001 - it is documented
    if frame is None:
        return ""
    frames = traceback.extract_stack(frame)
    ours = max((number for number, each in enumerate(frames) if each.filename == __file__), default=-1)
    return "".join(traceback.format_list(frames[ours + 1 :]))


def adapt(app: "WSGIApplication", threads: int) -> Application:
    """Return an ASGI 3 application that calls `app` in one of `threads` threads. Raises BootError without a2wsgi.

    It must only get scopes of HTTP requests.
    """
    try:
        from a2wsgi import WSGIMiddleware  # noqa: PLC0415 - an optional extra
    except ModuleNotFoundError as error:
        raise BootError("app.interface: WSGI needs a2wsgi; run pip install 'asgid[wsgi]'") from error

    def start_call(environ: Any, start_response: Any) -> Iterable[bytes]:
        call: _Call = environ["asgi.scope"][_CALL]
        if call.is_over:  # the request was cancelled before it had a thread, and the client may have sent it again
            return ()
        call.start(environ, start_response)
        return call

    bridge: Any = WSGIMiddleware(start_call, threads, _MAX_WAITING_PARTS)  # its types are narrower than ASGI's

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        call = _Call(app, scope, receive, send)
        task = cast("asyncio.Task[Any]", asyncio.current_task())  # a coroutine always has a task here
        _CALLS[task] = call
        try:
            # A thread cannot be cancelled: after a cancellation it continues, and its messages are dropped.
            await asyncio.shield(bridge({**_minimal_scope(scope), _CALL: call}, receive, call.send))
        finally:
            call.is_over = True
            del _CALLS[task]
        call.raise_failure()

    return application


class _Call:
    """One request: for a2wsgi the server, and the iterable that the application returns.

    The head, and a body of one part, are sent with the last message of a2wsgi: each message of their own would cost
    60 µs.
    """

    def __init__(self, app: "WSGIApplication", scope: Message, receive: Receive, send: Send) -> None:
        self._app, self._scope, self._receive, self._send = app, scope, receive, send
        self._loop = asyncio.get_running_loop()
        self.failure: BaseException | None = None  #: the exception that ended the response
        self.is_over = False  #: further messages of the application are dropped
        self.thread: int | None = None  #: the thread of the application, while it runs
        self._environ: WSGIEnvironment
        self._start: StartResponse
        self._parts: Iterable[bytes] = ()
        self._head: Message | None = None
        self._is_head_fixed = False  # a part of the body was returned
        self._is_head_sent = False
        self._last = b""  # the last part of the body
        self._is_read = False  # the body of the request was read to its end

    # In the loop

    async def send(self, message: Message) -> None:
        """Send a message of the thread; after a failure the rest is dropped."""
        if self.is_over or self._head is None or message["type"] == "http.response.start":
            return
        try:
            if not self._is_head_sent:
                self._is_head_sent = True
                await self._send(self._head)
            await self._send(message if "more_body" in message else {**message, "body": self._last})
        except Exception as error:  # noqa: BLE001 - the client has disconnected, or the message is invalid
            self.failure, self.is_over = error, True

    async def _next_part(self) -> bytes:
        """Return the next part of the request's body, b"" at its end."""
        while not self._is_read:
            message = await self._receive()
            if self.is_over or message["type"] == "http.disconnect":
                raise ClientDisconnectedError("the client has disconnected")
            self._is_read = not message["more_body"]
            if message["body"]:
                return bytes(message["body"])
        return b""

    def raise_failure(self) -> None:
        """Raise the recorded exception, if any, and drop the reference to it: its traceback refers to the call."""
        failure, self.failure = self.failure, None
        try:
            if failure:
                raise failure
        finally:
            del failure  # the traceback also refers to this frame

    # In the thread

    def start(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> None:
        self._environ, self._start = environ, start_response

    def __iter__(self) -> Iterator[bytes]:
        """Call the application and yield the parts of its body until the response is over."""
        self.thread = get_ident()
        try:
            environ = _environ(self._environ, self._scope, self._read)
            del self._environ  # it refers to the call: the two would wait for the garbage collector
            self._parts = parts = self._app(environ, self._start_response)
            if isinstance(parts, list | tuple) and len(parts) == 1:
                self._last, parts = parts[0], ()
            for part in parts:
                if part:  # the head is sent with the first byte; start_response may replace it until then
                    self._fix_head()
                    yield part
                if self.is_over:
                    return
            self._fix_head()
        except BaseException as error:  # noqa: BLE001 - SystemExit too: the task of the request raises it
            self.failure, self.is_over = error, True

    def close(self) -> None:
        """Close the iterable of the application, after its last part or early."""
        try:
            if close := getattr(self._parts, "close", None):
                close()
        except BaseException as error:  # noqa: BLE001 - as above
            self.failure = error
        finally:
            self.thread = None

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: "ExcInfo | None" = None, /
    ) -> Callable[[bytes], object]:
        if exc_info and exc_info[1] and self._is_head_fixed:
            raise exc_info[1].with_traceback(exc_info[2])
        if self._head and not exc_info:
            raise AppError("start_response was called a second time without exc_info")
        code, _, _ = status.partition(" ")
        if not (len(code) == 3 and code.isdecimal()):
            raise AppError(f"start_response: the status must be three digits, a space and a reason, not {status!r}")
        lines = [(name.encode("latin-1").lower(), value.strip().encode("latin-1")) for name, value in headers]
        self._head = {"type": "http.response.start", "status": int(code), "headers": lines}
        return self._write

    def _fix_head(self) -> None:
        if self._head is None:
            raise AppError("the application did not call start_response before its body")
        self._is_head_fixed = True

    def _write(self, data: bytes) -> None:
        if self.is_over:
            raise ClientDisconnectedError("the client has disconnected")
        if data:
            self._fix_head()
            self._start("200 OK", [])(data)  # a2wsgi returns its write() from start_response

    def _read(self) -> bytes:
        return asyncio.run_coroutine_threadsafe(self._next_part(), self._loop).result()


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


def _minimal_scope(scope: Message) -> Message:
    """Return the values that a2wsgi converts correctly; `_environ` adds the others.

    A header name with an underscore is dropped: the application could take `X_User` for `X-User`, which a proxy checks.
    """
    server = scope["server"]
    return {
        **scope,
        "path": "",
        "root_path": "",
        "query_string": b"",
        "headers": [line for line in scope["headers"] if b"_" not in line[0]],
        "server": server if server and server[1] is not None else None,  # the path of a unix socket is not a host
    }


def _environ(environ: "WSGIEnvironment", scope: Message, read: Callable[[], bytes]) -> "WSGIEnvironment":
    """Return a2wsgi's environment, with the values that it lacks or converts wrongly."""
    root_path = scope["root_path"].encode()
    # Not from scope["path"]: PEP 3333 keeps octets that are not UTF-8.
    path = strip_root_path(root_path, unquote_to_bytes(scope["raw_path"]))
    cookies = [value for name, value in scope["headers"] if name == b"cookie"]
    if cookies:
        environ["HTTP_COOKIE"] = b"; ".join(cookies).decode("latin-1")
    return environ | {
        "asgi.scope": scope,
        "SCRIPT_NAME": root_path.decode("latin-1"),
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "REMOTE_ADDR": environ.get("REMOTE_ADDR", ""),  # "" on a unix socket
        "wsgi.errors": sys.stderr,
        "wsgi.input": io.BufferedReader(_Input(read)),
        "wsgi.input_terminated": True,  # it ends with the body, also without a content-length
    }
