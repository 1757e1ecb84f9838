"""Round trips: the lines of any TOML that the parser accepts, and any Config through its own text."""

import math
import string
from functools import cache
from typing import Any

import tomli
from hypothesis import given
from hypothesis import strategies as st

from asgid import config
from asgid.config import Config, reference
from asgid.config.reserved_keys import reserved_key
from asgid.config.tables import TABLES, header
from asgid.config.toml_lines import KeyPath, line_numbers
from asgid.config.value_types import UNLIMITED, ValueType
from asgid.errors import ConfigError, Problem

# -- lines -------------------------------------------------------------------------------------------------------------

# Pieces instead of characters: random characters are rarely TOML.
PIECES = st.sampled_from(
    [
        *("a", "b", '"a"', "'b'", '"""', "'''", '"', "'", ".", "=", "= 1", "[", "]", "[[", "]]", "{", "}", ",", " "),
        *("#", "\n", "\r\n", "\\", "\\u0061", "1", "true", "1979-05-27 07:32:00", "a = ", "[t]\n", "[[l]]\n", "é"),
    ]
)
# Whole statements, so that many documents are valid and large.
STATEMENTS = st.sampled_from(
    [
        "a = 1\n",
        "b.c = [1, # ]\n {d = 2}, [\n3]]\n",
        "b.'d e' = {f.g = '}', h = []}\r\n",
        "[t]\n",
        "[t.u]\n",
        "[t.v]\r\n",
        "[[l]]\n",
        "[[l.m]]\n",
        "[l.t]\n",
        "[l.m.x] # [[l]]\n",
        'c = """\n[q]\\""""""\n',
        "d = '''\n# '' \n'''''\n",
        "e = 1979-05-27 07:32:00 # e = 1\n",
        "\n",
        "# x = [\n",
    ]
)


def all_paths(value: object, path: KeyPath = ()) -> list[KeyPath]:
    """Return the path of every key and item in a parsed document."""
    items: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [path] * bool(path) + [found for key, item in items for found in all_paths(item, (*path, key))]


@given((st.lists(PIECES, max_size=12) | st.lists(STATEMENTS, max_size=9, unique=True)).map("".join))
def test_each_path_of_a_valid_document_has_a_line(text):
    try:
        document = tomli.loads(text)
    except tomli.TOMLDecodeError:
        return
    lines = line_numbers(text)

    assert set(all_paths(document)) == set(lines)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


WORDS = st.text(string.ascii_letters + string.digits + " \"'\\#=[]{}.,\n\té\x7f", max_size=8)
VALUES: st.SearchStrategy[Any] = st.recursive(
    WORDS | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(WORDS, st.dictionaries(WORDS, VALUES, max_size=4), max_size=4))
def test_each_key_is_found_on_the_line_that_it_was_written_on(document):
    text = ""
    written: dict[KeyPath, int] = {}
    for table, content in document.items():
        written[(table,)] = text.count("\n") + 1
        text += f"[{reference.toml(table)}]  # [not.this]\n"
        for key, value in content.items():
            written[(table, key)] = text.count("\n") + 1
            text += f"{reference.toml(key)} = {reference.toml(value)}\n"
    lines = line_numbers(text)

    assert document == tomli.loads(text)
    assert set(all_paths(document)) == set(lines)
    assert written == {path: line for path, line in lines.items() if path in written}


# -- a Config and its text ---------------------------------------------------------------------------------------------

LINES = st.text(string.ascii_letters + string.digits + " -_/\"'\\é", min_size=1, max_size=12)
ADDRESSES = st.sampled_from(["127.0.0.1:{}", "[::1]:{}", "unix:/run/{}.sock", "unix:@app{}", "fd:{}", "systemd:s{}"])
DURATIONS = st.floats(0.000_1, 366 * 86400.0) | st.integers(1, 10**6).map(lambda ms: ms / 1000)
SIZES = st.integers(1, UNLIMITED - 1) | st.sampled_from([2**10, 2**20, 3 * 2**30, 10**6, 5 * 10**9])
VALUES_BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "duration": DURATIONS,
    'duration from "500ms" or "off"': st.floats(0.5, 366 * 86400.0) | st.just(math.inf) | st.sampled_from(["off", 0]),
    'duration from "100ms" or "off"': st.floats(0.1, 366 * 86400.0) | st.just(math.inf) | st.sampled_from(["off", 0]),
    'duration or "off"': DURATIONS | st.just(math.inf) | st.sampled_from(["off", 0, "90s", "1.5h", "250 ms"]),
    "size": SIZES | st.sampled_from(["16KiB", "1.5MiB", "16MB"]),
    'size or "off"': SIZES | st.just("off"),
    "octal text": st.integers(0, 0o777).map("{:04o}".format),
    "text": LINES,
    "name or id": LINES.filter(lambda text: not text.isdecimal()) | st.integers(0, 2**32 - 2).map(str),
    "path": LINES,
    "module:attribute": st.just("package.module:object.attribute"),
    "table of text": st.dictionaries(LINES, st.text(max_size=5).filter(lambda text: "\0" not in text), max_size=3),
    "address": st.just("127.0.0.1:8000"),
    "host:port": st.integers(1, 999).map("127.0.0.2:{}".format),
}
VALUES_BY_KEY: dict[str, st.SearchStrategy[Any]] = {
    "app.root_path": st.sampled_from(["", "/a", "/a/b"]),
    "http.server_header": st.sampled_from(["", "x y", 'a"b\\c']),
    **dict.fromkeys(("log.output", "log.access.output", "process.pid_file"), LINES.map("/{}".format)),  # no word
    "log.access.format": st.sampled_from(["json", "{status} {path}"]),
    "proxy.trusted": st.lists(
        st.sampled_from(["10.0.0.0/8", "192.0.2.1", "::1", "2001:db8::/32", "unix", "*"]), min_size=1
    ),
    "workers.count": st.integers(1, 500) | st.just("auto"),
}


def values(full: str, field: Any) -> st.SearchStrategy[Any]:
    """Return values that the parser accepts for one key."""
    value_type = next((item for item in field.metadata if isinstance(item, ValueType)), None)
    if full in VALUES_BY_KEY:
        return VALUES_BY_KEY[full]
    if value_type is None:
        return st.booleans() if field.annotation is bool else st.sampled_from(field.annotation.__args__)
    if value_type.name.startswith("whole number"):
        return st.integers(1, 500)
    return VALUES_BY_TYPE[value_type.name]


@cache
def table(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return dictionaries with any of the table's keys that are not reserved."""
    model = TABLES[name]
    keys = {
        key: values(f"{name}.{key}", field)
        for key, field in model.settings().items()
        if not reserved_key(f"{name}.{key}")
    }
    return st.fixed_dictionaries({}, optional=keys)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Draw a Config that a file could give."""
    names = [name for name in TABLES if name not in ("listen", "tls.NAME", "log.access")]
    document = {name: draw(table(name)) for name in names}
    document["app"]["target"] = "a:b"
    if document["proxy"].get("headers", "x-forwarded") != "x-forwarded":  # refused without such a header
        document["proxy"] = {key: value for key, value in document["proxy"].items() if key not in ("host", "prefix")}
    document["log"]["access"] = draw(table("log.access"))
    listeners = []
    for index in range(draw(st.integers(1, 3))):
        bind = draw(ADDRESSES).format(8000 + index)
        listener = draw(table("listen")) | {"bind": bind, "name": f"listener {index}"}
        if not bind.startswith("unix:/"):
            listener = {key: value for key, value in listener.items() if key not in ("mode", "owner", "group")}
        listeners.append(listener)
    text = "".join(f"{key} = {reference.toml(value)}\n" for key, value in (document | {"listen": listeners}).items())
    return config.parse(text, "drawn.toml")


@given(configs())
def test_a_config_equals_the_one_parsed_from_its_text(settings):
    assert settings == config.parse(reference.config_to_toml(settings), "printed.toml")


@given(st.sampled_from(sorted(TABLES)), VALUES, st.sampled_from(["", "nonsense"]), st.data())
def test_any_value_is_accepted_or_refused_with_its_place(name, value, key, data):
    """Any value of any key gives a Config or problems with a place; no other error is raised."""
    keys = TABLES[name].settings()
    key = key or data.draw(st.sampled_from(list(keys)))
    text = f"{header(name)}\n{key} = {reference.toml(value)}\n"
    problems: tuple[Problem, ...] = ()
    try:
        config.parse(text, "f.toml", target="a:b")
    except ConfigError as error:
        problems = error.problems
    row = reserved_key(f"{name}.{key}") if key in keys else None

    assert all(problem.place.startswith("f.toml:") and problem.message for problem in problems)
    assert problems or (key in keys and (row is None or row.allows(value)))
