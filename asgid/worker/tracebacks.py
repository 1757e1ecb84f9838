"""Formats the errors and the stacks of an application for the log: the error, its causes, and where a call waits.

No function here raises an exception. To format an object of the application may run its code, which may raise: the
text then has the types of the object and of the new error.
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

#: The directory of asgid's files.
_OURS = __file__.removesuffix("worker/tracebacks.py")

#: The max length of an error in one line. An error of pydantic names a field in its second line, and may have many.
_MAX_LINE_CHARACTERS = 300
#: A longer traceback keeps these characters at both ends: the first cause is at its start, the last error at its end.
_FIRST_CHARACTERS, _LAST_CHARACTERS = 3000, 9000
#: The number of library calls shown after the application's last call: they locate the fault more precisely.
_LIBRARY_CALLS = 3
#: The files of Python and asgid that import an application: they are in each traceback, and are not the cause.
_IMPORT_MACHINERY = ("<frozen importlib", os.path.dirname(importlib.__file__), _OURS)
_SKIPPED = "<skipped>"
_STANDARD_LIBRARY = os.path.join(os.path.dirname(os.__file__), "")
#: The max depth of awaited calls: Python's own limit. A __getattr__ may invent more.
_MAX_DEPTH = 1000
#: The max number of tasks shown for one call that waits for several.
_MAX_TASKS = 5
#: The type of an awaited wrapper, written in C -> the type of the object in it.
_WRAPPED: Mapping[str, type] = {
    "async_generator_asend": AsyncGeneratorType,
    "async_generator_athrow": AsyncGeneratorType,
    "coroutine_wrapper": CoroutineType,
    "FutureIter": Future,
}
#: The frames of these files have the tasks that they wait for among their variables.
_ASYNCIO = os.path.join(os.path.dirname(asyncio.__file__), "")


def one_line(error: BaseException) -> str:
    """Return the type and the message of an error in one line, which may be cut."""
    try:
        text = " ".join(str(error).split())
    except BaseException as unreadable:  # noqa: BLE001 - its __str__ is the application's, and may do anything
        text = f"it cannot be shown: {type(unreadable).__name__}"
    if len(text) > _MAX_LINE_CHARACTERS:
        text = f"{text[:_MAX_LINE_CHARACTERS]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def format_traceback(error: BaseException, skip: int = 0) -> str:
    """Return the traceback of an error without its `skip` outermost frames, which are asgid's."""
    trace = error.__traceback__
    for _ in range(skip):
        trace = trace and trace.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
    except BaseException as unreadable:  # noqa: BLE001 - a SyntaxError may have a text as offset, a __dir__ may exit
        name, reason = type(error).__name__, type(unreadable).__name__
        return "".join([*traceback.format_tb(trace), f"{name}, which cannot be shown: {reason}"])


@dataclass(frozen=True, slots=True)
class AppFiles:
    """The files of an application: those below a directory, and those of a package, which may be installed."""

    directory: str
    package: str = ""

    @classmethod
    def from_target(cls, target: str) -> "AppFiles":
        """Return the files of the application "module:attribute" in the working directory."""
        try:
            directory = os.getcwd()
        except OSError:  # it was removed
            directory = ""
        return cls(directory, target.partition(":")[0].partition(".")[0])

    def contains(self, file: str) -> bool:
        """Return whether a file is in the package, or in the directory without being a library's."""
        is_below = bool(self.directory) and file.startswith(os.path.join(self.directory, ""))
        return self._is_in_package(file) or (is_below and not is_library(file))

    def owns(self, file: str) -> bool:
        """Return whether a file is in the package, or is not a library's."""
        return self._is_in_package(file) or not is_library(file)

    def _is_in_package(self, file: str) -> bool:
        _, installed, rest = file.replace("dist-packages", "site-packages").rpartition(f"site-packages{os.sep}")
        return bool(installed and self.package) and rest.partition(os.sep)[0].removesuffix(".py") == self.package


def is_library(file: str) -> bool:
    """Return whether a file belongs to an installed package or to Python; a frozen module has no real file.

    The directory of the application may contain a virtual environment.
    """
    is_installed = not {"site-packages", "dist-packages"}.isdisjoint(file.split(os.sep))
    return is_installed or file.startswith(("<", _STANDARD_LIBRARY))


def relevant_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of an error's traceback, without those of asgid and of Python's import."""
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if not frame.filename.startswith(_IMPORT_MACHINERY)]


def fault_frame(error: BaseException, files: AppFiles) -> traceback.FrameSummary | None:
    """Return the last frame of the application in an error's traceback; a library may have raised the error.

    The frame is (1) in a file that `files` contains, else (2) in a file that is not a library's, else (3) in any file.
    """
    frames = relevant_frames(error)
    own = [frame for frame in frames if files.owns(frame.filename)]
    contained = [frame for frame in own if files.contains(frame.filename)]
    return next(reversed(contained or own or frames), None)


def format_causes(error: BaseException, files: AppFiles) -> str:
    """Return an error with its causes: for each the calls of the application, and the last calls in libraries.

    Returns "" if that adds nothing to the message of the error. A long text is cut in its middle.
    """
    try:
        whole = traceback.TracebackException.from_exception(error, lookup_lines=False)
        parts = [*_causes(whole)]
        for part in parts:
            part.stack = _ShortStack.from_frames(part.stack, files)
        is_bare = not any(part.stack for part in parts) and len(parts) == 1 and not isinstance(error, SyntaxError)
        return "" if is_bare else cut_middle("".join(whole.format()).rstrip())
    except BaseException:  # noqa: BLE001 - as in format_traceback, which can always show a part
        return cut_middle(format_traceback(error))


def cut_middle(text: str, first: int = _FIRST_CHARACTERS, last: int = _LAST_CHARACTERS, around: str = "\n") -> str:
    """Return the first and the last characters of a long text, with the number of those that are left out."""
    over = len(text) - first - last
    return text if over <= 0 else f"{text[:first]}{around}... {over} characters are left out ...{around}{text[-last:]}"


def _causes(error: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    """Yield the error and those that `format()` shows with it: the cause, else the context, and those of a group."""
    yield error
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for each in (cause, *(error.exceptions or ())):
        if each is not None:
            yield from _causes(each)


class _ShortStack(traceback.StackSummary):
    """The frames of one error to show; each run of skipped frames is one line."""

    @classmethod
    def from_frames(cls, frames: traceback.StackSummary, files: AppFiles) -> "_ShortStack":
        relevant = [frame for frame in frames if not frame.filename.startswith(_IMPORT_MACHINERY)]
        last_own = max((index for index, frame in enumerate(relevant) if files.owns(frame.filename)), default=-1)
        shown = cls()
        skipped = 0
        for index, frame in enumerate(relevant):
            if files.owns(frame.filename) or index > max(last_own, len(relevant) - 1 - _LIBRARY_CALLS):
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
    """Return the stack of a thread below the last call of asgid; the whole stack if asgid's code is the innermost.

    The frames above are the same for each application. They are 26 of the 27 frames of a handler that sleeps, because
    a worker is forked in the master's loop.
    """
    frames = [*traceback.walk_stack(frame)]  # the innermost first
    below = [*takewhile(lambda step: not step[0].f_code.co_filename.startswith(_OURS), frames)]
    return "".join(traceback.StackSummary.extract(reversed(below or frames)).format()).rstrip()


def format_await_chain(call: object) -> str:
    """Return the frames of all calls that a coroutine awaits, and those of the tasks that it waits for."""
    lines: list[str] = []
    try:
        _add_await_chain(call, lines, set())
    except BaseException as unreadable:  # noqa: BLE001 - the awaited object is the application's, with any __getattr__
        lines.append(f"  the awaited object cannot be shown: {type(unreadable).__name__}\n")
    return "".join(lines)


def _add_await_chain(call: object, lines: list[str], seen: set[int]) -> None:
    """Append the frames of all calls that `call` awaits; `seen` has the ids of the tasks that are shown already."""
    frame = None
    for _ in range(_MAX_DEPTH):
        call = _awaited(call)
        if not call or isinstance(call, Future):
            break
        frame = getattr(call, "cr_frame", None) or getattr(call, "gi_frame", None) or getattr(call, "ag_frame", None)
        if frame:
            lines += traceback.format_stack(frame, 1)
    for task in _awaited_tasks(call, frame):
        coroutine = task.get_coro()
        if id(task) in seen or not isinstance(coroutine, CoroutineType) or coroutine.cr_frame is None:
            continue
        seen.add(id(task))
        lines.append(f"  in the task {task.get_name()}:\n")
        lines += traceback.format_stack(coroutine.cr_frame, 1)
        _add_await_chain(coroutine, lines, seen)


def _awaited(call: object) -> object:
    """Return the object that a coroutine or a generator awaits. Task.get_stack() returns asgid's frame only."""
    found = getattr(call, "cr_await", None) or getattr(call, "gi_yieldfrom", None) or getattr(call, "ag_await", None)
    # An async generator, as in `async with`, and a future are awaited through an object of C; only gc can look into it.
    kind = _WRAPPED.get(type(found).__name__)
    return next((each for each in gc.get_referents(found) if isinstance(each, kind)), None) if kind else found


def _awaited_tasks(future: object, frame: FrameType | None) -> list[Task[object]]:
    """Return the running tasks behind an awaited future: the future itself, the children of a gather(), or the tasks in
    the variables of asyncio's function, if the innermost `frame` is one.
    """
    if isinstance(future, Task):
        found: Iterable[object] = [future]
    elif isinstance(future, Future) and (children := getattr(future, "_children", None)):
        found = children
    elif frame and frame.f_code.co_filename.startswith(_ASYNCIO):
        names = frame.f_locals  # of wait(), of wait_for() before Python 3.12, or of a group's __aexit__()
        found = names.get("fs") or [names.get("fut"), *(getattr(names.get("self"), "_tasks", None) or ())]
    else:
        found = ()
    tasks = [task for task in found if isinstance(task, Task) and not task.done()]
    return sorted(tasks, key=Task.get_name)[:_MAX_TASKS]


def is_in_debugger(frame: "FrameType | None") -> bool:
    """Return whether pdb, or a debugger built on bdb, is in this stack and so waits for its user."""
    while frame:
        if frame.f_globals.get("__name__") in {"pdb", "bdb"}:
            return True
        frame = frame.f_back
    return False


def is_task_cancelled(error: BaseException) -> bool:
    """Return whether `error` comes from a cancellation of the current task; an application may also raise it itself."""
    if not isinstance(error, CancelledError | GeneratorExit):
        return False
    task = current_task()
    return task is None or task.cancelling() > 0


def is_caused_by_disconnect(error: BaseException | None, seen: frozenset[int] = frozenset()) -> bool:
    """Return whether an error was caused by asgid's ClientDisconnectedError, an OSError.

    Frameworks raise their own error in its place, and task groups wrap it: the search follows causes, contexts and
    members of groups. `seen` has the ids of the errors on the way to this one.
    """
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError):
            return True
        # A chain of causes may be a ring: after `raise a from b` and `raise b from a`, or after
        # `raise group.exceptions[0]` within the `except` of the group.
        seen |= {id(error)}
        if isinstance(error, BaseExceptionGroup):
            return all(is_caused_by_disconnect(part, seen) for part in error.exceptions)
        error = error.__context__ if error.__cause__ is None else error.__cause__
    return False
