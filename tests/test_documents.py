"""The documents agree with the code: they are complete, show the true defaults, and are freshly generated."""

import ast
import re
from collections.abc import Iterator
from itertools import chain, pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from asgid import config
from asgid.assignment import DUMP
from asgid.config import Config, reference, reserved_keys
from asgid.config.tables import TABLES, Table, header
from asgid.config.value_types import written_default
from asgid.errors import ConfigError, ExitCode
from asgid.master.status import metrics
from asgid.master.system import signals
from asgid.master.workers import spawn
from asgid.worker.http.access_log import check_template
from docs.generate import DOCUMENTS, ROOT

EXAMPLE = ROOT / "etc/asgid.toml.example"
NAMES = [(table, key) for table, model in TABLES.items() for key in model.settings()]


# -- generated documents -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_generated_document_is_fresh(name):
    assert DOCUMENTS[name]() == (ROOT / name).read_text(encoding="utf-8"), "run `make docs`"


# -- the example file --------------------------------------------------------------------------------------------------


def test_the_example_file_is_valid():
    """It serves one application on the default addresses."""
    settings = config.parse(EXAMPLE.read_text(encoding="utf-8"), EXAMPLE.name)

    assert ("hello:application", "examples") == (settings.app.target, settings.app.directory)
    assert (ROOT / settings.app.directory / "hello.py").is_file()
    assert ["127.0.0.1:8000"] == [listen.bind for listen in settings.listen]
    assert "127.0.0.1:9464" == settings.metrics.bind


def test_the_example_file_sets_only_its_application_and_address():
    """The rest is headers and comments, so a metrics address that is in use stays a warning: it is only a default."""
    lines = [line for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]

    assert ['target = "hello:application"', 'directory = "examples"', 'bind = "127.0.0.1:8000"'] == [
        line for line in lines if not line.startswith("[")
    ]
    assert [header(table) for table in TABLES if table != "tls.NAME"] == [line for line in lines if line[0] == "["]


def test_the_example_file_has_the_defaults():
    """Except for the application, it has the same effect as an empty file."""
    settings = config.parse(EXAMPLE.read_text(encoding="utf-8"), EXAMPLE.name)
    application = settings.app.model_copy(update={"target": "a:b", "directory": "."})

    assert config.parse("", "f.toml", target="a:b") == settings.model_copy(update={"app": application})


def uncommented(table: str, key: str) -> str:
    """Return the example file without the # before the line of `key`, and before its header."""
    text = EXAMPLE.read_text(encoding="utf-8")
    before, opening, rest = re.split(rf"^#?({re.escape(header(table))})$", text, flags=re.MULTILINE)
    own, blank, after = rest.partition("\n\n")
    own, count = re.subn(rf"^#({key} = )", r"\1", own, flags=re.MULTILINE)
    assert count == 1, f"{count} lines of {table}.{key}"
    if (table, key) in {("listen", "mode"), ("listen", "owner"), ("listen", "group")}:  # they need a socket file
        own = own.replace('bind = "127.0.0.1:8000"', 'bind = "unix:/x"')
    return before + opening + own + blank + after


def table_of(settings: Config, table: str) -> Table:
    match table:
        case "listen":
            return settings.listen[0]
        case "tls.NAME":
            return settings.tls["NAME"]
    found: Table = attrgetter(table)(settings)
    return found


@pytest.mark.parametrize(("table", "key"), [name for name in NAMES if ".".join(name) not in reference._EXAMPLE])
def test_the_example_file_names_every_setting_with_its_default(table, key, monkeypatch):
    """A line without its # sets the value that was in force before; only a key without effect is refused."""
    row = reserved_keys.reserved_key(f"{table}.{key}")
    if row and not row.allows(written_default(TABLES[table].model_fields[key])):
        with pytest.raises(ConfigError, match="has no effect in this version"):
            config.parse(uncommented(table, key), EXAMPLE.name)
        monkeypatch.setattr(reserved_keys, "RESERVED_KEYS", {})
    own = table_of(config.parse(uncommented(table, key), EXAMPLE.name), table)

    assert key in own.model_fields_set
    assert TABLES[table].model_fields[key].get_default(call_default_factory=True) == getattr(own, key)


@pytest.mark.parametrize(
    "name", [f"{table}.{key}" for table, key in NAMES if reserved_keys.reserved_key(f"{table}.{key}")]
)
def test_the_example_file_marks_keys_without_effect(name):
    """The mark is beside the key, so that no operator relies on it."""
    table, _, key = name.rpartition(".")
    text = " ".join(EXAMPLE.read_text(encoding="utf-8").split("\n# "))
    own = text[text.index(header(table)) :]
    before = re.split(rf"^#?{key} = ", own, maxsplit=1, flags=re.MULTILINE)[0].splitlines()[-1]

    assert re.search(r"\((in|not in) this version", before)


# -- the reference -----------------------------------------------------------------------------------------------------


def test_the_reference_explains_every_setting():
    text = Path(ROOT / "docs/config.md").read_text(encoding="utf-8")
    for table, key in NAMES:
        own = text[text.index(f"\n## {header(table)}\n") + 1 :].split("\n## ")[0]
        rows = [line.strip("| ").split(" | ") for line in own.splitlines() if line.startswith(f"| `{key}` |")]

        assert [4] == [len(row) for row in rows], f"{table}.{key}"
        assert all(cell.strip() for cell in rows[0]), f"{table}.{key}"


def test_the_reference_names_every_field_of_an_access_line():
    """The message for an unknown field has the same list, and the example in the reference is a valid template."""
    with pytest.raises(ValueError, match="no such field") as caught:
        check_template("{no}")
    text = Path(ROOT / "docs/config.md").read_text(encoding="utf-8")
    (fields,) = re.findall(r"fields of a template are (.*?), as in", text)
    (example,) = re.findall(r"as in '(.*?)'\. Write a brace", text)
    check_template(example)

    assert fields == str(caught.value).partition("there are ")[2]


# -- documents written by hand -----------------------------------------------------------------------------------------

PAGES = [
    path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")) if path.name not in ("config.md", "metrics.md")
]
PROSE = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
DECISIONS = sorted(ROOT.glob("docs/decisions/*.md"))
SOURCES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in ROOT.glob("asgid/**/*.py")}
LEVELS = {"debug", "info", "warning", "error"}


def test_every_metric_is_in_the_reference():
    text = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")

    assert metrics.FAMILIES
    for family in metrics.FAMILIES:
        assert 1 == text.count(f"\n| `{family.name}` | {family.kind} |"), family.name


def test_every_log_event_has_a_row_for_operators():
    """docs/operations.md has a row for each event, with its level, and no row for one that is never logged."""
    logged: dict[str, set[str]] = {}
    for event, levels in chain.from_iterable(map(_logged, SOURCES.values())):
        logged[event] = logged.get(event, set()) | levels
    rows = re.findall(r"^\| `([^|]+)` \| ([a-z, ]+) \|", PROSE["docs/operations.md"], flags=re.MULTILINE)

    assert {"worker exited", "reload committed", "configuration refused", "slow request"} <= logged.keys()
    assert logged == {event: set(levels.split(", ")) for event, levels in rows}


def _logged(source: str) -> Iterator[tuple[str, set[str]]]:
    """Yield the events of a module with their levels: from `log.info("event")`, from `write("event")` if write is one
    of several such methods, and from pairs of an event and the method that logs it.
    """
    tree = ast.parse(source)
    chosen = {
        target.id: levels
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and (levels := _levels(node.value)) and not isinstance(node.value, ast.Dict)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            event = node.args[0]
            levels = chosen.get(node.func.id, set()) if isinstance(node.func, ast.Name) else _level(node.func)
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2:
            event, levels = node.elts[0], _level(node.elts[1])
        else:
            continue
        if levels and isinstance(event, ast.Constant):
            yield str(event.value), levels


def _levels(node: ast.expr) -> set[str]:
    return set().union(*(_level(part) for part in ast.walk(node) if isinstance(part, ast.Attribute)))


def _level(node: ast.expr) -> set[str]:
    """Return the level of a logging method of `log`, of the class Log, or of self in the log itself."""
    if isinstance(node, ast.Attribute) and node.attr in LEVELS:
        owner = ast.unparse(node.value).rpartition(".")[2]
        if owner in ("log", "_log", "Log", "self"):
            return {node.attr}
    return set()


def test_every_signal_is_explained():
    """docs/signals.md has the effect of each on the master, and the list that a worker ignores."""
    to_master, to_worker = PROSE["docs/signals.md"].split("\n## To a worker\n")
    explained = {
        name for cell in re.findall(r"^\| ([A-Z0-9, ]+) \|", to_master, re.MULTILINE) for name in cell.split(", ")
    }
    (ignored,) = re.findall(r"A worker ignores ([A-Z0-9, ]+) and ([A-Z0-9]+)", to_worker)

    assert {signum.name.removeprefix("SIG") for signum in signals.SIGNALS} == explained
    ours = {signum.name.removeprefix("SIG") for signum in spawn._WORKER_IGNORES if signum != DUMP}
    assert ours == {*ignored[0].split(", "), ignored[1]}


def test_every_exit_code_is_explained():
    (own,) = re.findall(r"\n## Exit codes\n(.*?)\n## ", PROSE["docs/signals.md"], re.DOTALL)

    assert list(ExitCode) == sorted(int(code) for code in re.findall(r"^\| (\d+) \|", own, re.MULTILINE))


def test_links_have_a_target():
    """The target is a file or folder of the checkout, and a heading in it."""
    links = found_in_prose(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
    broken = [(name, target, anchor) for name, (target, anchor) in links if not _is_target(name, target, anchor)]

    assert links
    assert broken == []


def _is_target(name: str, target: str, anchor: str) -> bool:
    path = (ROOT / name).parent / target if target else ROOT / name
    if not anchor:
        return path.exists()
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def found_in_prose(pattern: str) -> list[tuple[str, Any]]:
    """Return every match of `pattern` in a document, as re.findall has it, with the document's name."""
    return [(name, found) for name, text in PROSE.items() for found in re.findall(pattern, text, re.MULTILINE)]


def test_named_files_exist():
    folders = "asgid|benchmarks|docs|etc|examples|scripts|systemd|tests"
    named = found_in_prose(rf"`((?:{folders})/[\w./-]*)")

    assert named
    assert [(name, path) for name, path in named if not (ROOT / path).exists() and path not in MADE] == []


#: Files that a command makes.
MADE = {"benchmarks/RESULTS.md"}


def test_named_commands_are_in_the_makefile():
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)

    assert {"run", "test"} <= set(targets)
    assert [found for found in found_in_prose(r"(?:`|^)make ([a-z-]+)") if found[1] not in targets] == []


#: The rest of the name of an ASGI message, after `http.` or `websocket.`.
_MESSAGES = r"response\.|http\.|(?:accept|close|connect|disconnect|receive|send)\b"


def test_named_settings_exist():
    keys = {f"{table}.{key}" for table, key in NAMES}
    tables = "|".join(sorted({table.partition(".")[0] for table in TABLES}))
    named = found_in_prose(rf"`((?:{tables})\.(?!{_MESSAGES})[\w.]+)(?: = [^`]+)?`")

    assert named
    assert [(name, word) for name, word in named if word not in keys and not word.endswith(".py")] == []


def test_keys_without_effect_are_in_italics_in_the_migration_tables():
    """docs/migrating.md has these keys in italics, and no others."""
    text = PROSE["docs/migrating.md"]
    keys = {f"{table}.{key}" for table, key in NAMES}
    named = {key for key in re.findall(r"`([a-z_.]+)(?: = [^`]+)?`", text) if key in keys}
    italic = set(re.findall(r"\*`([a-zN_.AME]+)`\*", text))

    assert "tls.NAME.cert" in italic
    assert {key for key in named | italic if reserved_keys.reserved_key(key)} == italic


def test_every_failure_names_a_test_that_exists():
    """docs/failures.md has them row by row; only a missing feature may have none."""
    situations, tests = (
        dict(re.findall(r"^\| ([A-Z]{1,2}) \| (.*) \|$", part, re.MULTILINE))
        for part in PROSE["docs/failures.md"].split("\n## Where it is shown\n")
    )
    named = {row: re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cell) for row, cell in tests.items()}

    assert situations.keys() == named.keys() >= set("ABCDEFGHIJKLMNOPQRSTUV")
    assert {"J"} >= {row for row, found in named.items() if not found}
    for file, function in chain.from_iterable(named.values()):
        assert f"def {function}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{function}"


def test_the_readme_is_two_screens():
    assert len(PROSE["README.md"].splitlines()) <= 90


def test_the_readme_shows_a_valid_file():
    (text,) = re.findall(r"```toml\n(.*?)```", PROSE["README.md"], re.DOTALL)

    assert 5 == len(text.splitlines())
    assert "myapp.asgi:application" == config.parse(text, "asgid.toml").app.target


def test_the_index_of_decisions_is_complete():
    for path in DECISIONS:
        number, title = re.findall(r"^# (\d+)\. (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)[0]
        assert path.name.startswith(f"{int(number):04}-")
        assert f"| [{int(number):04}](decisions/{path.name}) | {title} |" in PROSE["docs/README.md"]


def test_each_decision_names_its_tests():
    """The tests exist, by file and by name, and a record has its four sections."""
    assert DECISIONS
    for path in DECISIONS:
        text = path.read_text(encoding="utf-8")
        *sections, tests = re.split(r"^## .*\n", text, flags=re.MULTILINE)
        headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
        named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", tests)

        assert ["Context", "Decision", "When to reconsider", "Test"] == headings, path.name
        assert all(section.strip() for section in sections), path.name
        assert named, path.name
        for file, function in named:
            assert (ROOT / file).is_file(), file
            assert not function or f"def {function}(" in (ROOT / file).read_text(encoding="utf-8"), function


def test_each_entry_of_the_changelog_is_whole():
    """A bad merge leaves parts of a sentence: no line occurs twice, and a sentence begins after each full stop."""
    _, _, text = PROSE["CHANGELOG.md"].partition("\n- ")
    entries = [entry.splitlines() for entry in text.rstrip().split("\n- ")]
    lines = [line for entry in entries for line in entry]
    pairs = [pair for entry in entries for pair in pairwise(entry)]

    assert [entry for entry in entries if not entry[-1].endswith(".")] == []
    assert [second for first, second in pairs if first.endswith(".") and second.strip()[0].islower()] == []
    assert len(lines) == len(set(lines))


def test_no_message_cites_a_document_that_is_not_installed():
    """A wheel contains only the package, so no message refers to docs/."""
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for name, source in SOURCES.items():
        nodes = list(ast.walk(ast.parse(source)))
        documentation = [ast.get_docstring(node, clean=False) for node in nodes if isinstance(node, holders)]
        texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]

        assert [text for text in texts if "docs/" in text and text not in documentation] == [], name
