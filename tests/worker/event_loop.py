"""The event loop of a test: uvloop, and waits with a deadline."""

import asyncio
import time
from collections.abc import Callable, Coroutine

import uvloop

WITHIN_S = 30.0  #: max time of any wait; it only ends a test that would hang


def run(test: Coroutine[object, object, None]) -> None:
    """Run a test that is async. TimeoutError after some waits."""

    async def bounded() -> None:
        async with asyncio.timeout(3 * WITHIN_S):
            await test

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


async def until(statement: Callable[[], object], what: str = "") -> None:
    """Let the loop turn until `statement` holds. AssertionError after WITHIN_S."""
    give_up = time.monotonic() + WITHIN_S
    while not statement():
        assert time.monotonic() < give_up, f"still not so: {what or statement}"
        await asyncio.sleep(0)


async def turns(number: int = 100) -> None:
    """Let the loop turn often enough for all pending callbacks."""
    for _ in range(number):
        await asyncio.sleep(0)
