"""Each phase of a connection has one deadline; the worker ends an overdue connection, responds if that helps, and
counts it.
"""

import asyncio
from contextlib import suppress
from unittest.mock import patch

import h11
import pytest

from asgid.board import HEARTBEAT_NS
from asgid.worker.net.lingering_close import MAX_LINGER_S
from tests.worker.apps import after, begin, body_of, mirror, mirror_later, mirrored, never_returns, respond, responds
from tests.worker.client import Client, request
from tests.worker.event_loop import turns, until
from tests.worker.worker import Worker, served


async def test_a_silent_client_is_closed_without_a_response():
    async with served(mirror) as (worker, client):
        worker.pass_time(9)
        assert worker.connections
        worker.pass_time(2)

        assert b"" == await client.rest()
        assert 1 == worker.counts["timeout header"]


async def test_a_head_has_one_deadline_from_its_first_byte():
    async with served(mirror) as (worker, client):
        for piece in (b"GET / ", b"HTTP/1.1\r\n", b"Host: a\r\n"):
            await client.send(piece)
            worker.pass_time(3)
        worker.pass_time(2)
        response = await client.response()

        assert (408, True) == (response.status, response.closes)
        assert b"" == await client.rest()
        assert 1 == worker.counts["timeout header"]
        assert not [cell for cell in worker.counts if cell.startswith("error")]


async def test_each_head_has_its_own_deadline():
    """It begins with the first byte after the idle time."""
    async with served(mirror) as (worker, client):
        await client.get("/a")
        worker.pass_time(70)
        await client.send(b"GET /b HTTP/1.1\r\n")
        worker.pass_time(8)
        await client.send(b"Host: a\r\n\r\n")
        assert mirrored("GET", "/b") == (await client.response()).body

        await client.send(b"GET /c HTTP/1.1\r\n")
        worker.pass_time(11)
        assert 408 == (await client.response()).status


async def test_each_part_of_a_body_extends_the_deadline():
    """A body that stops gets a 408, and the application receives a disconnect."""
    told_app: list[str] = []

    async def app(scope, receive, send):
        while (message := await receive())["type"] == "http.request":
            pass
        told_app.append(message["type"])

    async with served(app, request("POST", "/", "Content-Length: 100")) as (worker, client):
        for _ in range(5):
            await client.send(b"x")
            worker.pass_time(50)
        assert not told_app
        worker.pass_time(11)

        assert 408 == (await client.response()).status
        await until(lambda: ["http.disconnect"] == told_app)
        assert 1 == worker.counts["timeout body"]


async def test_a_body_behind_another_request_has_the_same_deadline():
    """The deadline begins with the turn of its request."""
    async with Worker(mirror_later) as worker:
        client = await worker.connect(request("GET", "/a") + request("POST", "/b", "Content-Length: 100"))
        assert mirrored("GET", "/a") == (await client.response()).body
        await until(lambda: worker.counts["STARTED"] == 2)
        worker.pass_time(61)

        assert 408 == (await client.response()).status
        assert 1 == worker.counts["timeout body"]


async def test_a_body_after_its_response_has_the_same_deadline():
    """The response was sent, so the worker closes in silence."""
    async with Worker(responds()) as worker:
        client = await worker.connect(request("POST", "/", "Content-Length: 100"))
        assert 200 == (await client.response()).status
        worker.pass_time(61)

        assert b"" == await client.rest()
        assert 1 == worker.counts["timeout body"]


async def test_an_idle_connection_is_closed_in_silence():
    """The client may just send a request, and would take a 408 for its response."""
    async with served(mirror) as (worker, client):
        await client.get()
        worker.pass_time(74)
        assert worker.connections
        worker.pass_time(2)

        assert b"" == await client.rest()
        assert 1 == worker.counts["timeout keep_alive"]


@pytest.mark.parametrize("takes_something", [False, True])
async def test_a_client_that_reads_nothing_is_aborted(takes_something):
    """A client that reads anything within the time gets the whole time again."""
    async with served(responds(b"x" * 5_000_000), request(), send_buffer=4096) as (worker, client):
        await until(lambda: client.is_writing_paused)
        if takes_something:
            before = client.unsent_bytes
            await client.exactly(600_000)
            await until(lambda: client.unsent_bytes < before)
        worker.pass_time(61)

        assert takes_something == bool(worker.connections and not client.is_reading_stopped)
        assert worker.counts.get("timeout write", 0) == (not takes_something)
        if takes_something:
            worker.pass_time(61)
            assert 1 == worker.counts["timeout write"]


async def test_a_client_that_reads_no_small_response_is_aborted_after_the_close():
    """Writing does not pause for so few bytes, so the closing transport would wait forever."""

    async def app(scope, receive, send):
        await respond(send, b"x" * 40_000)

    async with served(app, request("GET", "/", "Connection: close"), send_buffer=4096) as (worker, client):
        await until(lambda: client.is_closing)
        assert not client.is_writing_paused
        assert client.unsent_bytes
        worker.pass_time(61)

        await until(lambda: not worker.connections)
        assert 1 == worker.counts["timeout write"]


@pytest.mark.parametrize("takes_it", [False, True])
async def test_a_client_that_reads_the_last_response_slowly_may_still_half_close(takes_it):
    """The client has `timeouts.write` to read it, and then the usual two seconds to close."""

    async def app(scope, receive, send):
        await respond(send, b"x" * 40_000, headers=[(b"connection", b"close")])

    async with served(app, request(), send_buffer=4096) as (worker, client):
        await until(lambda: client.is_reading_stopped)
        worker.pass_time(59)
        assert worker.connections
        if takes_it:
            assert 40_000 == len((await client.response()).body)
            worker.pass_time(2)
            assert worker.connections
        worker.pass_time(3)

        await until(lambda: not worker.connections)
        assert worker.counts.get("timeout write", 0) == (not takes_it)


async def test_pipelined_requests_do_not_extend_the_write_deadline():
    """A client that sends requests and never reads is aborted like any other."""
    async with served(responds(b"x" * 300_000), request(), send_buffer=4096) as (worker, client):
        await until(lambda: client.is_writing_paused)
        worker.pass_time(50)
        client.push(request())
        for _ in range(20):
            await asyncio.sleep(0)
        worker.pass_time(11)

        await until(lambda: not worker.connections)
        assert 1 == worker.counts["timeout write"]


async def test_an_overdue_request_gets_a_504():
    """Its application is cancelled, and no failure is logged."""
    cancelled = asyncio.Event()

    async def app(scope, receive, send):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with served(app, request(), timeouts={"request": "3s"}) as (worker, client):
        await until(lambda: worker.running)
        worker.pass_time(4)

        assert 504 == (await client.response()).status
        assert b"" == await client.rest()
        assert cancelled.is_set()
        assert 1 == worker.counts["timeout request"] == worker.counts["GET 504"]
        assert not worker.counts.get("EXCEPTIONS")
        assert 1 == len(worker.access_entries)


@pytest.mark.parametrize("trickle", [False, True], ids=["a stream", "a body that trickles"])
async def test_the_request_timeout_covers_body_and_response(trickle):
    """Neither a moving body nor a response that has begun extends it."""

    async def app(scope, receive, send):
        if trickle:
            await body_of(receive)
        await begin(send, b"x")
        await asyncio.Event().wait()

    async with Worker(app, timeouts={"request": "30s"}) as worker:
        client = await worker.connect(request("POST", "/", "Content-Length: 1000") if trickle else request())
        for _ in range(4):
            if trickle:
                await client.send(b"x")
            worker.pass_time(10)

        assert 1 == worker.counts["timeout request"]
        if trickle:
            assert 504 == (await client.response()).status
        else:
            with pytest.raises(h11.RemoteProtocolError):
                await client.response()


async def test_the_next_head_does_not_hide_an_overdue_request():
    """The deadline of the running request stays."""
    async with Worker(never_returns, timeouts={"request": "30s", "header": "10s"}) as worker:
        client = await worker.connect(request(), b"GET / HT")
        worker.pass_time(11)
        assert not worker.counts.get("timeout header")
        worker.pass_time(20)

        assert 504 == (await client.response()).status


async def test_a_head_that_waited_behind_a_request_gets_its_deadline_afterwards():
    """Half a head does not keep a connection forever."""
    go = asyncio.Event()

    async with served(after(go), request(), b"GET / HT") as (worker, client):
        go.set()
        assert 200 == (await client.response()).status
        worker.pass_time(11)

        assert 408 == (await client.response()).status
        assert 1 == worker.counts["timeout header"]


async def test_the_request_timeout_begins_after_the_queue():
    """`timeouts.request` begins with the call of the application, even if the body ends before."""
    go = asyncio.Event()

    async def app(scope, receive, send):
        await go.wait()
        await respond(send, await body_of(receive))

    async with Worker(app, timeouts={"request": "30s"}) as worker:
        worker.limit_requests(1, 1, 100.0)
        first, second = await worker.connect(), await worker.connect()
        await first.send(request())
        await second.send(request("POST", "/", "Content-Length: 2") + b"a", b"b")
        worker.pass_time(29)
        assert not worker.counts.get("timeout request")
        go.set()

        assert (200, b"") == ((response := await first.response()).status, response.body)
        assert (200, b"ab") == ((response := await second.response()).status, response.body)


async def test_a_timeout_that_is_off_never_ends():
    """Each of them may be `off`."""
    phases = ("header", "body", "write", "keep_alive", "request")
    async with served(mirror, timeouts=dict.fromkeys(phases, "off")) as (worker, client):
        worker.pass_time(1e6)
        await client.send(b"GET / HTTP/1.1\r\n")
        worker.pass_time(1e6)
        await client.send(b"Host: a\r\n\r\n")
        await client.response()
        worker.pass_time(1e6)

        assert 200 == (await client.get()).status


async def test_a_rejected_client_lingers_for_a_bounded_time():
    """It may go on sending; then the connection ends."""
    async with served(mirror, b"nonsense\r\n\r\n") as (worker, client):
        assert 400 == (await client.response()).status
        await client.send(b"x" * 1000)
        assert worker.connections
        worker.pass_time(3)

        await until(lambda: not worker.connections)


@pytest.mark.parametrize("why", ["the application", "an error", "a drain"])
async def test_a_client_that_cannot_know_of_the_close_lingers(why):
    """Its next request may be on its way, and a close would answer it with a reset that discards the response."""

    async def app(scope, receive, send):
        assert why != "an error"
        await respond(send, b"last", headers=[(b"connection", b"close")] if why == "the application" else [])

    async with Worker(app) as worker:
        if why == "a drain":
            worker.start_draining()
        client, other = await worker.connect_tcp(), await worker.connect_tcp()
        await client.send(request())
        await until(lambda: client.is_reading_stopped)
        await client.send(request())
        assert (await client.response()).closes
        assert b"" == await client.rest()
        is_lingering = len(worker.connections) == 2
        await other.send(request("GET", "/", "Connection: close"))
        await until(lambda: len(worker.connections) == 1)
        assert is_lingering
        worker.pass_time(3)

        await until(lambda: not worker.connections)


@pytest.mark.parametrize("is_draining", [False, True])
async def test_an_upload_that_got_its_response_lingers_while_it_moves(is_draining):
    """Such a client sends all before it reads; a reset would discard the response. A drain does not wait for it."""
    async with Worker(responds(headers=[(b"connection", b"close")])) as worker:
        client = await worker.connect(request("POST", "/", "Content-Length: 1000000"))
        await until(lambda: client.is_reading_stopped)
        if is_draining:
            worker.start_draining()
        seconds = 0.0
        while worker.connections and seconds < 100:
            with suppress(ConnectionError):
                client.push(b"x" * 1000)
            await turns()
            worker.pass_time(1.9)
            await turns()
            seconds += 1.9

        assert (seconds < 4) if is_draining else (MAX_LINGER_S - 4 < seconds < MAX_LINGER_S + 4)
        if is_draining:
            assert 200 == (await client.response()).status


async def test_of_many_slow_requests_ten_are_logged_with_a_stack():
    """To format the stacks of thousands would block the loop; the others are counted."""
    go = asyncio.Event()

    async def dawdle(scope, receive, send):
        await go.wait()
        await respond(send)

    async with Worker(dawdle) as worker:
        clients = [await worker.connect() for _ in range(13)]
        for client in clients:
            await client.send(request())
        await until(lambda: 13 == len(worker.running))
        worker.pass_time(6)
        worker.pass_time(6)

        assert ["slow request"] * 10 + ["more slow requests"] == [line.event for line in worker.lines]
        assert 3 == worker.lines[-1].fields["count"]
        assert 13 == worker.counts["SLOW"]
        go.set()


async def test_many_overdue_connections_end_in_several_turns():
    """Thousands of clients that miss a deadline at once do not block the loop."""
    async with Worker(mirror) as worker:
        clients = [await worker.connect() for _ in range(40)]
        for client in clients:
            await client.send(b"GET / HT")
        worker.clock.look_s = 0.002
        worker.pass_time(10)
        ended = sum(client.is_reading_stopped for client in clients)
        worker.clock.look_s = 0.0

        assert 0 < ended < 40
        await until(lambda: all(client.is_reading_stopped for client in clients))
        assert 40 == worker.counts["timeout header"]


async def test_a_slow_request_is_logged_once_with_its_stack():
    go = asyncio.Event()

    async def dawdle(scope, receive, send):
        await go.wait()
        await respond(send)

    async with served(dawdle, request("GET", "/slow")) as (worker, client):
        await until(lambda: worker.running)
        for _ in range(3):
            worker.pass_time(6)
        go.set()

        assert 200 == (await client.response()).status
        (line,) = worker.lines
        assert ("warning", "slow request", "/slow") == (line.level, line.event, line.fields["path"])
        assert "dawdle" in str(line.fields["stack"])
        assert 1 == worker.counts["SLOW"]


class _Uncancellable(asyncio.Future[None]):
    """A future that raises when it is cancelled."""

    def cancel(self, msg: object = None) -> bool:
        raise ValueError(msg)


async def test_the_ticker_goes_on_after_an_error():
    """Otherwise the master would soon take the worker for blocked and abort it with all its requests."""
    async with served(mirror, timeouts={"heartbeat": "1s", "blocked": "1s"}) as (worker, client):
        with (
            patch.object(worker.context.connections.limit, "decay", side_effect=ValueError("no")),
            pytest.raises(ValueError, match="no"),
        ):
            worker.pass_time(4)
        beat_ns = worker.row[HEARTBEAT_NS]
        await until(lambda: worker.row[HEARTBEAT_NS] > beat_ns)

        assert 200 == (await client.get("/")).status


async def test_an_application_that_resists_cancellation_gets_a_504():
    """Client and worker go on; the failure is logged, and the application may end later."""
    waits = _Uncancellable()

    async def stay(scope, receive, send):
        await waits

    async with served(stay, request(), timeouts={"request": "3s"}) as (worker, client):
        await until(lambda: worker.running)
        worker.pass_time(4)

        assert 504 == (await client.response()).status
        assert ["application failed"] == [line.event for line in worker.lines if line.level == "error"]
        assert 1 == worker.counts["EXCEPTIONS"]
        waits.set_result(None)
        await until(lambda: not worker.running)


# -- a worker that did not run -----------------------------------------------------------------------------------------


async def _begin_nothing(_client: Client) -> None:
    """Only connect."""


async def _begin_again(client: Client) -> None:
    await client.get()


async def _begin_a_head(client: Client) -> None:
    await client.send(b"GET / HTTP/1.1\r\n")


async def _begin_a_body(client: Client) -> None:
    await client.send(request("POST", "/", "Content-Length: 2") + b"a")


@pytest.mark.parametrize("seconds", [1.5, 11.0, 1000.0])
@pytest.mark.parametrize(
    ("begin", "rest", "body"),
    [
        (_begin_nothing, request(), b""),
        (_begin_again, request(), b""),
        (_begin_a_head, b"Host: a\r\n\r\n", b""),
        (_begin_a_body, b"b", b"ab"),
    ],
    ids=["a first request", "the next request", "the rest of a head", "the rest of a body"],
)
async def test_bytes_that_arrived_during_a_stall_are_read_before_the_deadline(begin, rest, body, seconds):
    """The client sent them in time. This holds after a short stall as well."""
    async with served(mirror, timeouts=dict.fromkeys(("header", "body", "keep_alive"), "1s")) as (worker, client):
        await begin(client)
        client.push(rest)
        worker.stall(seconds)
        response = await client.response()

        assert (200, body) == (response.status, response.body.split(b" ", 2)[2])
        assert not [name for name in worker.counts if name.startswith("timeout")]


@pytest.mark.parametrize(
    ("begin", "phase", "seconds"),
    [
        (_begin_nothing, "header", 10),
        (_begin_a_head, "header", 10),
        (_begin_a_body, "body", 60),
        (_begin_again, "keep_alive", 75),
    ],
    ids=["a first request", "a head", "a body", "keep-alive"],
)
async def test_a_stall_extends_the_deadline_by_its_length(begin, phase, seconds):
    """The client may have waited for the worker; afterwards it has the rest of its time."""
    async with served(mirror) as (worker, client):
        await begin(client)
        worker.pass_time(seconds - 2)
        worker.stall(1000)
        await turns()
        assert client.is_open
        assert not worker.counts.get(f"timeout {phase}")

        worker.pass_time(4)
        assert 1 == worker.counts[f"timeout {phase}"]


async def test_short_stalls_do_not_extend_a_deadline_forever():
    """A client that sends its head byte by byte gains nothing from stalls below a second."""
    async with served(mirror, timeouts={"header": "10s"}) as (worker, client):
        await _begin_a_head(client)
        for _ in range(7):
            await client.send(b"a")
            worker.stall(worker.tick_s + 0.9)
        await turns()

        assert 1 == worker.counts["timeout header"]


async def test_long_stalls_extend_a_deadline_by_a_bounded_time():
    """The time up to the tick that was due still counts."""
    async with served(mirror, timeouts={"header": "10s"}) as (worker, client):
        await _begin_a_head(client)
        for _ in range(int(10 / worker.tick_s) + 2):
            await client.send(b"a")
            worker.stall(30)
        await turns()

        assert 1 == worker.counts["timeout header"]


@pytest.mark.parametrize("stalls", [False, True])
async def test_a_stall_extends_the_request_timeout(stalls):
    """The application could not run while the loop was blocked."""
    async with served(never_returns, request(), timeouts={"request": "30s"}) as (worker, client):
        await until(lambda: worker.running)
        worker.pass_time(28)
        if stalls:
            worker.stall(1000)
            await turns()
        assert not worker.counts.get("timeout request")
        worker.pass_time(3)

        assert 504 == (await client.response()).status


async def test_a_stall_extends_the_queue_timeout():
    """No running request could end meanwhile."""
    go = asyncio.Event()

    async with Worker(after(go)) as worker:
        worker.limit_requests(1, 1, 10.0)
        first, second = await worker.connect(), await worker.connect()
        await first.send(request())
        await second.send(request())
        worker.stall(1000)
        await turns()
        go.set()

        assert [200, 200] == [(await client.response()).status for client in (first, second)]


async def test_a_client_that_read_during_a_stall_is_not_aborted():
    """The worker writes before it looks at the deadline."""
    async with served(responds(b"x" * 3_000_000), request(), send_buffer=4096) as (worker, client):
        await until(lambda: client.is_writing_paused)
        worker.pass_time(59)
        client.take()
        worker.stall(1.9)
        await turns()

        assert not worker.counts.get("timeout write")
        assert client.is_open


async def test_a_client_that_closed_during_a_stall_is_not_reset():
    """Its FIN has arrived before the lingering time ended."""
    async with Worker(responds(headers=[(b"connection", b"close")])) as worker:
        client = await worker.connect_tcp(request())
        await until(lambda: client.is_reading_stopped)
        await client.rest()
        client.close()
        worker.stall(2.5)
        await until(lambda: not worker.connections)
