"""The event loop of a test: uvloop, and waits with a deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

import uvloop

T = TypeVar("T")

WITHIN_S = 30.0  #: max time of any wait; it only ends a test that would hang


def run(test: Coroutine[object, object, None]) -> None:
    """Run a test that is async. TimeoutError after some waits."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(within(3 * WITHIN_S, test))


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Return the result of `work`. TimeoutError after `seconds`."""
    # asyncio.wait_for of Python 3.11 takes two more turns of the loop for each await: the clients would wait longer.
    async with asyncio.timeout(seconds):
        return await work


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
