"""The order in which a draining worker closes: each client that was accepted gets its response."""

import asyncio
import time
from unittest.mock import patch

import pytest

from asgid import wire
from asgid.worker.process.drain import Drain
from tests.worker.apps import echo, mirror, mirrored, respond, responds
from tests.worker.client import Client, request
from tests.worker.event_loop import turns, until
from tests.worker.parts import NoListeners
from tests.worker.peer import connect
from tests.worker.recorder import Recorder
from tests.worker.worker import Worker, served


async def mirror_or_echo(scope, receive, send):
    """Serve both kinds of requests."""
    await (mirror if scope["type"] == "http" else echo)(scope, receive, send)


class LateClient(NoListeners):
    """An acceptor with one more client in its queue, accepted after another client has gone."""

    def __init__(self, worker: Worker, leaver: Client) -> None:
        super().__init__(worker.context.loop, Recorder(), worker.row)
        self._worker, self._leaver = worker, leaver
        self.late: Client | None = None

    async def stop(self) -> None:
        self._leaver.close()
        await until(lambda: not self._worker.connections)
        self.late = await self._worker.connect()


async def test_a_drain_waits_for_clients_from_the_queue():
    async with Worker(mirror) as worker:
        hall = LateClient(worker, await worker.connect())
        drain = worker.drain(hall)
        drain.order(wire.Drain(grace_s=30.0, linger_s=30.0))
        running = asyncio.ensure_future(drain.run())
        await until(lambda: hall.late)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not running.done()

        assert hall.late
        response = await hall.late.get("/late")
        hall.late.close()  # else the drain lingers to the end of its grace
        await running

        assert (mirrored("GET", "/late"), True) == (response.body, response.closes)


async def test_a_drain_waits_for_work_after_a_response_whose_client_has_gone():
    end = asyncio.Event()

    async def app(scope, receive, send):
        await respond(send)
        await end.wait()

    async with served(app, request()) as (worker, client):
        assert 200 == (await client.response()).status
        client.close()
        await until(lambda: not worker.connections)
        _, running = await _draining(worker, 0.0)

        assert not running.done()
        end.set()
        await running


async def test_an_uncancellable_application_does_not_keep_the_worker_until_abort():
    """ABRT comes after half of `timeouts.kill`; cancelled applications have an eighth of it, the lifespan the rest."""
    end = asyncio.Event()

    async def deaf(scope, receive, send):
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    async with served(deaf, timeouts={"kill": "200ms"}) as (worker, client):
        client.push(request())
        await until(lambda: worker.running)
        drain = worker.drain()
        drain.order(wire.Drain(grace_s=0.0, linger_s=0.0))
        timeouts: list[float | None] = []
        with patch("asgid.worker.process.drain.asyncio.timeout", wraps=asyncio.timeout) as timeout:
            await drain.run()
            timeouts += [call.args[0] for call in timeout.call_args_list]
        end.set()

        assert 0.025 == timeouts[-1]
        assert ["applications did not end when cancelled"] == [line.event for line in worker.lines]


class _EndlessQueue(NoListeners):
    """An acceptor with an endless queue."""

    async def stop(self) -> None:
        await asyncio.Event().wait()


async def test_an_endless_queue_does_not_keep_the_worker_beyond_its_grace():
    """ABRT would abort the running requests and the shutdown of the lifespan."""
    cancelled: list[bool] = []

    async def app(scope, receive, send):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    async with served(app) as (worker, client):
        client.push(request())
        await until(lambda: worker.running)
        drain = worker.drain(_EndlessQueue(worker.context.loop, Recorder(), worker.row))
        drain.order(wire.Drain(grace_s=0.01, linger_s=0.0))
        await asyncio.wait_for(drain.run(), 10)

        assert [True] == cancelled
        assert 503 == (await client.response()).status


async def _draining(worker: Worker, linger_s: float) -> tuple[Drain, asyncio.Future[None]]:
    drain = worker.drain()
    drain.order(wire.Drain(grace_s=30.0, linger_s=linger_s))
    running = asyncio.ensure_future(drain.run())
    await turns()
    return drain, running


async def test_a_drain_moves_all_connections_of_a_browser_together():
    """Its page, requested again after the WebSocket closes, must not reach the old worker by an idle connection."""
    async with served(mirror_or_echo) as (worker, idle):
        await idle.get()
        peer = await connect(worker, "/")
        drain, running = await _draining(worker, 30.0)
        await peer.send("still here")
        assert "still here" == await peer.message()
        assert idle.is_open

        drain.order(wire.Drain(grace_s=30.0, linger_s=0.0))
        assert (1012, "service restart") == await peer.closed()
        assert b"" == await idle.rest()
        await running


@pytest.mark.parametrize("leaves", [False, True], ids=["alone", "after the others have left"])
async def test_websockets_do_not_linger_without_idle_connections(leaves):
    async with served(mirror_or_echo) as (worker, idle):
        if not leaves:
            idle.close()
        peer = await connect(worker, "/")
        await until(lambda: leaves or len(worker.connections) == 1)
        _, running = await _draining(worker, 30.0)
        if leaves:
            idle.close()

        assert (1012, "service restart") == await peer.closed()
        await running


async def test_a_request_that_arrived_during_a_stall_is_served_after_the_linger():
    """It came on an idle connection in time; the timer runs before the worker reads."""
    async with served(mirror) as (worker, client):
        await client.get()
        _, running = await _draining(worker, 0.2)
        client.push(request("GET", "/late"))
        time.sleep(0.25)  # noqa: ASYNC251 - the loop stands still: that is what the test is about
        response = await client.response()
        client.close()
        await running

        assert (mirrored("GET", "/late"), True) == (response.body, response.closes)


async def test_an_unread_body_does_not_delay_a_drain():
    """The response was sent, and the client may go on sending for hours."""
    async with Worker(responds()) as worker:
        client = await worker.connect(request("POST", "/", "Content-Length: 200000"), b"x" * 1000)
        assert 200 == (await client.response()).status
        _, running = await _draining(worker, 0.0)
        assert b"" == await client.rest()
        worker.pass_time(3)
        await running
