"""How connections end: the client leaves or half-closes, the worker drains, the connection limit is reached."""

import asyncio
import socket
from unittest.mock import call

import pytest

from asgid.worker.http.exchange import CLIENT_CLOSED_REQUEST
from tests.worker.apps import (
    Scope,
    after,
    begin,
    body_of,
    keeps_scopes,
    mirror,
    mirror_later,
    mirrored,
    pauses_in_response,
    respond,
)
from tests.worker.client import request
from tests.worker.event_loop import turns, until
from tests.worker.worker import Worker, served


async def test_receive_reports_that_the_client_has_gone():
    """receive() returns http.disconnect. From then on send() drops every message (ASGI HTTP 2.3)."""
    seen: list[object] = []

    async def app(scope, receive, send):
        await body_of(receive)
        seen.append((await receive())["type"])
        for _ in range(3):
            await begin(send, b"x")
        worker.pass_time(100)
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body"})
        raise ValueError("which has no reader") from OSError("the client is gone")

    async with served(app, request(), tcp=True) as (worker, client):
        await until(lambda: worker.running)
        client.reset()
        await until(lambda: not worker.running)

        assert ["http.disconnect"] == seen
        assert 1 == worker.counts["DISCONNECTS"]
        assert not worker.counts.get("EXCEPTIONS")
        assert not worker.lines
        assert [("/", CLIENT_CLOSED_REQUEST, 0)] == [
            (path, status, size) for _, path, status, size, _ in worker.access_entries
        ]


async def test_a_stream_ends_in_the_access_log_when_its_client_leaves():
    """The line has the bytes that were sent. Endless streams always end in this way."""

    async def app(scope, receive, send):
        await begin(send, b"hello")
        while (await receive())["type"] != "http.disconnect":
            pass

    async with served(app, request("GET", "/stream")) as (worker, client):
        await client.head()
        assert b"5\r\nhello\r\n" == await client.exactly(10)
        worker.pass_time(7)
        client.close()
        await until(lambda: not worker.running)

        assert [("GET", "/stream", 200, 5, 7.0)] == worker.access_entries
        assert 5 == worker.counts["RESPONSE_BYTES"]


async def test_a_disconnect_ends_a_waiting_send():
    """An application that only sends goes on for a second without blocking the loop. Then send() raises OSError."""
    sent: list[bytes] = []
    raised: list[type] = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
                sent.append(b"x")
        except OSError as error:
            raised.append(type(error))
            raise

    async with served(app, request(), send_buffer=4096) as (worker, client):
        await until(lambda: client.is_writing_paused)
        before = len(sent)
        client.close()
        await until(lambda: len(sent) > before + 3)
        assert not raised
        worker.pass_time(1)
        await until(lambda: raised)

        assert 1 == worker.counts["DISCONNECTS"]
        assert not worker.lines


@pytest.mark.parametrize("is_held", [False, True], ids=["streaming", "held"])
async def test_a_second_response_after_a_disconnect_is_dropped(is_held):
    """Frameworks end such a stream by an empty response; the SSE endpoint of MCP's SDK is one."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        if not is_held:
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await body_of(receive)
        assert {"type": "http.disconnect"} == await receive()
        await respond(send, b"for nobody")

    async with served(app, request()) as (worker, client):
        await until(lambda: worker.running)
        client.half_close()
        got = await client.rest()
        await until(lambda: not worker.running)

        assert b"nobody" not in got
        assert b"0\r\n\r\n" not in got
        assert 1 == worker.counts["DISCONNECTS"]
        assert not worker.lines


async def test_a_stream_that_was_told_to_end_does_not_look_whole():
    """Starlette's middleware ends the body after a cancelled stream, and a half-closed client may still read."""

    async def app(scope, receive, send):
        await begin(send, b"a half")
        await body_of(receive)
        assert {"type": "http.disconnect"} == await receive()
        await send({"type": "http.response.body"})

    async with served(app, request()) as (worker, client):
        client.half_close()

        assert (await client.rest()).endswith(b"6\r\na half\r\n")
        assert 1 == worker.counts["DISCONNECTS"]


@pytest.mark.parametrize("wrapped", [False, True], ids=["a framework's error", "a task group's"])
async def test_an_error_caused_by_a_disconnect_is_not_a_failure(wrapped):
    """Frameworks raise an error of their own in place of ours."""

    async def app(scope, receive, send):
        await body_of(receive)
        await receive()
        try:
            await send({"type": "http.response.start", "status": 200})
        except OSError as error:
            failure = RuntimeError("client disconnect")
            raise (ExceptionGroup("tasks", [error]) if wrapped else failure) from None

    async with served(app, request(), tcp=True) as (worker, client):
        await until(lambda: worker.running)
        client.reset()
        await until(lambda: not worker.running)

        assert not worker.lines


@pytest.mark.parametrize("has_begun", [False, True])
async def test_an_application_may_return_after_a_disconnect(has_begun):
    async def app(scope, receive, send):
        if has_begun:
            await begin(send, b"x")
        await body_of(receive)
        assert {"type": "http.disconnect"} == await receive()

    async with served(app, request()) as (worker, client):
        await until(lambda: worker.running)
        client.close()
        await until(lambda: not worker.connections)

        assert 1 == worker.counts["DISCONNECTS"]
        assert not worker.lines


async def test_another_error_after_a_disconnect_is_logged():
    async def app(scope, receive, send):
        await body_of(receive)
        await receive()
        raise ValueError("a fault in the cleaning up")

    async with served(app, request()) as (worker, client):
        await until(lambda: worker.running)
        client.close()
        await until(lambda: worker.lines)

        assert 1 == worker.counts["EXCEPTIONS"]


async def test_a_client_that_leaves_within_its_body_causes_a_disconnect():
    """The application does not take half a body for a whole one."""
    seen: list[str] = []

    async def app(scope, receive, send):
        while (message := await receive())["type"] == "http.request":
            seen.append(message["body"].decode())
            assert message["more_body"]

    async with served(app, request("POST", "/", "Content-Length: 10") + b"abc") as (worker, client):
        await until(lambda: ["abc"] == seen)
        client.half_close()
        await until(lambda: not worker.running)

        assert ["abc"] == seen
        assert 1 == worker.counts["DISCONNECTS"]


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
async def test_a_half_closed_client_gets_all_its_responses(tcp):
    go = asyncio.Event()

    async with Worker(after(go)) as worker:
        client = await (worker.connect_tcp() if tcp else worker.connect())
        await client.send(request("GET", "/a"))
        await client.send(request("GET", "/b"))
        client.half_close()
        go.set()

        assert [mirrored("GET", "/a"), mirrored("GET", "/b")] == [(await client.response()).body for _ in range(2)]
        assert b"" == await client.rest()
        assert not worker.counts.get("DISCONNECTS")


async def test_a_half_close_ends_a_long_poll():
    """receive() returns http.disconnect, because many clients close only one direction."""
    seen: list[str] = []

    async def app(scope, receive, send):
        await body_of(receive)
        seen.append((await receive())["type"])
        await respond(send, b"late")

    async with served(app, request()) as (worker, client):
        await until(lambda: worker.running)
        client.half_close()

        assert b"late" == (await client.response()).body
        assert ["http.disconnect"] == seen


async def test_a_reset_is_a_disconnect():
    async with Worker(lambda scope, receive, send: asyncio.sleep(3600)) as worker:
        client, other = await worker.connect_tcp(), await worker.connect_tcp()
        await client.send(request())
        await until(lambda: worker.running)
        client.reset()
        await until(lambda: 1 == len(worker.connections))

        assert 1 == worker.counts["DISCONNECTS"]
        worker.cancel_applications(503)
        other.close()


# -- the scope ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
async def test_the_scope_has_both_addresses(tcp):
    """They are those of the sockets; a socket without a name has none."""
    scopes: list[Scope] = []

    async with Worker(keeps_scopes(scopes)) as worker:
        client = await (worker.connect_tcp() if tcp else worker.connect())
        await client.get()
        here, there = client.ends if tcp else (None, None)

    (scope,) = scopes
    assert (here, there) == (scope["client"], scope["server"])


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
async def test_an_ipv4_client_has_the_same_address_on_every_listener():
    """A listener of both families reports ::ffff:127.0.0.1, and trust is decided by 127.0.0.1."""
    scopes: list[Scope] = []

    async with Worker(keeps_scopes(scopes), proxy={"trusted": ["127.0.0.1"]}) as worker:
        client = await worker.connect_tcp(family=socket.AF_INET6)
        await client.get()
        await client.send(request("GET", "/", "X-Forwarded-For: 192.0.2.1"))
        await client.response()
        here, there = client.ends

    direct, forwarded = scopes
    assert (here, there) == (direct["client"], direct["server"])
    assert ("192.0.2.1", 0) == forwarded["client"]


# -- drain -------------------------------------------------------------------------------------------------------------


async def test_a_draining_worker_closes_after_the_next_response():
    async with served(mirror) as (worker, client):
        assert not (await client.get("/a")).closes
        worker.start_draining()
        response = await client.get("/b")

        assert (mirrored("GET", "/b"), True) == (response.body, response.closes)
        assert b"" == await client.rest()


async def test_a_draining_worker_serves_a_whole_pipeline():
    async with served(mirror_later) as (worker, client):
        worker.start_draining()
        await client.send(request("GET", "/a") + request("GET", "/b") + request("GET", "/c"))

        assert [False, False, True] == [(await client.response()).closes for _ in range(3)]
        assert b"" == await client.rest()


async def test_an_application_that_returns_at_the_end_of_the_grace_causes_a_503():
    """receive() reports a disconnect at the end of the grace, although the client is still there."""

    async def app(scope, receive, send):
        await body_of(receive)
        assert {"type": "http.disconnect"} == await receive()

    async with served(app, request()) as (worker, client):
        await until(lambda: worker.running)
        worker.start_draining()
        worker.half_close_clients()

        assert 503 == (await client.response()).status
        assert not worker.lines


async def test_a_response_that_began_before_the_drain_still_closes():
    """Its head allowed more requests; closing afterwards is permitted and loses nothing."""
    go = asyncio.Event()

    async with served(pauses_in_response(go), request()) as (worker, client):
        assert b"connection: close" not in await client.head()
        worker.start_draining()
        go.set()

        assert b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n" == await client.rest()


async def test_a_drain_closes_idle_connections_only():
    """A connection within a head or a request is not idle."""
    go = asyncio.Event()

    async with Worker(after(go)) as worker:
        idle, in_head, in_hand = [await worker.connect() for _ in range(3)]
        await in_head.send(b"GET / HT")
        await in_hand.send(request())
        for client in (idle, in_head, in_hand):
            client.close_if_idle()
        go.set()

        assert b"" == await idle.rest()
        assert 200 == (await in_hand.response()).status
        await in_head.send(b"TP/1.1\r\nHost: a\r\n\r\n")
        assert 200 == (await in_head.response()).status


async def test_a_drain_does_not_close_a_connection_between_two_pipelined_requests():
    """The second request has arrived and waits for its turn of the loop."""

    async def app(scope, receive, send):
        await mirror_later(scope, receive, send)
        if scope["path"] == "/1":
            client.close_if_idle()

    async with served(app) as (_, client):
        await client.send(request("GET", "/1") + request("GET", "/2"))

        assert [mirrored("GET", "/1"), mirrored("GET", "/2")] == [(await client.response()).body for _ in range(2)]


@pytest.mark.parametrize("has_begun", [False, True])
async def test_applications_are_cancelled_at_the_end_of_the_grace(has_begun):
    """The client gets a 503 if nothing was sent; otherwise its response is aborted."""

    async def app(scope, receive, send):
        if has_begun:
            await begin(send, b"x")
        await asyncio.Event().wait()

    async with served(app, request()) as (worker, client):
        await until(lambda: worker.running)
        worker.cancel_applications(503, "the server is stopping")
        await until(lambda: not worker.running)

        rest = await client.rest()
        assert has_begun != rest.startswith(b"HTTP/1.1 503 ")
        assert not rest.endswith(b"0\r\n\r\n")
        assert not worker.counts.get("EXCEPTIONS")


@pytest.mark.parametrize(
    ("cancel", "status"),
    [
        (lambda exchange: exchange.cancel(503, "the server is stopping"), 503),
        (lambda exchange: exchange.cancel(504, "the application took longer than timeouts.request"), 504),
        (lambda exchange: exchange.task.cancel(), 500),
    ],
    ids=["at the end of the grace", "overdue", "by the application"],
)
async def test_a_call_that_is_cancelled_before_it_began_gets_a_response(monkeypatch, cancel, status):
    """On Python 3.11 tasks do not start eagerly, so no code of the exchange runs in them."""
    monkeypatch.setattr("asgid.worker.http.exchange._EAGER", False)
    called: list[Scope] = []

    async def app(scope, receive, send):
        called.append(scope)

    async with Worker(app) as worker:
        worker.on_call(cancel)
        client = await worker.connect(request())
        response = await client.response()

        assert (status, True) == (response.status, response.closes)
        assert b"" == await client.rest()
        assert [] == called
        assert {"STARTED": 1, "ACCEPTED": 1, f"GET {status}": 1} == {
            name: count for name, count in worker.counts.items() if name != "RESPONSE_BYTES"
        }


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_response_of_the_server_is_counted(method):
    """The access log and the board have its body bytes: none for HEAD."""

    async def app(scope, receive, send):
        raise ValueError

    async with served(app, request(method)) as (worker, client):
        response = await client.response(method)

        assert ("HEAD" == method) == (b"" == response.body)
        assert [(500, len(response.body))] == [(status, size) for _, _, status, size, _ in worker.access_entries]
        assert len(response.body) == worker.counts.get("RESPONSE_BYTES", 0)


async def test_the_body_of_a_rejection_is_counted():
    """Only on the board: the access log has no line without a request."""
    async with served(mirror, b"nonsense\r\n\r\n") as (worker, client):
        response = await client.response()

        assert response.body
        assert len(response.body) == worker.counts["RESPONSE_BYTES"]
        assert not worker.access_entries


# -- the cap -----------------------------------------------------------------------------------------------------------


async def test_accepting_stops_at_the_connection_limit():
    async with Worker(mirror, limits={"connections": 2}) as worker:
        first, second = await worker.connect(), await worker.connect()
        assert 1 == worker.paused == worker.counts["LIMIT_REACHED"]
        assert 200 == (await second.get()).status
        first.close()
        await until(lambda: 0 == worker.paused)
        await worker.connect()

        assert 1 == worker.paused
        assert 2 == worker.counts["LIMIT_REACHED"]
        assert 3 == worker.counts["ACCEPTED"]


@pytest.mark.parametrize("how", ["closes its sending side", "resets"])
async def test_a_client_that_leaves_while_reading_is_paused_is_noticed(how):
    """The loop does not report it then; the ticker polls for it."""
    got: list[str] = []

    async def app(scope, receive, send):
        await body_of(receive)
        got.append((await receive())["type"])

    async with served(app, request("GET", "/long-poll") + request("GET", "/behind-it"), tcp=True) as (worker, client):
        await until(lambda: worker.paused_connections, "the second waits")
        if how == "resets":
            client.reset()
        else:
            client.half_close()
        worker.pass_time(1.0)
        await until(lambda: got)

        assert "http.disconnect" == got[0]


async def test_an_application_may_empty_its_scope():
    """The server keeps its own copy of the values that it needs."""

    async def app(scope, receive, send):
        scope.clear()
        await respond(send)

    async with served(app, request("GET", "/", "Connection: close")) as (worker, client):
        assert 200 == (await client.response()).status
        assert b"" == await client.rest()
        assert 1 == worker.counts["GET 200"]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304)])
@pytest.mark.parametrize("leaves", ["after the head", "before it"])
async def test_a_half_close_ends_a_stream_that_has_no_body(method, status, leaves):
    """The response to HEAD, or a 304, writes nothing after its head, so no write could fail."""
    begun, step = asyncio.Event(), asyncio.Event()
    said: list[str] = []

    async def app(scope, receive, send):
        begun.set()
        if leaves == "before it":
            await step.wait()
        await send({"type": "http.response.start", "status": status})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await asyncio.sleep(0)
        except OSError as error:
            said.append(type(error).__name__)

    async with served(app) as (worker, client):
        client.push(request(method, "/"))
        await begun.wait()
        if leaves == "before it":
            client.half_close()
            await until(lambda: client.is_half_closed)
            step.set()
            head = await client.head()
        else:
            head = await client.head()
            client.half_close()
        await until(lambda: worker.counts.get("DISCONNECTS"))
        await turns()
        worker.pass_time(1)
        await until(lambda: not worker.running)

        assert str(status).encode() in head
        assert ["ClientDisconnectedError"] == said
        assert b"" == await client.rest()
        assert not worker.lines


# -- after the last answer ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minor", [0, 1])
async def test_an_unread_response_ends_with_a_reset_if_a_close_would_make_it_whole(minor):
    """HTTP/1.0 has no chunks: the body ends with the connection."""

    async def app(scope, receive, send):
        await begin(send, b"x" * 40_000)
        await send({"type": "http.response.body"})

    async with served(app, send_buffer=4096) as (worker, client):
        transport = client.mocked_transport()
        await client.send(b"GET / HTTP/1.%d\r\nHost: a\r\nConnection: close\r\n\r\n" % minor)
        await until(lambda: client.is_closing)
        worker.pass_time(61)
        await until(lambda: not worker.connections)

        assert 1 == transport.abort.call_count
        assert (minor == 0) == (call("socket") in transport.get_extra_info.call_args_list)


@pytest.mark.parametrize("takes_it", [False, True])
async def test_a_send_that_waits_behind_the_last_one_goes_on(takes_it):
    """Two tasks of an application may send: the last part is queued while the other task still waits."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        part = {"type": "http.response.body", "body": b"x" * 5_000_000, "more_body": True}
        waits = asyncio.create_task(send(part))
        await until(lambda: client.is_writing_paused)
        await send({"type": "http.response.body"})
        await waits

    async with served(app, send_buffer=4096) as (worker, client):
        await client.send(request())
        await until(lambda: client.is_reading_stopped)
        assert worker.running
        if takes_it:
            assert 5_000_000 == len((await client.response()).body)
        else:
            client.close()

        await until(lambda: not worker.running)


async def test_a_client_whose_reading_was_paused_lingers():
    """Its bytes wait in the kernel, so a close would be a reset that discards the response."""
    go = asyncio.Event()

    async with served(pauses_in_response(go), request("POST", "/", body=b"x" * 100_000), tcp=True) as (worker, client):
        await until(lambda: client.is_reading_paused)
        client.push(request())
        worker.start_draining()
        go.set()
        assert b"ab" == (await client.response()).body

        assert b"" == await client.rest()
        assert worker.connections
        worker.pass_time(3)
        await until(lambda: not worker.connections)
