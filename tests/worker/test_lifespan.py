"""Startup and shutdown of applications that support the lifespan protocol, do not support it, or break it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from asgid.errors import BootError
from asgid.log import Log
from asgid.worker.app import startup_watch
from asgid.worker.app.lifespan import Lifespan
from asgid.worker.process.last_words import LastWords
from tests.worker.event_loop import until
from tests.worker.parts import lifespan_task
from tests.worker.recorder import Recorder

COMPLETE = {"type": "lifespan.startup.complete"}
STOPPED = {"type": "lifespan.shutdown.complete"}
#: A SyntaxError without a number as its column: the traceback module cannot format it.
UNREADABLE: Any = ("no", ("app.py", 1, "x", "x"))


def replies(*replies: Any, waits: bool = False) -> Any:
    """Return an application that replies to each message that it receives; a reply that is an exception is raised."""

    async def app(scope, receive, send):
        for reply in replies:
            await receive()
            if waits:
                await asyncio.sleep(0)
            if isinstance(reply, BaseException):
                raise reply
            if reply:
                await send(reply)

    return app


def life(app: Any, mode: Any = "auto") -> tuple[Lifespan, Recorder]:
    log = Recorder()
    return Lifespan(app, mode, cast("Log", log)), log


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_an_application_starts_and_stops(mode, waits):
    lifespan, log = life(replies(COMPLETE, STOPPED, waits=waits), mode)
    await lifespan.startup()
    await lifespan.shutdown(5)

    assert not log.lines


async def test_the_lifespan_state_is_kept_for_requests():
    async def app(scope, receive, send):
        assert ("lifespan", {"version": "3.0", "spec_version": "2.0"}) == (scope["type"], scope["asgi"])
        await receive()
        scope["state"]["pool"] = 7
        await send(COMPLETE)
        await receive()

    lifespan, _ = life(app)
    await lifespan.startup()

    assert {"pool": 7} == lifespan.state
    await lifespan.shutdown(5)


async def _refuses(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError(scope["type"])


async def _ignores(scope: Any, receive: Any, send: Any) -> None:
    pass


@pytest.mark.parametrize("app", [_refuses, _ignores], ids=["raises", "returns"])
async def test_auto_serves_an_application_without_lifespan(app):
    lifespan, log = life(app)
    await lifespan.startup()
    await lifespan.shutdown(5)

    assert lifespan.state is None
    assert ["debug"] == [line.level for line in log.lines]


@pytest.mark.parametrize("app", [_refuses, _ignores], ids=["raises", "returns"])
async def test_on_fails_the_boot_of_an_application_without_lifespan(app):
    lifespan, _ = life(app, "on")
    with pytest.raises(BootError, match=r"^lifespan startup failed: "):
        await lifespan.startup()


async def test_off_does_not_call_the_application():
    lifespan, log = life(None, "off")
    await lifespan.startup()
    await lifespan.shutdown(5)

    assert lifespan.state is None
    assert not log.lines


FAILS_TO_START = {
    "sends startup.failed": ({"type": "lifespan.startup.failed", "message": "no database"}, "no database"),
    "sends startup.failed without a reason": ({"type": "lifespan.startup.failed"}, "no reason"),
    "exits": (SystemExit(3), "SystemExit: 3"),
    "raises CancelledError": (asyncio.CancelledError("no"), "CancelledError"),
    "raises a BaseException": (BaseException("no database"), "BaseException: no database"),
    "returns": (None, "returned before it sent lifespan.startup.complete"),
}
#: Exceptions in a startup; with `auto` such an application counts as one without a lifespan.
RAISES_AT_ITS_START = {
    "an assertion": (AssertionError("http only"), "AssertionError: http only"),
    "an error": (ValueError("no database"), "ValueError: no database"),
    "an error that cannot be formatted": (SyntaxError(*UNREADABLE), "SyntaxError"),
    "an error of send()": (STOPPED, "not expected while the lifespan is starting"),
}


@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize("case", FAILS_TO_START.values(), ids=FAILS_TO_START.keys())
async def test_a_failed_startup_has_its_reason(case, mode):
    """In every mode: the application sends startup.failed or exits its process."""
    reply, why = case
    lifespan, _ = life(replies(reply), mode)
    with pytest.raises(BootError, match=why):
        await lifespan.startup()


@pytest.mark.parametrize("case", RAISES_AT_ITS_START.values(), ids=RAISES_AT_ITS_START.keys())
async def test_on_fails_the_boot_of_an_application_that_raises_in_its_startup(case):
    reply, why = case
    lifespan, _ = life(replies(reply), "on")
    with pytest.raises(BootError, match=why):
        await lifespan.startup()


@pytest.mark.parametrize("case", RAISES_AT_ITS_START.values(), ids=RAISES_AT_ITS_START.keys())
async def test_auto_serves_an_application_that_raises_in_its_startup(case):
    """The server must continue without lifespan events (ASGI, "Lifespan Protocol"). One warning has the traceback."""
    reply, why = case
    lifespan, log = life(replies(reply))
    await lifespan.startup()
    lost: list[str] = []
    lifespan.watch(lost.append)
    await lifespan.shutdown(5)

    (line,) = log.lines
    assert lifespan.state is None
    assert "warning" == line.level
    assert why in str(line.fields["stack"])
    assert 'app.lifespan = "on"' in str(line.fields["hint"])
    assert not lost


async def test_a_startup_that_fails_and_raises_is_reported_once():
    """Frameworks do both; the reason is that of the message."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise ValueError("no database")

    lifespan, log = life(app)
    with pytest.raises(BootError, match="no database") as caught:
        await lifespan.startup()

    assert isinstance(caught.value.__cause__, ValueError)
    assert not [line for line in log.lines if line.level == "error"]


async def test_the_last_line_of_a_traceback_is_the_reason():
    """Starlette sends a whole traceback as its message; the log shows the other lines below."""
    reason = "Traceback (most recent call last):\n  File ...\nValueError: no database\n"
    lifespan, _ = life(replies({"type": "lifespan.startup.failed", "message": reason}))
    with pytest.raises(BootError, match=r"^lifespan startup failed: ValueError: no database$") as caught:
        await lifespan.startup()

    assert caught.value.story == reason


# Where a startup waits


async def connects() -> None:
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def resources() -> AsyncIterator[None]:
    await connects()
    yield


async def in_itself() -> None:
    await connects()


async def in_a_context() -> None:
    async with resources():
        pass


async def in_a_task() -> None:
    await asyncio.create_task(connects())


async def in_gathered_tasks() -> None:
    await asyncio.gather(asyncio.sleep(0), in_a_context())


async def in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(in_a_task())


async def in_a_wait() -> None:
    await asyncio.wait([asyncio.create_task(connects())])


async def in_a_timeout() -> None:
    await asyncio.wait_for(connects(), 60)


@pytest.mark.parametrize(
    "wait", [in_itself, in_a_context, in_a_task, in_gathered_tasks, in_a_group, in_a_wait, in_a_timeout]
)
async def test_the_stack_of_a_startup_ends_where_it_waits(wait):
    """It leads through async generators and awaited tasks."""

    async def app(scope, receive, send):
        await receive()
        await wait()

    lifespan, _ = life(app)
    starting = asyncio.create_task(lifespan.startup())
    await until(lambda: "await asyncio.Event().wait()" in lifespan.stack())
    stack = lifespan.stack()
    starting.cancel()

    assert f"in {wait.__name__}\n" in stack
    assert stack.index(f"in {wait.__name__}\n") < stack.index("in connects\n    await asyncio.Event().wait()\n")
    assert "asgid/worker/" not in stack


async def test_a_slow_startup_is_logged_once_and_leaves_its_stack(monkeypatch):
    """The log shows where it waits. The file of last words has the same stack until the startup goes on."""
    monkeypatch.setattr(startup_watch, "LOG_AFTER_S", 0.02)
    log = Recorder()
    words = os.memfd_create("asgid-last-words")
    write = LastWords(words).write
    stacks = [f'  File "app.py", line {number}, in app\n' for number in range(1, 6)]
    watch = asyncio.create_task(startup_watch.watch(lambda: stacks[0], cast("Log", log), write, boot_s=0.04))
    await until(lambda: log.lines)
    first, stacks[0] = stacks[0], "  File of another line\n"
    await until(lambda: stacks[0].encode() in os.pread(words, 1000, 0))
    kept = os.pread(words, 1000, 0)
    os.write(words, b"Fatal Python error: Aborted")
    after = os.pread(words, 1000, 0)
    watch.cancel()
    await asyncio.wait([watch])
    left = os.pread(words, 1000, 0)
    os.close(words)

    assert [("startup waits", first)] == [(line.event, line.fields["stack"]) for line in log.lines]
    assert kept.startswith(b"the startup waits here:\n  File of another line\n")
    assert after.endswith(b"another line\n\nFatal Python error: Aborted")
    assert b"" == left


FAILS_TO_STOP = {
    "sends startup.failed": ({"type": "lifespan.shutdown.failed", "message": "lost a file"}, "lost a file"),
    "raises": (ValueError("lost a file"), "ValueError: lost a file"),
    "exits": (SystemExit(3), "SystemExit: 3"),
    "raises an error that cannot be formatted": (SyntaxError(*UNREADABLE), "SyntaxError: no (app.py, line 1)"),
}


@pytest.mark.parametrize("case", FAILS_TO_STOP.values(), ids=FAILS_TO_STOP.keys())
async def test_a_failed_shutdown_is_logged(case):
    reply, why = case
    lifespan, log = life(replies(COMPLETE, reply))
    await lifespan.startup()
    await lifespan.shutdown(5)

    assert [why] == [line.fields["problem"] for line in log.lines if line.event == "lifespan shutdown failed"]


async def test_an_endless_shutdown_is_cancelled():
    cancelled: list[bool] = []

    async def app(scope, receive, send):
        await receive()
        await send(COMPLETE)
        await receive()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    lifespan, log = life(app)
    await lifespan.startup()
    await lifespan.shutdown(0.01)

    assert [True] == cancelled
    assert ["lifespan shutdown did not end in time"] == [line.event for line in log.lines]
    assert "await asyncio.Event().wait()" in str(log.lines[0].fields["stack"])


async def test_an_application_may_return_after_its_startup():
    lifespan, log = life(replies(COMPLETE))
    await lifespan.startup()
    await until(lambda: lifespan_task(lifespan).done())
    await lifespan.shutdown(5)

    assert not log.lines


async def test_an_application_that_receives_after_its_shutdown_is_cancelled():
    lifespan, log = life(replies(COMPLETE, STOPPED, None))
    await lifespan.startup()
    await lifespan.shutdown(5)

    assert lifespan_task(lifespan).cancelled()
    assert not log.lines


@pytest.mark.parametrize("is_early", [False, True])
@pytest.mark.parametrize("cancels", [False, True])
async def test_a_lifespan_that_ends_early_is_logged_and_reported(cancels, is_early):
    """Its resources for requests are gone. It may end before the worker watches it, or by a cancellation."""
    end = asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        await send(COMPLETE)
        await end.wait()
        raise asyncio.CancelledError("no more") if cancels else RuntimeError("no more")

    losses: list[str] = []
    lifespan, log = life(app)
    await lifespan.startup()
    for is_now in (is_early, not is_early):
        if is_now:
            end.set()
            await until(lambda: lifespan_task(lifespan).done())
        else:
            lifespan.watch(losses.append)
    await lifespan.shutdown(5)

    assert len(losses) == 1
    assert losses[0].startswith("the application's lifespan ended while it served: ")
    assert losses[0].endswith("Error: no more")
    assert ["application failed in its lifespan"] == [line.event for line in log.lines]


async def test_a_task_that_cancels_all_others_ends_the_lifespan():
    """The application has no task left for a shutdown."""
    losses: list[str] = []
    lifespan, _ = life(replies(COMPLETE, STOPPED))
    await lifespan.startup()
    lifespan.watch(losses.append)
    lifespan_task(lifespan).cancel()
    await until(lambda: lifespan_task(lifespan).done())

    assert len(losses) == 1


async def test_a_cancellation_after_the_worker_has_ended_is_not_a_failure():
    """A worker that ends without a drain cancels the tasks that are left; the application did nothing wrong."""
    losses: list[str] = []
    lifespan, log = life(replies(COMPLETE, STOPPED))

    async def serve() -> None:
        await lifespan.startup()
        lifespan.watch(losses.append)

    await asyncio.create_task(serve())
    lifespan_task(lifespan).cancel()
    await until(lambda: lifespan_task(lifespan).done())

    assert not losses
    assert not log.lines
