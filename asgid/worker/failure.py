"""What is told of an application that failed, or hangs: its error, the way that led to it, and where it waits.

Its objects are its own, and to show one may fail like all that it does. So nothing here raises: what cannot be shown is
named by its type, and by what showing it raised.
"""

import traceback
from asyncio import CancelledError, current_task
from itertools import takewhile
from types import FrameType

#: Where the files of asgid are.
_OURS = __file__.removesuffix("worker/failure.py")

#: How much of an error's message is shown: pydantic's names a field in its second line, and may name all of them.
_SAID_CHARACTERS = 300
#: Calls within calls that are looked at: as many as Python lets wait for each other, and a __getattr__ may invent more.
_DEEPEST = 1000


def said(error: BaseException) -> str:
    """Return an error in one line."""
    try:
        text = " ".join(str(error).split())
    except BaseException as unreadable:  # noqa: BLE001 - its __str__ is the application's, and may do anything
        text = f"it cannot be shown: {type(unreadable).__name__}"
    if len(text) > _SAID_CHARACTERS:
        text = f"{text[:_SAID_CHARACTERS]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def stack_of(error: BaseException, ours: int = 0) -> str:
    """Return an error's traceback but for its `ours` outermost frames, which say nothing about the fault."""
    trace = error.__traceback__
    for _ in range(ours):
        trace = trace and trace.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
    except BaseException as unreadable:  # noqa: BLE001 - a SyntaxError whose offset is no number, a __dir__ that exits
        name, why = type(error).__name__, type(unreadable).__name__
        return "".join([*traceback.format_tb(trace), f"{name}, which cannot be shown: {why}"])


def stack_inside(frame: FrameType) -> str:
    """Return where a thread stands, from our last call inwards; where that is ourselves, with all that led there.

    What calls an application is the same for all of them: twenty-six of the twenty-seven frames of a handler that
    sleeps, for a worker is forked from within the master's loop.
    """
    frames = [*traceback.walk_stack(frame)]  # the innermost first
    theirs = [*takewhile(lambda step: not step[0].f_code.co_filename.startswith(_OURS), frames)]
    return "".join(traceback.StackSummary.extract(reversed(theirs or frames)).format()).rstrip()


def stack_within(call: object) -> str:
    """Return where a coroutine waits, from what it awaits inwards."""
    lines: list[str] = []
    try:
        for _ in range(_DEEPEST):
            # Task.get_stack() ends at the first frame, which is ours.
            call = getattr(call, "cr_await", None) or getattr(call, "gi_yieldfrom", None)
            if not call:
                break
            if frame := getattr(call, "cr_frame", None) or getattr(call, "gi_frame", None):
                lines += traceback.format_stack(frame, 1)
    except BaseException as unreadable:  # noqa: BLE001 - what is awaited is the application's: its __getattr__, its length
        lines.append(f"  what is awaited there cannot be shown: {type(unreadable).__name__}\n")
    return "".join(lines)


def is_from_outside(error: BaseException) -> bool:
    """Whether the task at hand is cancelled or closed; an application may raise what looks like that by itself."""
    if not isinstance(error, CancelledError | GeneratorExit):
        return False
    task = current_task()
    return task is None or task.cancelling() > 0


def stems_from_disconnect(error: BaseException | None, above: frozenset[int] = frozenset()) -> bool:
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
            return all(stems_from_disconnect(part, above) for part in error.exceptions)
        error = error.__context__ if error.__cause__ is None else error.__cause__
    return False
