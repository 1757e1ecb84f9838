"""What is told of an application that failed, or hangs: its error, the way that led to it, and where it waits.

Its objects are its own, and to show one may fail like all that it does. So nothing here raises: what cannot be shown is
named by its type, and by what showing it raised.
"""

import asyncio
import gc
import importlib
import os
import traceback
from asyncio import CancelledError, Future, Task, current_task
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from types import AsyncGeneratorType, CoroutineType, FrameType

#: Where the files of asgid are.
_OURS = __file__.removesuffix("worker/tracebacks.py")

#: How much of an error's message is shown: pydantic's names a field in its second line, and may name all of them.
_SAID_CHARACTERS = 300
#: How much of a traceback is shown. The first cause is at its start and the last error at its end: the middle is cut.
_FIRST_CHARACTERS, _LAST_CHARACTERS = 3000, 9000
#: How many calls of libraries are shown after the application's last call: they name the fault more precisely.
_LIBRARY_CALLS = 3
#: What stands in each traceback of an import, and is not at fault.
_MACHINERY = ("<frozen importlib", os.path.dirname(importlib.__file__), _OURS)
_SKIPPED = "<skipped>"
_STANDARD_LIBRARY = os.path.join(os.path.dirname(os.__file__), "")
#: Calls within calls that are looked at: as many as Python lets wait for each other, and a __getattr__ may invent more.
_DEEPEST = 1000
#: How many of the tasks that a call waits for are shown.
_MOST_TASKS = 5
#: The type of an object that is awaited -> the type of what is behind it.
_BEHIND: Mapping[str, type] = {
    "async_generator_asend": AsyncGeneratorType,
    "async_generator_athrow": AsyncGeneratorType,
    "coroutine_wrapper": CoroutineType,
    "FutureIter": Future,
}
#: Whose frames hold the tasks that they wait for.
_TASK_GROUPS = os.path.join(os.path.dirname(asyncio.__file__), "")


def one_line(error: BaseException) -> str:
    """Return an error in one line."""
    try:
        text = " ".join(str(error).split())
    except BaseException as unreadable:  # noqa: BLE001 - its __str__ is the application's, and may do anything
        text = f"it cannot be shown: {type(unreadable).__name__}"
    if len(text) > _SAID_CHARACTERS:
        text = f"{text[:_SAID_CHARACTERS]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def format_traceback(error: BaseException, ours: int = 0) -> str:
    """Return an error's traceback but for its `ours` outermost frames, which say nothing about the fault."""
    trace = error.__traceback__
    for _ in range(ours):
        trace = trace and trace.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
    except BaseException as unreadable:  # noqa: BLE001 - a SyntaxError whose offset is no number, a __dir__ that exits
        name, why = type(error).__name__, type(unreadable).__name__
        return "".join([*traceback.format_tb(trace), f"{name}, which cannot be shown: {why}"])


@dataclass(frozen=True, slots=True)
class AppFiles:
    """Where the files of an application are: below a directory, or in a package that may be installed as a library."""

    directory: str
    package: str = ""

    @classmethod
    def from_target(cls, target: str) -> "AppFiles":
        """Return the home of the application "module:attribute" in the working directory."""
        try:
            directory = os.getcwd()
        except OSError:  # it was removed
            directory = ""
        return cls(directory, target.partition(":")[0].partition(".")[0])

    def contains(self, file: str) -> bool:
        """Whether a file is in the directory, and not in an environment there, or in the package."""
        is_here = bool(self.directory) and file.startswith(os.path.join(self.directory, ""))
        return self._has_in_package(file) or (is_here and not is_library(file))

    def owns(self, file: str) -> bool:
        """Whether a file is the application's own: in its package, or not a library's."""
        return self._has_in_package(file) or not is_library(file)

    def _has_in_package(self, file: str) -> bool:
        _, installed, rest = file.replace("dist-packages", "site-packages").rpartition(f"site-packages{os.sep}")
        return bool(installed and self.package) and rest.partition(os.sep)[0].removesuffix(".py") == self.package


def is_library(file: str) -> bool:
    """Whether others wrote it. An environment may lie in the working directory, and a frozen module has no file."""
    is_installed = not {"site-packages", "dist-packages"}.isdisjoint(file.split(os.sep))
    return is_installed or file.startswith(("<", _STANDARD_LIBRARY))


def relevant_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of an error's traceback without those of asgid and of Python's import."""
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if not frame.filename.startswith(_MACHINERY)]


def fault_frame(error: BaseException, home: AppFiles) -> traceback.FrameSummary | None:
    """Return the last call of the application's own that led to the error, which a library may have raised: (1) in its
    directory, (2) in what is not a library, (3) in anything.
    """
    frames = relevant_frames(error)
    own = [frame for frame in frames if home.owns(frame.filename)]
    here = [frame for frame in own if home.contains(frame.filename)]
    return next(reversed(here or own or frames), None)


def format_causes(error: BaseException, home: AppFiles) -> str:
    """Return an error with all its causes: of each the application's own calls, and the last calls of libraries.

    Returns "" if there is nothing beyond the error's own words. A long text is cut in its middle.
    """
    try:
        story = traceback.TracebackException.from_exception(error, lookup_lines=False)
        parts = [*_parts(story)]
        for part in parts:
            part.stack = _Shortened.of(part.stack, home)
        is_known = not any(part.stack for part in parts) and len(parts) == 1 and not isinstance(error, SyntaxError)
        return "" if is_known else cut_middle("".join(story.format()).rstrip())
    except BaseException:  # noqa: BLE001 - as in stack_of, which shows what can be shown
        return cut_middle(format_traceback(error))


def cut_middle(text: str, first: int = _FIRST_CHARACTERS, last: int = _LAST_CHARACTERS, around: str = "\n") -> str:
    """Return the first and the last characters of a text, and how many are left out between them."""
    over = len(text) - first - last
    return text if over <= 0 else f"{text[:first]}{around}... {over} characters are left out ...{around}{text[-last:]}"


def _parts(story: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    """Yield an error, and what `format()` shows with it: its cause or else its context, and the errors of a group."""
    yield story
    above = story.__cause__ or (None if story.__suppress_context__ else story.__context__)
    for each in (above, *(story.exceptions or ())):
        if each is not None:
            yield from _parts(each)


class _Shortened(traceback.StackSummary):
    """The frames of one error that are shown, each run of others as one line."""

    @classmethod
    def of(cls, frames: traceback.StackSummary, home: AppFiles) -> "_Shortened":
        told = [frame for frame in frames if not frame.filename.startswith(_MACHINERY)]
        last_own = max((index for index, frame in enumerate(told) if home.owns(frame.filename)), default=-1)
        shown = cls()
        skipped = 0
        for index, frame in enumerate(told):
            if home.owns(frame.filename) or index > max(last_own, len(told) - 1 - _LIBRARY_CALLS):
                if skipped:
                    shown.append(traceback.FrameSummary(_SKIPPED, skipped, "", lookup_line=False, line=""))
                shown.append(frame)
                skipped = 0
            else:
                skipped += 1
        return shown

    def format_frame_summary(self, frame_summary: traceback.FrameSummary, **options: object) -> str:
        if frame_summary.filename == _SKIPPED:
            return f"  ... {frame_summary.lineno} calls in libraries\n"
        return super().format_frame_summary(frame_summary, **options)


def format_thread_stack(frame: FrameType) -> str:
    """Return where a thread stands, from our last call inwards; where that is ourselves, with all that led there.

    What calls an application is the same for all of them: twenty-six of the twenty-seven frames of a handler that
    sleeps, for a worker is forked from within the master's loop.
    """
    frames = [*traceback.walk_stack(frame)]  # the innermost first
    theirs = [*takewhile(lambda step: not step[0].f_code.co_filename.startswith(_OURS), frames)]
    return "".join(traceback.StackSummary.extract(reversed(theirs or frames)).format()).rstrip()


def format_await_chain(call: object) -> str:
    """Return where a coroutine waits, from what it awaits inwards, also in the tasks that it waits for."""
    lines: list[str] = []
    try:
        _follow(call, lines, set())
    except BaseException as unreadable:  # noqa: BLE001 - what is awaited is the application's: its __getattr__, its length
        lines.append(f"  what is awaited there cannot be shown: {type(unreadable).__name__}\n")
    return "".join(lines)


def _follow(call: object, lines: list[str], seen: set[int]) -> None:
    """Append the frames of all that `call` awaits; `seen` are the tasks that were shown."""
    frame = None
    for _ in range(_DEEPEST):
        call = _awaited_by(call)
        if not call or isinstance(call, Future):
            break
        frame = getattr(call, "cr_frame", None) or getattr(call, "gi_frame", None) or getattr(call, "ag_frame", None)
        if frame:
            lines += traceback.format_stack(frame, 1)
    for task in _tasks_of(call, frame):
        coroutine = task.get_coro()
        if id(task) in seen or not isinstance(coroutine, CoroutineType) or coroutine.cr_frame is None:
            continue
        seen.add(id(task))
        lines.append(f"  in the task {task.get_name()}:\n")
        lines += traceback.format_stack(coroutine.cr_frame, 1)
        _follow(coroutine, lines, seen)


def _awaited_by(call: object) -> object:
    """Return what a coroutine or a generator awaits: Task.get_stack() ends at the first frame, which is ours."""
    found = getattr(call, "cr_await", None) or getattr(call, "gi_yieldfrom", None) or getattr(call, "ag_await", None)
    # An async generator, as in `async with`, and a future are awaited by an object of C, from which only gc leads on.
    kind = _BEHIND.get(type(found).__name__)
    return next((each for each in gc.get_referents(found) if isinstance(each, kind)), None) if kind else found


def _tasks_of(future: object, frame: FrameType | None) -> list[Task[object]]:
    """Return the tasks that are waited for, and have not ended: the future itself, those of a gather(), or those that a
    function of asyncio holds, whose `frame` is the innermost.
    """
    if isinstance(future, Task):
        found: Iterable[object] = [future]
    elif isinstance(future, Future) and (children := getattr(future, "_children", None)):
        found = children
    elif frame and frame.f_code.co_filename.startswith(_TASK_GROUPS):
        held = frame.f_locals  # of wait(), of wait_for() before Python 3.12, or of a group's __aexit__()
        found = held.get("fs") or [held.get("fut"), *(getattr(held.get("self"), "_tasks", None) or ())]
    else:
        found = ()
    tasks = [task for task in found if isinstance(task, Task) and not task.done()]
    return sorted(tasks, key=Task.get_name)[:_MOST_TASKS]


def is_in_debugger(frame: "FrameType | None") -> bool:
    """Whether a debugger of Python's family waits for its user somewhere above."""
    while frame:
        if frame.f_globals.get("__name__") in {"pdb", "bdb"}:
            return True
        frame = frame.f_back
    return False


def is_task_cancelled(error: BaseException) -> bool:
    """Whether the task at hand is cancelled or closed; an application may raise what looks like that by itself."""
    if not isinstance(error, CancelledError | GeneratorExit):
        return False
    task = current_task()
    return task is None or task.cancelling() > 0


def is_caused_by_disconnect(error: BaseException | None, above: frozenset[int] = frozenset()) -> bool:
    """Whether an error is what became of ours: frameworks raise their own in its place, and task groups wrap it.

    `above` are those that have led to it.
    """
    while error is not None and id(error) not in above:
        if isinstance(error, OSError):
            return True
        # `raise a from b` after `raise b from a` makes a ring, and `raise group.exceptions[0]` within its `except` too:
        # this must end all the same.
        above |= {id(error)}
        if isinstance(error, BaseExceptionGroup):
            return all(is_caused_by_disconnect(part, above) for part in error.exceptions)
        error = error.__context__ if error.__cause__ is None else error.__cause__
    return False
