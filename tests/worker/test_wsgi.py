"""WSGI applications: their environment, their response, and their threads, which never wait forever."""

import asyncio
import contextlib
import io
import os
import sys
import threading
from wsgiref.validate import validator

import pytest

from asgid.errors import ClientDisconnectedError
from asgid.worker.app.wsgi import adapt, thread_stack
from asgid.worker.http.scope import request_scope, scope_template
from tests.worker.client import request
from tests.worker.event_loop import until
from tests.worker.worker import Worker, served

PIECE = bytes(65536)


def worker(app, /, **tables):
    return Worker(adapt(app, 2), **tables)


def wsgi(app, /, *sent, **tables):
    """Return a worker and a client, as `served` does."""
    return served(adapt(app, 2), *sent, **tables)


def answering(body):
    """Return an application that responds with the result of `body` for its environment."""

    def app(environ, start_response):
        response = body(environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [response]

    return app


class Parts:
    """A response body that counts: `produced` parts, and whether it `is_closed`."""

    def __init__(self, parts):
        self._parts = iter(parts)
        self.produced = 0
        self.is_closed = False

    def __iter__(self):
        return self

    def __next__(self):
        part = next(self._parts)
        self.produced += 1
        return part

    def close(self):
        self.is_closed = True


def saying(parts):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return parts

    return app


def endless():
    while True:
        yield PIECE


# -- what the application is given -------------------------------------------------------------------------------------


def of(*names):
    return answering(lambda environ: ascii([environ.get(name) for name in names]).encode())


ENVIRON = {
    # request, settings, keys of the environment, their values
    "path": (
        request("GET", "/caf%C3%A9/%ff/a%2Fb?q=%20x&%E9"),
        {},
        ("PATH_INFO", "SCRIPT_NAME", "QUERY_STRING", "REQUEST_METHOD", "SERVER_PROTOCOL"),
        ["/caf\xc3\xa9/\xff/a/b", "", "q=%20x&%E9", "GET", "HTTP/1.1"],
    ),
    **{
        f"root path and {path}": (
            request("GET", path),
            {"app": {"root_path": "/api"}},
            ("SCRIPT_NAME", "PATH_INFO"),
            ["/api", below],
        )
        for path, below in {"/a%ff": "/a\xff", "/api/a": "/a", "/api": "", "/apis": "/apis"}.items()
    },
    "headers": (
        request("GET", "/", "Accept: a", "Accept: b", "X-Name: caf\xe9", "Cookie: a=1", "Cookie: b=2"),
        {},
        ("HTTP_ACCEPT", "HTTP_X_NAME", "HTTP_COOKIE", "HTTP_HOST"),
        ["a,b", "caf\xc3\xa9", "a=1; b=2", "test.invalid"],
    ),
    "an underscore passes for no hyphen": (
        request("GET", "/", "X_User: root", "X-User: me", "Content_Length: 7"),
        {},
        ("HTTP_X_USER", "HTTP_CONTENT_LENGTH", "CONTENT_LENGTH"),
        ["me", None, None],
    ),
    "the body's own headers": (
        request("POST", "/", "Content-Type: text/x", body=b"abc"),
        {},
        ("CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"),
        ["text/x", "3", None, None],
    ),
    "the server's own keys": (
        request(),
        {},
        ("wsgi.version", "wsgi.url_scheme", "wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once"),
        [(1, 0), "http", True, True, False],
    ),
    "a unix socket has no host and no peer": (
        request(),
        {},
        ("SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "REMOTE_PORT", "wsgi.input_terminated"),
        ["localhost", "80", "", None, True],
    ),
}


@pytest.mark.parametrize(("asked", "tables", "names", "values"), ENVIRON.values(), ids=ENVIRON.keys())
async def test_the_environment_has_the_parts_of_the_request(asked, tables, names, values):
    """PEP 3333: octets as characters, field names in capitals."""
    async with wsgi(of(*names), asked, **tables) as (_, client):
        assert ascii(values).encode() == (await client.response()).body


async def test_the_environment_has_both_addresses_of_tcp():
    async with worker(of("REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME")) as running:
        client = await running.connect_tcp()
        port = client.address.rpartition(":")[2]

        assert repr(["127.0.0.1", port, "127.0.0.1"]).encode() == (await client.get()).body


async def test_the_server_name_is_a_host_on_a_unix_socket():
    """An application builds URLs from SERVER_NAME, and a client must be able to use them."""
    said = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        said.append(message)

    scope = scope_template(client=None, server=("/run/asgid.sock", None), root_path="", scheme="http")
    scope = request_scope(scope, None, "GET", b"/", 1, [])
    await adapt(of("SERVER_NAME", "SERVER_PORT"), 1)(scope, receive, send)

    assert b"['localhost', '80']" == said[1]["body"]


async def test_wsgi_errors_is_stderr(capfd):
    """The server's own log is there by default."""
    async with worker(answering(lambda environ: str(environ["wsgi.errors"].write("a complaint")).encode())) as running:
        client = await running.connect()
        assert b"11" == (await client.get()).body

    sys.stderr.flush()
    assert ("", "a complaint") == capfd.readouterr()


async def test_script_name_of_the_process_is_ignored(monkeypatch):
    """gunicorn reads it from there; here `app.root_path` is the setting for it."""
    monkeypatch.setenv("SCRIPT_NAME", "/elsewhere")
    async with wsgi(of("SCRIPT_NAME", "PATH_INFO")) as (_, client):
        assert b"['', '/x']" == (await client.get("/x")).body


@pytest.mark.parametrize("asked", [request(), request("POST", "/a?b", body=b"abc"), request("HEAD")])
async def test_the_validator_of_wsgiref_finds_no_error(asked, capfd):
    """It stands between server and application, and raises if either breaks PEP 3333."""

    def app(environ, start_response):
        body = environ["wsgi.input"].read(10)
        environ["wsgi.errors"].write("")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body, b"!"]

    async with wsgi(validator(app), asked) as (running, client):
        response = await client.response(asked.split()[0].decode())

        assert (200, []) == (response.status, running.lines)
    assert "" == capfd.readouterr().err


# -- the body of a request ---------------------------------------------------------------------------------------------

LINES = b"one\ntwo, which is longer\n\nlast"

READERS = {
    "whole": lambda body: body.read(),
    "a part": lambda body: b"%b|%b" % (body.read(5), body.read(100)),
    "lines": lambda body: b"|".join(iter(body.readline, b"")),
    "lines up to a length": lambda body: b"|".join(iter(lambda: body.readline(6), b"")),
    "all lines": lambda body: b"|".join(body.readlines()),
    "lines up to a hint": lambda body: b"|".join([*body.readlines(5), b"", *body.readlines(1000)]),
    "by iteration": b"|".join,
    "beyond its end": lambda body: body.read() + body.read() + body.read(5) + body.readline(),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
async def test_the_input_is_read_like_a_file(read):
    expected = read(io.BytesIO(LINES))
    chunks = [b"1\r\n%c\r\n" % octet for octet in LINES]
    async with worker(answering(lambda environ: read(environ["wsgi.input"]))) as running:
        client = await running.connect(request("POST", body=LINES))
        whole = await client.response()
        await client.send(request("POST", "/", "Transfer-Encoding: chunked"), *chunks, b"0\r\n\r\n")
        cut = await client.response()

        assert [expected, expected] == [whole.body, cut.body]


async def test_reading_half_a_body_raises():
    """OSError: half an upload never looks whole."""
    seen = []

    def read(environ):
        try:
            return environ["wsgi.input"].read()
        except OSError as error:
            seen.append(error)
            raise

    async with wsgi(answering(read), request("POST", "/", "Content-Length: 10") + b"12345") as (running, client):
        await until(lambda: running.running)
        client.close()
        await until(lambda: seen)

        assert isinstance(seen[0], ClientDisconnectedError)
    assert [] == running.lines


async def test_both_bodies_stream_at_the_same_time():
    def app(environ, start_response):
        start_response("200 OK", [])
        for line in environ["wsgi.input"]:
            yield line.upper()

    async with wsgi(app, request("POST", "/", "Transfer-Encoding: chunked")) as (_, client):
        await client.send(b"4\r\none\n\r\n")
        await client.head()
        assert b"4\r\nONE\n\r\n" == await client.exactly(9)

        await client.send(b"4\r\ntwo\n\r\n0\r\n\r\n")
        assert b"4\r\nTWO\n\r\n0\r\n\r\n" == await client.exactly(14)


async def test_an_upload_is_read_at_the_pace_of_the_application():
    """The server buffers no more of it than for any other application."""
    go = threading.Event()

    def read(environ):
        go.wait(10)
        return str(sum(map(len, iter(lambda: environ["wsgi.input"].read(10_000), b"")))).encode()

    async with wsgi(answering(read)) as (_, client):
        size = 4 << 20
        sending = asyncio.create_task(client.send(request("POST", "/", f"Content-Length: {size}") + bytes(size)))
        await until(lambda: client.takes_no_more)
        assert client.received < 1 << 20

        go.set()
        assert str(size).encode() == (await client.response()).body
        await sending


# -- what the application says -----------------------------------------------------------------------------------------


async def test_a_body_of_one_part_has_a_length():
    async with wsgi(saying([b"hello"])) as (_, client):
        response = await client.get()

        assert (b"hello", "5", "text/plain") == (
            response.body,
            response.headers["content-length"],
            response.headers["content-type"],
        )


@pytest.mark.parametrize(
    ("parts", "body"), [((), b""), ([b""], b""), ([b"a", b"", b"b"], b"ab"), (iter([b"", b"a"]), b"a"), ((b"x",), b"x")]
)
async def test_empty_parts_of_a_body_are_skipped(parts, body):
    """An empty chunk would end it."""
    async with wsgi(saying(parts)) as (_, client):
        assert body == (await client.get()).body


async def test_a_part_leaves_before_the_next_is_produced():
    """The server does not buffer a stream."""
    go = threading.Event()

    def parts():
        yield b"one"
        go.wait(10)
        yield b"two"

    async with wsgi(saying(parts()), request()) as (_, client):
        await client.head()
        assert b"3\r\none\r\n" == await client.exactly(8)

        go.set()
        assert b"3\r\ntwo\r\n0\r\n\r\n" == await client.exactly(13)


async def test_write_comes_before_the_returned_body():
    def app(environ, start_response):
        write = start_response("200 OK", [("X-Name", "value")])
        write(b"one ")
        write(b"")
        write(b"two ")
        return [b"three"]

    async with wsgi(app) as (_, client):
        response = await client.get()

        assert (b"one two three", "value") == (response.body, response.headers["x-name"])


async def test_a_response_to_head_has_a_length_and_no_body():
    async with wsgi(saying([b"hello"]), request("HEAD")) as (_, client):
        response = await client.response("HEAD")

        assert (b"", 200) == (response.body, response.status)


def error_of(text):
    error = ValueError(text)
    return type(error), error, error.__traceback__


async def test_start_response_may_be_called_again_with_exc_info():
    """It replaces status and headers until the body begins."""

    def app(environ, start_response):
        start_response("200 OK", [("X-First", "1")])
        yield b""
        start_response("503 Sorry", [("X-Second", "2")], error_of("late"))
        yield b"sorry"

    async with wsgi(app) as (_, client):
        response = await client.get()

        assert (503, b"sorry", True, False) == (
            response.status,
            response.body,
            "x-second" in response.headers,
            "x-first" in response.headers,
        )


def too_late(environ, start_response):
    start_response("200 OK", [])
    yield b"begun"
    start_response("500 Sorry", [], error_of("too late"))
    yield b"never"


def in_the_middle(environ, start_response):
    start_response("200 OK", [])
    yield b"begun"
    raise ValueError("in the middle")


@pytest.mark.parametrize(("app", "why"), [(too_late, "too late"), (in_the_middle, "in the middle")])
async def test_an_error_within_the_body_aborts_the_response(app, why):
    async with wsgi(app, request()) as (running, client):
        await client.rest()
        await until(lambda: running.lines)

        (line,) = running.lines
        assert "application failed" == line.event
        assert f"ValueError: {why}" in str(line.fields["stack"])
        assert app.__name__ in str(line.fields["stack"])


def raising(error):
    def app(environ, start_response):
        raise error

    return app


def raising_after_the_head(environ, start_response):
    start_response("200 OK", [])
    raise ValueError("after the head")


def twice(environ, start_response):
    start_response("200 OK", [])
    start_response("200 OK", [])


def status(text):
    def app(environ, start_response):
        start_response(text, [])
        return []

    return app


FAULTS = {
    "at once": (raising(ValueError("no")), "ValueError: no"),
    "an exit of the program": (raising(SystemExit(3)), "SystemExit: 3"),
    "an interrupt of the program": (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
    "an exception that no future accepts": (raising(StopIteration(1)), "StopIteration"),
    "after the head": (raising_after_the_head, "ValueError: after the head"),
    "no head": (lambda environ, start_response: [b"body"], "did not call start_response"),
    "nothing": (lambda environ, start_response: [], "did not call start_response"),
    "no parts": (lambda environ, start_response: None, "TypeError: 'NoneType' object is not iterable"),
    "two heads": (twice, "start_response was called a second time without exc_info"),
    "no status": (status("OK"), "the status must be three digits, a space and a reason, not 'OK'"),
    "a long status": (status("2000 OK"), "the status must be three digits"),
    "text": (saying(["text"]), "the body is bytes, not str"),
    "text in parts": (saying(["text", "text"]), "the body is bytes, not str"),
    "an end to the head": (
        lambda environ, start_response: start_response("200 OK", [("X", "a\r\nb: c")]) and [],
        "AppError",
    ),
}


@pytest.mark.parametrize(("app", "why"), FAULTS.values(), ids=FAULTS.keys())
async def test_an_error_before_the_body_is_a_500(app, why):
    """The traceback begins at the application; it is logged once, and the worker goes on."""
    async with wsgi(app) as (running, client):
        assert 500 == (await client.get()).status

        (line,) = running.lines
        assert "application failed" == line.event
        assert why in str(line.fields["stack"])


async def test_a_status_may_have_no_reason():
    """Many applications send "204"."""
    async with worker(status("204")) as running:
        assert 204 == (await (await running.connect()).get()).status


# -- the end -----------------------------------------------------------------------------------------------------------


async def test_close_is_called_after_the_last_part_has_left():
    go = threading.Event()

    class Slow(Parts):
        def close(self):
            go.wait(10)
            super().close()

    parts = Slow([b"one", b"two"])
    async with wsgi(saying(parts)) as (_, client):
        assert b"onetwo" == (await client.get()).body
        assert not parts.is_closed

        go.set()
        await until(lambda: parts.is_closed)


async def test_close_is_called_if_the_body_fails():
    """An error in close() does not hide the first one."""

    def failing():
        yield b"one"
        raise ValueError("in the middle")

    parts = Parts(failing())
    async with wsgi(saying(parts), request()) as (_, client):
        await client.rest()

        await until(lambda: parts.is_closed)


async def test_an_error_in_close_is_only_logged():
    class Failing(Parts):
        def close(self):
            raise SystemExit("in close")

    async with wsgi(saying(Failing([b"whole", b""]))) as (running, client):
        assert b"whole" == (await client.get()).body
        await until(lambda: running.lines)

        assert "SystemExit: in close" in str(running.lines[0].fields["stack"])


async def test_a_disconnect_ends_the_iteration():
    """The thread returns whatever it was doing, and close() is called."""
    parts = Parts(endless())
    async with worker(saying(parts)) as running:
        for _ in range(4):  # more than there are threads
            parts.is_closed = False
            client = await running.connect(request())
            await client.head()
            client.close()
            await until(lambda: parts.is_closed)
            await until(lambda: not running.running)

        assert [] == running.lines


async def test_a_disconnect_ends_an_application_that_only_writes():
    """write() raises OSError."""
    seen = []

    def app(environ, start_response):
        write = start_response("200 OK", [])
        try:
            while True:
                write(PIECE)
        except OSError as error:
            seen.append(error)
            raise

    async with wsgi(app, request()) as (running, client):
        await client.head()
        client.close()
        await until(lambda: seen)

    assert [] == running.lines


async def test_a_slow_client_slows_the_application_down():
    """Only a few parts are produced beside those in kernel and transport."""
    parts = Parts(endless())
    async with wsgi(saying(parts), request(), send_buffer=4096) as (_, client):
        await until(lambda: client.is_writing_paused)
        before = -1
        while before != parts.produced:  # the thread has all the time it needs
            before = parts.produced
            await asyncio.get_running_loop().run_in_executor(None, os.sched_yield)

        assert parts.produced < 10
        await client.exactly(20 * len(PIECE))
        assert parts.produced > 10


async def test_a_disconnect_ends_an_application_that_ignores_it():
    """It caught the OSError of its read, and sends a response without end."""
    parts = Parts(endless())

    def app(environ, start_response):
        with contextlib.suppress(OSError):
            environ["wsgi.input"].read()
        start_response("200 OK", [])
        return parts

    async with wsgi(app) as (running, client):
        await client.send(request("POST", "/", "Content-Length: 10") + b"12345")
        await until(lambda: running.running)
        client.close()
        await until(lambda: parts.is_closed)

        assert [] == running.lines
        assert parts.produced == 1


async def test_an_overdue_request_frees_its_thread():
    """The client gets a 504 at once, and later output is dropped."""
    go = threading.Event()

    def parts():
        go.wait(10)
        yield from endless()

    body = Parts(parts())
    async with wsgi(saying(body), request(), timeouts={"request": "3s"}) as (running, client):
        await until(lambda: running.running)
        running.pass_time(4)
        assert 504 == (await client.response()).status

        go.set()
        await until(lambda: body.is_closed)
        assert body.produced < 4


async def test_an_overdue_request_without_a_thread_never_runs():
    """Its client has a 504 and may have sent it again: an order would be executed twice."""
    go, begun = threading.Event(), []

    def order(environ):
        begun.append(environ["PATH_INFO"])
        go.wait(10)
        return b"done"

    async with Worker(adapt(answering(order), 1), timeouts={"request": "3s"}) as running:
        clients = [await running.connect() for _ in range(2)]
        for client, path in zip(clients, ("/first", "/second"), strict=True):
            await client.send(request("POST", path))
        await until(lambda: begun)
        running.pass_time(4)
        assert [504, 504] == [(await client.response()).status for client in clients]

        go.set()
        last = await running.connect(request("POST", "/last"))
        assert b"done" == (await last.response()).body
        assert ["/first", "/last"] == begun


async def test_threads_bound_the_number_of_running_requests():
    """The loop is free, and serves the others meanwhile."""
    both = threading.Barrier(3)

    def meet(environ):
        both.wait(10)
        return b"met"

    async with worker(answering(meet)) as running:
        clients = [await running.connect() for _ in range(2)]
        for client in clients:
            await client.send(request())
        await until(lambda: both.n_waiting == 2)

        both.wait(10)
        assert [b"met", b"met"] == [(await client.response()).body for client in clients]


async def test_a_slow_request_is_logged_with_the_stack_of_its_thread():
    """Only the frames of the application; the task in the loop just waits for it."""
    begun, go = threading.Event(), threading.Event()

    def dawdle(environ, start_response):
        begun.set()
        go.wait()
        start_response("200 OK", [])
        return [b"done"]

    async with worker(dawdle) as serving:
        serving.look_in_threads(thread_stack)
        client = await serving.connect(request("GET", "/slow"))
        await until(begun.is_set)
        serving.pass_time(6)
        go.set()

        assert b"done" == (await client.response()).body
        (line,) = serving.lines
        stack = str(line.fields["stack"])
        assert "slow request" == line.event
        assert "in dawdle\n    go.wait()" in stack
        assert "concurrent" not in stack


async def test_a_thread_that_waits_for_its_client_has_a_stack():
    """The application's line is in it: a slow upload looks different from a slow query."""

    def upload(environ, start_response):
        body = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [body]

    async with worker(upload) as serving:
        serving.look_in_threads(thread_stack)
        client = await serving.connect()
        await client.send(request("POST", "/slow", "Content-Length: 2") + b"a")
        await until(lambda: any("readinto" in exchange.stack() for exchange in serving.running))
        serving.pass_time(6)
        await client.send(b"b")

        assert b"ab" == (await client.response()).body
        (line,) = serving.lines
        assert 'in upload\n    body = environ["wsgi.input"].read()' in str(line.fields["stack"])
