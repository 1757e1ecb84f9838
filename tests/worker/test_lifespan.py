"""Startup and shutdown with applications that speak the lifespan protocol, do not, or do it wrong."""

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
from tests.worker.harness import Recorder, lifespan_task, on_a_loop, until

COMPLETE = {"type": "lifespan.startup.complete"}
STOPPED = {"type": "lifespan.shutdown.complete"}
#: Of a SyntaxError whose column is no number: no traceback can be made of it.
UNREADABLE: Any = ("no", ("app.py", 1, "x", "x"))


def speaks(*replies: Any, waits: bool = False) -> Any:
    """Return an application that answers each message it receives; a reply that is an exception is raised."""

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
@on_a_loop
async def test_it_starts_and_stops(mode, waits):
    """Both messages are answered, and nothing is logged."""
    lifespan, log = life(speaks(COMPLETE, STOPPED, waits=waits), mode)
    await lifespan.startup()
    await lifespan.shutdown(5)

    assert not log.lines


@on_a_loop
async def test_its_state_is_left_for_the_requests():
    """What startup puts into the scope's state is there afterwards."""

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
@on_a_loop
async def test_an_application_without_lifespan_is_served_in_auto(app):
    """It has not received anything: it does not speak the protocol."""
    lifespan, log = life(app)
    await lifespan.startup()
    await lifespan.shutdown(5)

    assert lifespan.state is None
    assert ["debug"] == [line.level for line in log.lines]


@pytest.mark.parametrize("app", [_refuses, _ignores], ids=["raises", "returns"])
@on_a_loop
async def test_an_application_without_lifespan_does_not_boot_where_it_must_have_one(app):
    """`on` says that it must."""
    lifespan, _ = life(app, "on")
    with pytest.raises(BootError, match=r"^lifespan startup failed: "):
        await lifespan.startup()


@on_a_loop
async def test_off_asks_nobody():
    """The application is not called."""
    lifespan, log = life(None, "off")
    await lifespan.startup()
    await lifespan.shutdown(5)

    assert lifespan.state is None
    assert not log.lines


FAILS_TO_START = {
    "says so": ({"type": "lifespan.startup.failed", "message": "no database"}, "no database"),
    "says so, without a reason": ({"type": "lifespan.startup.failed"}, "no reason"),
    "exits": (SystemExit(3), "SystemExit: 3"),
    "raises what looks like a cancellation": (asyncio.CancelledError("no"), "CancelledError"),
    "raises what is no Exception": (BaseException("no database"), "BaseException: no database"),
    "returns": (None, "returned before it said lifespan.startup.complete"),
}
#: Exceptions in a startup; `auto` takes such an application for one without a lifespan.
RAISES_AT_ITS_START = {
    "an assertion": (AssertionError("http only"), "AssertionError: http only"),
    "an error": (ValueError("no database"), "ValueError: no database"),
    "what cannot be shown": (SyntaxError(*UNREADABLE), "SyntaxError"),
    "what send() raises": (STOPPED, "not expected while the lifespan is starting"),
}


@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize("case", FAILS_TO_START.values(), ids=FAILS_TO_START.keys())
@on_a_loop
async def test_a_startup_that_fails_says_why(case, mode):
    """What an application answers, or how it ends its process, counts in every mode."""
    reply, why = case
    lifespan, _ = life(speaks(reply), mode)
    with pytest.raises(BootError, match=why):
        await lifespan.startup()


@pytest.mark.parametrize("case", RAISES_AT_ITS_START.values(), ids=RAISES_AT_ITS_START.keys())
@on_a_loop
async def test_an_application_that_raises_at_its_startup_must_not_where_it_must_have_one(case):
    """`on` makes it a failed start."""
    reply, why = case
    lifespan, _ = life(speaks(reply), "on")
    with pytest.raises(BootError, match=why):
        await lifespan.startup()


@pytest.mark.parametrize("case", RAISES_AT_ITS_START.values(), ids=RAISES_AT_ITS_START.keys())
@on_a_loop
async def test_an_application_that_raises_at_its_startup_is_served_in_auto(case):
    """The server must continue without lifespan events (ASGI, "Lifespan Protocol"); one warning has the traceback."""
    reply, why = case
    lifespan, log = life(speaks(reply))
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


@on_a_loop
async def test_who_says_that_it_failed_and_raises_is_quoted_once():
    """Frameworks do both; the reason is the one that it gave."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise ValueError("no database")

    lifespan, log = life(app)
    with pytest.raises(BootError, match="no database") as caught:
        await lifespan.startup()

    assert isinstance(caught.value.__cause__, ValueError)
    assert not [line for line in log.lines if line.level == "error"]


@on_a_loop
async def test_of_a_reason_that_is_a_traceback_the_last_line_is_the_fault():
    """Starlette sends a whole traceback; the other lines are the story below that line."""
    reason = "Traceback (most recent call last):\n  File ...\nValueError: no database\n"
    lifespan, _ = life(speaks({"type": "lifespan.startup.failed", "message": reason}))
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
@on_a_loop
async def test_a_startup_that_waits_has_a_stack_down_to_what_it_awaits(wait):
    """Through async generators and the tasks that it waits for."""

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


@on_a_loop
async def test_a_startup_that_takes_long_is_logged_once_and_leaves_its_stack(monkeypatch):
    """The log states what it awaits, and the last words are that until it goes on."""
    monkeypatch.setattr(startup_watch, "TELLS_AFTER_S", 0.02)
    log = Recorder()
    words = os.memfd_create("asgid-last-words")
    stacks = [f'  File "app.py", line {number}, in app\n' for number in range(1, 6)]
    watch = asyncio.create_task(startup_watch.watch(lambda: stacks[0], cast("Log", log), words, boot_s=0.04))
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


@on_a_loop
async def test_of_a_number_that_is_the_applications_by_now_nothing_is_written(monkeypatch, tmp_path):
    """It may have closed the file of the last words, and opened one of its own."""
    (tmp_path / "its.txt").write_text("its own words")
    with (tmp_path / "its.txt").open("r+") as file:
        watch = asyncio.create_task(
            startup_watch.watch(lambda: "stack", cast("Log", Recorder()), file.fileno(), boot_s=0.01)
        )
        await asyncio.sleep(0.05)
        watch.cancel()
        await asyncio.wait([watch])

    assert "its own words" == (tmp_path / "its.txt").read_text()


FAILS_TO_STOP = {
    "says so": ({"type": "lifespan.shutdown.failed", "message": "lost a file"}, "lost a file"),
    "raises": (ValueError("lost a file"), "ValueError: lost a file"),
    "exits": (SystemExit(3), "SystemExit: 3"),
    "raises what cannot be shown": (SyntaxError(*UNREADABLE), "SyntaxError: no (app.py, line 1)"),
}


@pytest.mark.parametrize("case", FAILS_TO_STOP.values(), ids=FAILS_TO_STOP.keys())
@on_a_loop
async def test_a_shutdown_that_fails_is_logged_and_holds_nothing_up(case):
    """The worker leaves all the same."""
    reply, why = case
    lifespan, log = life(speaks(COMPLETE, reply))
    await lifespan.startup()
    await lifespan.shutdown(5)

    assert [why] == [line.fields["problem"] for line in log.lines if line.event == "lifespan shutdown failed"]


@on_a_loop
async def test_a_shutdown_that_does_not_end_is_cancelled():
    """After its time, with a warning."""
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


@on_a_loop
async def test_an_application_that_ends_after_its_start_is_served():
    """It has nothing to say at the end."""
    lifespan, log = life(speaks(COMPLETE))
    await lifespan.startup()
    await until(lambda: lifespan_task(lifespan).done())
    await lifespan.shutdown(5)

    assert not log.lines


@on_a_loop
async def test_an_application_that_waits_for_more_after_its_end_is_let_go():
    """Nothing follows a shutdown."""
    lifespan, log = life(speaks(COMPLETE, STOPPED, None))
    await lifespan.startup()
    await lifespan.shutdown(5)

    assert lifespan_task(lifespan).cancelled()
    assert not log.lines


@pytest.mark.parametrize("is_early", [False, True])
@pytest.mark.parametrize("cancels", [False, True])
@on_a_loop
async def test_an_end_while_the_worker_serves_is_logged_and_told(cancels, is_early):
    """What the lifespan holds for requests is gone. It may come before anybody watches, or as a cancellation."""
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


@on_a_loop
async def test_a_task_that_cancels_all_others_ends_the_lifespan_too():
    """Nothing of the application is left that could be shut down."""
    losses: list[str] = []
    lifespan, _ = life(speaks(COMPLETE, STOPPED))
    await lifespan.startup()
    lifespan.watch(losses.append)
    lifespan_task(lifespan).cancel()
    await until(lambda: lifespan_task(lifespan).done())

    assert len(losses) == 1
