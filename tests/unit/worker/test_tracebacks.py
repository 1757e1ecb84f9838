"""Errors and stacks of an application as text, also if its objects raise when they are shown."""

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

#: Arguments of a SyntaxError whose column is not a number: the module traceback computes with it.
NO_COLUMN: Any = ("no", ("page.html", 1, "x", "x"))


class MuteError(Exception):
    """An error that cannot be shown."""

    def __str__(self) -> str:
        raise SystemExit


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """Return `error` with the traceback of a raise."""
    try:
        raise error from cause  # noqa: TRY301 - only for its traceback
    except BaseException as caught:  # noqa: BLE001 - any error of a test
        return caught


ONE_LINE = {
    "type and message": (ValueError("no database"), "ValueError: no database"),
    "without a message": (ValueError(), "ValueError"),
    "a message of two lines": (ValueError("no\n  database\n"), "ValueError: no database"),
    "a long message": (ValueError("x" * 301), f"ValueError: {'x' * 300}..."),
    "a message that cannot be shown": (MuteError(), "MuteError: it cannot be shown: SystemExit"),
}


@pytest.mark.parametrize(("error", "expected"), ONE_LINE.values(), ids=ONE_LINE.keys())
def test_one_line_returns_type_and_message(error, expected):
    assert expected == one_line(error)


def test_format_traceback_skips_the_outermost_frames():
    """The error itself stays if all frames are skipped."""
    error = raised(ValueError("no database"))

    assert "in raised\n" in format_traceback(error)
    assert "ValueError: no database" == format_traceback(error, skip=1)
    assert "ValueError: no database" == format_traceback(error, skip=5)


@pytest.mark.parametrize(
    ("error", "name", "reason"),
    [
        (SyntaxError(*NO_COLUMN), "SyntaxError", "TypeError"),
        # The cause is shown with the error; to read this one raises.
        (type("OddError", (Exception,), {"__cause__": property(lambda _: 1 / 0)})(), "OddError", "ZeroDivisionError"),
    ],
    ids=["a column that is not a number", "a cause that raises"],
)
def test_an_error_that_cannot_be_shown_keeps_its_frames(error, name, reason):
    """The last line names the error that showing it raised."""
    stack = format_traceback(raised(error))

    assert "in raised\n" in stack
    assert stack.endswith(f"{name}, which cannot be shown: {reason}")


class FalseError(Exception):
    """An error that is false, by its length."""

    def __len__(self) -> int:
        return 0


class Awaited:
    """An awaitable of the application, with the attributes that the test gives it."""

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
    "an object without a stack": (Awaited(), False),
    "an object that cannot be shown": (Raises(), True),
    "a chain without an end": (Endless(), False),
    "an object with a text as frame": (Awaited(cr_frame="no frame"), True),
}


@pytest.mark.parametrize(("awaited", "is_cut_short"), WAITS.values(), ids=WAITS.keys())
def test_format_await_chain_shows_where_a_call_waits(awaited, is_cut_short):
    call = outer(awaited)
    call.send(None)
    stack = format_await_chain(call)
    call.close()

    assert "in inner\n    await awaited\n" in stack
    assert is_cut_short == ("the awaited object cannot be shown" in stack)


def test_the_stack_of_a_thread_begins_below_asgid():
    """The frames of asgid that call the application are left out."""
    stacks = []

    class StandsStillError(Exception):
        def __str__(self) -> str:
            stacks.append(format_thread_stack(sys._getframe()))
            return ""

    one_line(StandsStillError())
    first, *others = [line for line in stacks[0].splitlines() if line.startswith("  File ")]

    assert first.endswith("in __str__")
    assert others == []


def test_the_stack_of_a_thread_is_whole_inside_asgid():
    """Then asgid may be at fault, and its calls are needed."""
    with pytest.raises(ValueError, match="no port") as caught:
        address.parse("")

    assert "in _tcp" in format_thread_stack(caught.traceback[-1].frame.raw)


def around(*parts: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("of a task group", parts)


def out_of_its_group(error: BaseException) -> BaseException:
    """Return `error` as it is after `raise group.exceptions[0]`: the group is its context, and has it as a member."""
    error.__context__ = around(error)
    return error


def in_a_ring() -> BaseException:
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    return one


CAUSES = {
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


@pytest.mark.parametrize(("error", "is_caused"), CAUSES.values(), ids=CAUSES.keys())
def test_an_error_caused_by_a_disconnect_is_found(error, is_caused):
    """The cause may be in a chain or in groups; a ring of causes ends."""
    assert is_caused is is_caused_by_disconnect(error)


# An error with its causes


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
EXPECTED = {
    # the function that fails: (parts of the text, in this order; its last line)
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
    """The files of the application, and the functions of its module."""
    directory = tmp_path_factory.mktemp("shop")
    (directory / "shop.py").write_text(APPLICATION)
    functions: dict[str, Any] = {"__name__": "shop"}
    exec(compile(APPLICATION, str(directory / "shop.py"), "exec"), functions)
    return AppFiles(str(directory)), functions


def formatted(files: AppFiles, call: Any) -> str:
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - any error of the application
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        return format_causes(error, files)
    raise AssertionError("it did not fail")


@pytest.mark.parametrize("name", EXPECTED)
def test_format_causes_has_the_calls_and_all_causes(application, name):
    """In Python's order: the last line is the error itself."""
    files, functions = application
    text = formatted(files, functions[name])
    parts, last = EXPECTED[name]
    places = [text.find(part) for part in parts]

    assert -1 not in places, text
    assert places == sorted(places), text
    assert last in text.splitlines()[-1]
    assert len(text) < 13_000


def test_a_context_that_was_suppressed_is_not_shown(application):
    files, functions = application

    assert "no database" not in formatted(files, functions["without_its_context"])


def test_only_the_last_calls_in_libraries_are_shown(application):
    """They locate the fault more precisely than the line of the application; earlier ones do not."""
    files, _ = application
    source = "def call(depth):\n    if depth: call(depth - 1)\n    else: raise KeyError('missing')\n"
    library: dict[str, Any] = {}
    exec(compile(source, "/opt/venv/lib/site-packages/library.py", "exec"), library)
    own = compile("library['call'](20)\n", f"{files.directory}/shop.py", "exec")
    text = formatted(files, lambda: exec(own, {"library": library}))

    assert f'{files.directory}/shop.py", line 1' in text
    assert "  ... 18 calls in libraries\n" in text
    assert 3 == text.count("/site-packages/library.py")
    assert text.endswith("KeyError: 'missing'")


def test_an_installed_application_is_not_a_library():
    source = "def call(depth):\n    if depth: call(depth - 1)\n    else: raise KeyError('missing')\n"
    own: dict[str, Any] = {}
    exec(compile(source, "/opt/venv/lib/site-packages/shop/models.py", "exec"), own)
    text = formatted(AppFiles("/srv", "shop"), lambda: own["call"](5))

    assert 4 == text.count('/site-packages/shop/models.py", line ')
    assert "[Previous line repeated 2 more times]" in text  # Python shows three of equal calls
    assert "calls in libraries" not in text


def test_format_causes_is_empty_if_it_adds_nothing_to_the_message():
    assert "" == format_causes(ModuleNotFoundError("No module named 'shop'"), AppFiles("/srv"))


def test_format_causes_of_an_error_that_cannot_be_shown_has_its_frames():
    """A SyntaxError whose column is not a number."""
    assert "in raised\n" in format_causes(raised(SyntaxError(*NO_COLUMN)), AppFiles("/srv"))


def test_cut_middle_keeps_both_ends_of_a_long_text():
    """The text has the number of the characters left out."""
    assert "ab\n... 22 characters are left out ...\nyz" == cut_middle("abcdefghijklmnopqrstuvwxyz", 2, 2)
    assert "abcd" == cut_middle("abcd", 2, 2)
