"""A worker leaves: the order in which it lets go, so that whoever has come in is answered."""

import asyncio
from unittest.mock import patch

from asgid import wire
from asgid.worker.drain import Drain
from asgid.worker.listen import Doors
from tests.worker.harness import Client, Worker, on_a_loop, request, tell, told, until


class Hall(Doors):
    """Doors whose queue holds one more client, who comes in after another has gone."""

    def __init__(self, worker: Worker, leaver: Client) -> None:
        super().__init__(worker.service.loop, [], lambda _: asyncio.Protocol(), worker.service.log)
        self._worker, self._leaver = worker, leaver
        self.late: Client | None = None

    async def leave(self) -> None:
        self._leaver.close()
        await until(lambda: not self._worker.service.connections)
        self.late = await self._worker.connect()


@on_a_loop
async def test_who_goes_while_the_queue_is_emptied_is_not_the_last():
    """The drain does not end because nobody was there for a moment: the queue brings more."""
    async with Worker(tell) as worker:
        hall = Hall(worker, await worker.connect())
        drain = Drain(worker.service, hall)
        drain.tell(wire.Drain(grace_s=30.0, linger_s=30.0))
        running = asyncio.ensure_future(drain.run())
        await until(lambda: hall.late)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not running.done()

        assert hall.late
        answer = await hall.late.get("/late")
        await running

        assert (told("GET", "/late"), True) == (answer.body, answer.closes)


@on_a_loop
async def test_who_does_not_end_when_cancelled_does_not_keep_the_worker_until_it_is_aborted():
    """ABRT comes after half of `timeouts.kill`, and the lifespan's shutdown is still to be run before it."""
    end = asyncio.Event()

    async def deaf(scope, receive, send):
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    async with Worker(deaf, timeouts={"kill": "200ms"}) as worker:
        client = await worker.connect()
        client.push(request())
        await until(lambda: worker.service.running)
        drain = Drain(worker.service, Doors(worker.service.loop, [], lambda _: asyncio.Protocol(), worker.service.log))
        drain.tell(wire.Drain(grace_s=0.0, linger_s=0.0))
        timeouts: list[float | None] = []
        with patch("asgid.worker.drain.asyncio.timeout", wraps=asyncio.timeout) as timeout:
            await drain.run()
            timeouts += [call.args[0] for call in timeout.call_args_list]
        end.set()

        assert 0.05 == timeouts[-1]
        assert ["applications did not end when cancelled"] == [line.event for line in worker.lines]
