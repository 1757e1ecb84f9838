"""What is told of an application that failed, or hangs; and that nothing of the application's keeps us from telling."""

import sys
from typing import Any

import pytest

from asgid import address
from asgid.worker.failure import said, stack_inside, stack_of, stack_within, stems_from_disconnect

#: Of a SyntaxError: traceback computes with the column, which is no number here.
NO_COLUMN: Any = ("no", ("page.html", 1, "x", "x"))


class MuteError(Exception):
    """One that cannot be shown."""

    def __str__(self) -> str:
        raise SystemExit


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """Return `error` with the traceback of a raise."""
    try:
        raise error from cause  # noqa: TRY301 - only for its traceback
    except BaseException as caught:  # noqa: BLE001 - it is one of ours
        return caught


SAID = {
    "its type and its words": (ValueError("no database"), "ValueError: no database"),
    "without words": (ValueError(), "ValueError"),
    "in one line": (ValueError("no\n  database\n"), "ValueError: no database"),
    "as much as one reads": (ValueError("x" * 301), f"ValueError: {'x' * 300}..."),
    "what cannot be shown": (MuteError(), "MuteError: it cannot be shown: SystemExit"),
}


@pytest.mark.parametrize(("error", "expected"), SAID.values(), ids=SAID.keys())
def test_an_error_is_said_in_one_line(error, expected):
    """Whatever it says of itself."""
    assert expected == said(error)


def test_a_stack_begins_where_the_fault_may_be():
    """The frames around the application's are left out."""
    error = raised(ValueError("no database"))

    assert "in raised\n" in stack_of(error)
    assert "ValueError: no database" == stack_of(error, ours=1)
    assert "ValueError: no database" == stack_of(error, ours=5)


@pytest.mark.parametrize(
    ("error", "name", "why"),
    [
        (SyntaxError(*NO_COLUMN), "SyntaxError", "TypeError"),
        # What it was raised from is shown with it; this one cannot be compared with those that were.
        (type("OddError", (Exception,), {"__cause__": property(lambda _: 1 / 0)})(), "OddError", "ZeroDivisionError"),
    ],
    ids=["a column that is no number", "a cause that raises"],
)
def test_of_what_cannot_be_shown_there_is_the_way_that_led_to_it(error, name, why):
    """And why the rest is missing."""
    stack = stack_of(raised(error))

    assert "in raised\n" in stack
    assert stack.endswith(f"{name}, which cannot be shown: {why}")


class FalseError(Exception):
    """One that is nothing, by its length."""

    def __len__(self) -> int:
        return 0


class Awaited:
    """An awaitable of the application's own, that has what the test gives it."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return None

    def close(self):
        pass


class Raises(Awaited):
    def __getattr__(self, name: str) -> object:
        raise KeyboardInterrupt


class Endless(Awaited):
    def __getattr__(self, name: str) -> object:
        return Endless() if name == "cr_await" else None


async def outer(awaited: Any) -> None:
    await inner(awaited)


async def inner(awaited: Any) -> None:
    await awaited


WAITS = {
    "for what has no stack": (Awaited(), False),
    "for what cannot be shown": (Raises(), True),
    "for what has no end": (Endless(), False),
    "for what has something else for a frame": (Awaited(cr_frame="no frame"), True),
}


@pytest.mark.parametrize(("awaited", "is_cut_short"), WAITS.values(), ids=WAITS.keys())
def test_it_is_told_where_a_call_waits(awaited, is_cut_short):
    """As far as what it waits for lets itself be asked."""
    call = outer(awaited)
    call.send(None)
    stack = stack_within(call)
    call.close()

    assert "in inner\n    await awaited\n" in stack
    assert is_cut_short == ("what is awaited there cannot be shown" in stack)


def test_where_a_thread_stands_is_told_from_the_application_inwards():
    """The calls of ours that lead to it are the same for each, and say nothing of what holds it."""
    stacks = []

    class StandsStillError(Exception):
        def __str__(self) -> str:
            stacks.append(stack_inside(sys._getframe()))
            return ""

    said(StandsStillError())
    first, *others = [line for line in stacks[0].splitlines() if line.startswith("  File ")]

    assert first.endswith("in __str__")
    assert others == []


def test_where_we_stand_ourselves_is_told_too():
    """Then it is a fault of ours, and its way is what matters."""
    with pytest.raises(ValueError, match="no port") as caught:
        address.parse("")

    assert "in _tcp" in stack_inside(caught.traceback[-1].frame.raw)


def around(*parts: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("of a task group", parts)


def out_of_its_group(error: BaseException) -> BaseException:
    """Return `error` as it is after `raise group.exceptions[0]`: the group is its context, and has it for a part."""
    error.__context__ = around(error)
    return error


def in_a_ring() -> BaseException:
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    return one


STEMS = {
    "none": (None, False),
    "itself": (BrokenPipeError(), True),
    "another": (ValueError(), False),
    "one that was raised from it": (raised(ValueError(), BrokenPipeError()), True),
    "one that was raised from another": (raised(ValueError(), KeyError()), False),
    "one that is false": (raised(ValueError(), raised(FalseError(), BrokenPipeError())), True),
    "a group of it": (around(BrokenPipeError(), raised(ValueError(), BrokenPipeError())), True),
    "a group of it and another": (around(BrokenPipeError(), ValueError()), False),
    "a ring": (in_a_ring(), False),
    "another, out of its group": (out_of_its_group(ValueError()), False),
    "a group around one out of its group": (around(out_of_its_group(ValueError())), False),
}


@pytest.mark.parametrize(("error", "stems"), STEMS.values(), ids=STEMS.keys())
def test_what_became_of_a_disconnect_is_known(error, stems):
    """However it was wrapped, and also where errors lead to each other."""
    assert stems is stems_from_disconnect(error)
