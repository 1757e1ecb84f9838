"""WSGI (PEP 3333): an application that runs in threads becomes an ASGI 3 application, by a2wsgi.

a2wsgi has the threads, and carries messages between them and the loop so that a slow client slows the application. It
must learn of no failure: a thread whose client has left would wait in it for ever, and what ends a program, raised by
an application, would end the worker. So a `_Call` stands on both sides of it, as the server in the loop and as the
application in the thread. Neither side fails; what did fail is raised at the end, in the request's own task. Where
PEP 3333 asks for something else than a2wsgi does, it is done here: decision 24 has the list.
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
from asgid.worker.http.context import Application, Event, Receive, Send
from asgid.worker.http.scope import strip_root_path

if TYPE_CHECKING:
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

#: Parts of a body that may wait between the thread and the loop; the application decides how large they are.
_AHEAD = 1
#: Under this key the scope that a2wsgi hands through holds the call.
_CALL = "asgid.call"

#: The call of each request that is in hand, by the request's task. A call leads to its task, by `receive()` and the
#: exchange: a table that is only weak in its keys would keep both forever.
_CALLS: dict["asyncio.Task[Any]", "_Call"] = {}


def thread_stack(task: "asyncio.Task[Any]") -> str:
    """Return the application's stack in the thread of a request; "" if the request has no thread now."""
    call = _CALLS.get(task)
    frame = sys._current_frames().get(call.thread) if call and call.thread else None  # noqa: SLF001 - it is documented
    if frame is None:
        return ""
    frames = traceback.extract_stack(frame)
    ours = max((number for number, each in enumerate(frames) if each.filename == __file__), default=-1)
    return "".join(traceback.format_list(frames[ours + 1 :]))


def adapt(app: "WSGIApplication", threads: int) -> Application:
    """Return an ASGI 3 application that calls `app` in one of `threads` threads; raises BootError without a2wsgi.

    It answers requests: it must not be shown the scope of a lifespan or of a WebSocket.
    """
    try:
        from a2wsgi import WSGIMiddleware  # noqa: PLC0415 - an extra: who serves no WSGI need not have it
    except ModuleNotFoundError as error:
        raise BootError("app.interface: WSGI needs a2wsgi, which pip install 'asgid[wsgi]' brings") from error

    def begin(environ: Any, start_response: Any) -> Iterable[bytes]:
        call: _Call = environ["asgi.scope"][_CALL]
        if call.is_over:  # it was given up before it had a thread: who was told so may have asked again
            return ()
        call.begin(environ, start_response)
        return call

    bridge: Any = WSGIMiddleware(begin, threads, _AHEAD)  # its types are narrower than ASGI's

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        call = _Call(app, scope, receive, send)
        task = cast("asyncio.Task[Any]", asyncio.current_task())  # asyncio's types also know code outside of a task
        _CALLS[task] = call
        try:
            # No thread can be cancelled: after a cancellation it goes on, and what it sends is dropped.
            await asyncio.shield(bridge({**_plain(scope), _CALL: call}, receive, call.send))
        finally:
            call.is_over = True
            del _CALLS[task]
        call.raise_failure()

    return application


class _Call:
    """One request: what a2wsgi takes for the server, and for what the application returned.

    The head, and a body of one part, travel with a2wsgi's last message: each message of theirs would cost 60 µs.
    """

    def __init__(self, app: "WSGIApplication", scope: Event, receive: Receive, send: Send) -> None:
        self._app, self._scope, self._receive, self._send = app, scope, receive, send
        self._loop = asyncio.get_running_loop()
        self.failure: BaseException | None = None  #: why there is no whole answer
        self.is_over = False  #: nobody takes what the application says
        self.thread: int | None = None  #: in which the application runs now
        self._environ: WSGIEnvironment
        self._start: StartResponse
        self._parts: Iterable[bytes] = ()
        self._head: Event | None = None
        self._is_head_fixed = False  # a part of the body follows it
        self._is_head_sent = False
        self._last = b""  # the part with which the body ends
        self._is_read = False  # the body of the request, to its end

    # In the loop

    async def send(self, message: Event) -> None:
        """Pass on what is said in the thread; once that fails, the rest is dropped."""
        if self.is_over or self._head is None or message["type"] == "http.response.start":
            return
        try:
            if not self._is_head_sent:
                self._is_head_sent = True
                await self._send(self._head)
            await self._send(message if "more_body" in message else {**message, "body": self._last})
        except Exception as error:  # noqa: BLE001 - the client has gone, or the application's message is none
            self.failure, self.is_over = error, True

    async def _next_part(self) -> bytes:
        """Return a part of the request's body, b"" at its end."""
        while not self._is_read:
            message = await self._receive()
            if self.is_over or message["type"] == "http.disconnect":
                raise ClientDisconnectedError("the client has disconnected")
            self._is_read = not message["more_body"]
            if message["body"]:
                return bytes(message["body"])
        return b""

    def raise_failure(self) -> None:
        """Raise what has failed, if anything has. From here on the error is the task's: its traceback leads to us."""
        failure, self.failure = self.failure, None
        try:
            if failure:
                raise failure
        finally:
            del failure  # and to this frame

    # In the thread

    def begin(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> None:
        self._environ, self._start = environ, start_response

    def __iter__(self) -> Iterator[bytes]:
        """Call the application and yield the parts of its body as long as somebody takes them."""
        self.thread = get_ident()
        try:
            environ = _environ(self._environ, self._scope, self._read)
            del self._environ  # it leads back to the call: the two would wait for the garbage collector
            self._parts = parts = self._app(environ, self._start_response)
            if isinstance(parts, list | tuple) and len(parts) == 1:
                self._last, parts = parts[0], ()
            for part in parts:
                if part:  # the head leaves with the first byte; until then another may take its place
                    self._fix_head()
                    yield part
                if self.is_over:
                    return
            self._fix_head()
        except BaseException as error:  # noqa: BLE001 - SystemExit too: the request's task raises it
            self.failure, self.is_over = error, True

    def close(self) -> None:
        """Tell the application that its answer has been taken, or that it will not be."""
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
            raise AppError(f"start_response: the status is three digits, a space and a reason, not {status!r}")
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
            self._start("200 OK", [])(data)  # for the callable that it returns

    def _read(self) -> bytes:
        return asyncio.run_coroutine_threadsafe(self._next_part(), self._loop).result()


class _Input(io.RawIOBase):
    """The body of a request as a file, below a buffer; `read` waits for its next part, and b"" is its end."""

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


def _plain(scope: Event) -> Event:
    """Return what a2wsgi makes a right environment of; the rest is `_environ`'s.

    Names with an underscore are dropped: `X_User` would pass for `X-User`, which a proxy in front has checked.
    """
    server = scope["server"]
    return {
        **scope,
        "path": "",
        "root_path": "",
        "query_string": b"",
        "headers": [line for line in scope["headers"] if b"_" not in line[0]],
        "server": server if server and server[1] is not None else None,  # a socket file is no name of a host
    }


def _environ(environ: "WSGIEnvironment", scope: Event, read: Callable[[], bytes]) -> "WSGIEnvironment":
    """Return a2wsgi's environment with what it would have got wrong, or not at all."""
    root_path = scope["root_path"].encode()
    # Not from scope["path"]: PEP 3333 keeps the octets that are not UTF-8.
    path = strip_root_path(root_path, unquote_to_bytes(scope["raw_path"]))
    cookies = [value for name, value in scope["headers"] if name == b"cookie"]
    if cookies:
        environ["HTTP_COOKIE"] = b"; ".join(cookies).decode("latin-1")
    return environ | {
        "asgi.scope": scope,
        "SCRIPT_NAME": root_path.decode("latin-1"),
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "REMOTE_ADDR": environ.get("REMOTE_ADDR", ""),  # on a unix socket nobody
        "wsgi.errors": sys.stderr,
        "wsgi.input": io.BufferedReader(_Input(read)),
        "wsgi.input_terminated": True,  # its end is the body's, also where no length is told
    }
