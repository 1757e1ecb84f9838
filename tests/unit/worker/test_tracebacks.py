"""What is told of an application that failed, or hangs; and that nothing of the application's keeps us from telling."""

import sys
from typing import Any

import pytest

from asgid import address
from asgid.worker.tracebacks import (
    AppFiles,
    cut_middle,
    format_await_chain,
    format_causes,
    format_thread_stack,
    format_traceback,
    is_caused_by_disconnect,
    one_line,
)

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
    assert expected == one_line(error)


def test_a_stack_begins_where_the_fault_may_be():
    """The frames around the application's are left out."""
    error = raised(ValueError("no database"))

    assert "in raised\n" in format_traceback(error)
    assert "ValueError: no database" == format_traceback(error, ours=1)
    assert "ValueError: no database" == format_traceback(error, ours=5)


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
    stack = format_traceback(raised(error))

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
    stack = format_await_chain(call)
    call.close()

    assert "in inner\n    await awaited\n" in stack
    assert is_cut_short == ("what is awaited there cannot be shown" in stack)


def test_where_a_thread_stands_is_told_from_the_application_inwards():
    """The calls of ours that lead to it are the same for each, and say nothing of what holds it."""
    stacks = []

    class StandsStillError(Exception):
        def __str__(self) -> str:
            stacks.append(format_thread_stack(sys._getframe()))
            return ""

    one_line(StandsStillError())
    first, *others = [line for line in stacks[0].splitlines() if line.startswith("  File ")]

    assert first.endswith("in __str__")
    assert others == []


def test_where_we_stand_ourselves_is_told_too():
    """Then it is a fault of ours, and its way is what matters."""
    with pytest.raises(ValueError, match="no port") as caught:
        address.parse("")

    assert "in _tcp" in format_thread_stack(caught.traceback[-1].frame.raw)


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
    assert stems is is_caused_by_disconnect(error)


# The story of an error


APPLICATION = """
def fails():
    raise ValueError("no database")
def with_a_cause():
    try:
        fails()
    except ValueError as error:
        raise RuntimeError("no shop") from error
def with_a_context():
    try:
        fails()
    except ValueError:
        raise RuntimeError("no shop")
def without_its_context():
    try:
        fails()
    except ValueError:
        raise RuntimeError("no shop") from None
def with_a_group():
    try:
        fails()
    except ValueError as error:
        raise ExceptionGroup("two tasks", [error, KeyError("name")])
def with_long_words():
    try:
        fails()
    except ValueError as error:
        raise RuntimeError("word " * 5000 + "end") from error
def by_a_library():
    import json
    json.loads("{", parse_float=None)
def by_deep_calls(depth=0):
    import functools
    library = functools.partial(by_deep_calls, depth + 1)
    import contextlib
    with contextlib.ExitStack() as stack:
        stack.callback(fails)
def no_python():
    compile("x = (", "shop/models.py", "exec")
def mute():
    class MuteError(Exception):
        def __str__(self): raise SystemExit
    raise MuteError
def exits():
    raise SystemExit(3)
def with_a_note():
    error = ValueError("no database")
    error.add_note("is the tunnel up?")
    raise error
"""
FAILS = 'in fails\n    raise ValueError("no database")\nValueError: no database\n'
STORIES = {
    # the function that fails: (what the story holds, in this order; its last line)
    "fails": ([], "ValueError: no database"),
    "with_a_cause": ([FAILS, "was the direct cause", "line 8, in with_a_cause\n"], "RuntimeError: no shop"),
    "with_a_context": ([FAILS, "another exception occurred", "line 13, in with_a_context\n"], "RuntimeError: no shop"),
    "without_its_context": (["in without_its_context\n"], "RuntimeError: no shop"),
    "with_a_group": ([FAILS, "ExceptionGroup: two tasks", "KeyError: 'name'"], "    +----"),
    "with_long_words": ([FAILS, "line 28, in with_long_words\n", " characters are left out "], "word word end"),
    "by_a_library": (["in by_a_library\n", "/json/decoder.py"], "json.decoder.JSONDecodeError: "),
    "by_deep_calls": (["in by_deep_calls\n", "calls in libraries\n", FAILS[:-1]], "ValueError: no database"),
    "no_python": (["in no_python\n", 'File "shop/models.py", line 1'], "SyntaxError: '(' was never closed"),
    "mute": (["in mute\n"], "MuteError: <exception str() failed>"),
    "exits": (["in exits\n"], "SystemExit: 3"),
    "with_a_note": (["in with_a_note\n", "ValueError: no database\n"], "is the tunnel up?"),
}


@pytest.fixture(scope="module")
def application(tmp_path_factory) -> tuple[AppFiles, dict[str, Any]]:
    """The functions of a module of the application's, and its home."""
    directory = tmp_path_factory.mktemp("shop")
    (directory / "shop.py").write_text(APPLICATION)
    functions: dict[str, Any] = {"__name__": "shop"}
    exec(compile(APPLICATION, str(directory / "shop.py"), "exec"), functions)
    return AppFiles(str(directory)), functions


def story(home: AppFiles, call: Any) -> str:
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - it is one of the application's
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        return format_causes(error, home)
    raise AssertionError("it did not fail")


@pytest.mark.parametrize("name", STORIES)
def test_the_story_of_an_error_has_its_calls_and_all_its_causes(application, name):
    """In Python's own order, in which the last line is the error that arrived."""
    home, functions = application
    told = story(home, functions[name])
    parts, last = STORIES[name]
    places = [told.find(part) for part in parts]

    assert -1 not in places, told
    assert places == sorted(places), told
    assert last in told.splitlines()[-1]
    assert len(told) < 13_000


def test_a_context_that_was_suppressed_is_not_shown(application):
    """`raise ... from None` is the application's wish."""
    home, functions = application

    assert "no database" not in story(home, functions["without_its_context"])


def test_of_many_calls_in_libraries_only_the_last_are_shown(application):
    """They name the fault more precisely than the application's own line; those before them do not."""
    home, _ = application
    source = "def call(depth):\n    if depth: call(depth - 1)\n    else: raise KeyError('missing')\n"
    library: dict[str, Any] = {}
    exec(compile(source, "/opt/venv/lib/site-packages/library.py", "exec"), library)
    own = compile("library['call'](20)\n", f"{home.directory}/shop.py", "exec")
    told = story(home, lambda: exec(own, {"library": library}))

    assert f'{home.directory}/shop.py", line 1' in told
    assert "  ... 18 calls in libraries\n" in told
    assert 3 == told.count("/site-packages/library.py")
    assert told.endswith("KeyError: 'missing'")


def test_an_application_that_is_installed_is_not_a_library():
    """Its own calls are shown, wherever its package is."""
    source = "def call(depth):\n    if depth: call(depth - 1)\n    else: raise KeyError('missing')\n"
    own: dict[str, Any] = {}
    exec(compile(source, "/opt/venv/lib/site-packages/shop/models.py", "exec"), own)
    told = story(AppFiles("/srv", "shop"), lambda: own["call"](5))

    assert 4 == told.count('/site-packages/shop/models.py", line ')
    assert "[Previous line repeated 2 more times]" in told  # Python shows three of the same calls
    assert "calls in libraries" not in told


def test_there_is_no_story_where_the_words_are_all():
    """A module that is not there has no calls of the application's."""
    assert "" == format_causes(ModuleNotFoundError("No module named 'shop'"), AppFiles("/srv"))


def test_a_story_that_cannot_be_written_is_the_way_that_led_to_the_error():
    """As of a SyntaxError whose column is not a number."""
    assert "in raised\n" in format_causes(raised(SyntaxError(*NO_COLUMN)), AppFiles("/srv"))


def test_a_text_that_is_too_long_keeps_both_ends():
    """And tells how much it has lost."""
    assert "ab\n... 22 characters are left out ...\nyz" == cut_middle("abcdefghijklmnopqrstuvwxyz", 2, 2)
    assert "abcd" == cut_middle("abcd", 2, 2)
