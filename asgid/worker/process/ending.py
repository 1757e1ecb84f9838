"""Ends a worker after its drain: bounds the time of the application's tasks, threads and exit handlers.

(1) Tasks are cancelled. (2) Asynchronous generators are closed. (3) Threads that are not daemons and jobs of executors
may finish; the loop runs meanwhile, because a job may wait for it. (4) Exit handlers run. A step that exceeds its time
is logged by name. asyncio.Runner does (1) to (3) without a limit, and Python (4).
"""

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain
from time import monotonic
from types import AsyncGeneratorType, FrameType
from weakref import WeakSet

from asgid.log import Log

#: The time that cancelled tasks have to return, within the grace.
TASKS_S = 5.0
_MAX_NAMES = 10
_LIBRARY = os.path.dirname(os.__file__)


def end(loop: asyncio.AbstractEventLoop, until: float, log: Log) -> None:
    """Do (1) to (3), at most until `until` on the clock of time.monotonic(); then close the loop."""
    loop.run_until_complete(_end(loop, until, log))
    with suppress(RuntimeError):  # a task that exceeded its time still runs
        loop.close()


def bound_exit(until: float, log: Log, leave: Callable[[], None]) -> None:
    """Call `leave` at `until`, if exit handlers still run then."""
    main = threading.main_thread()

    def on_deadline() -> None:
        log.warning("exit handlers did not end", where=_place(sys._current_frames().get(main.ident or 0)))  # noqa: SLF001
        leave()

    timer = threading.Timer(max(0.0, until - monotonic()), on_deadline)
    timer.daemon = True
    timer.start()


async def _end(loop: asyncio.AbstractEventLoop, until: float, log: Log) -> None:
    tasks = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in tasks:
        task.cancel()
    tasks_until = min(until, monotonic() + TASKS_S)
    if left := await _wait(tasks, tasks_until):
        log.warning("tasks did not end when cancelled", count=len(left), tasks=_listed(map(_task, left)))
    for task in tasks - left:
        if not task.cancelled() and (error := task.exception()):
            context = {"message": "a task failed when it was cancelled", "exception": error, "task": task}
            loop.call_exception_handler(context)
    generators = _generators(loop)
    closing = loop.create_task(loop.shutdown_asyncgens())
    if await _wait({closing}, tasks_until):
        running = (f"{each.__qualname__} ({_place(each.ag_frame)})" for each in generators if each.ag_running)
        log.warning("asynchronous generators did not end", generators=_listed(running))
    if threads := _threads():
        ended = loop.create_future()
        threading.Thread(target=_join, args=(loop, ended), daemon=True).start()
        await _wait({ended}, until)
        if threads := [thread for thread in threads if thread.is_alive()]:
            log.warning("threads did not end", count=len(threads), threads=_listed(map(_thread, threads)))


async def _wait(futures: "Iterable[asyncio.Future[None]]", until: float) -> "set[asyncio.Future[None]]":
    """Return the futures that are not done by `until`; they get at least one turn of the loop."""
    futures = set(futures)
    if not futures:
        return set()
    _, left = await asyncio.wait(futures, timeout=max(0.0, until - monotonic()))
    return left


def _generators(loop: asyncio.AbstractEventLoop) -> list[AsyncGeneratorType[object, object]]:
    """Return the generators that the loop will close; only the garbage collector finds uvloop's attributes."""
    sets = (part for part in (*vars(loop).values(), *gc.get_referents(loop)) if isinstance(part, WeakSet))
    return [each for each in chain.from_iterable(sets) if isinstance(each, AsyncGeneratorType)]


def _threads() -> list[threading.Thread]:
    """Return the threads that Python waits for at its end."""
    return [each for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()]


def _join(loop: asyncio.AbstractEventLoop, ended: "asyncio.Future[None]") -> None:
    threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001 - as multiprocessing does in its children
    with suppress(RuntimeError):  # the loop is closed already
        loop.call_soon_threadsafe(ended.set_result, None)


def _listed(names: Iterable[str]) -> str:
    return ", ".join([*names][:_MAX_NAMES])


def _task(task: "asyncio.Future[None]") -> str:
    frames = task.get_stack(limit=1) if isinstance(task, asyncio.Task) else []
    name = task.get_name() if isinstance(task, asyncio.Task) else "a future"
    return f"{name} ({_place(frames[0] if frames else None)})"


def _thread(thread: threading.Thread) -> str:
    return f"{thread.name} ({_place(sys._current_frames().get(thread.ident or 0))})"  # noqa: SLF001


def _place(frame: FrameType | None) -> str:
    """Return the innermost place outside the standard library."""
    innermost = frame
    while frame and frame.f_code.co_filename.startswith(_LIBRARY) and "-packages" not in frame.f_code.co_filename:
        frame = frame.f_back
    if not (found := frame or innermost):
        return "nowhere"
    return f"{found.f_code.co_filename}:{found.f_lineno} in {found.f_code.co_qualname}"
