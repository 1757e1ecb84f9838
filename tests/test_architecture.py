"""The imports between modules, and the modules that may end or fork a process: read from the source, with the line of
each offence."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

ROOT = Path(__file__).parent.parent
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted((ROOT / "asgid").rglob("*.py"))
}
TREES = {name: ast.parse(file.read_text()) for name, file in FILES.items()}

PURE = (
    *("command_signals", "errors", "board", "wire", "address"),
    *(
        "config",
        "config.value_types",
        "config.text_types",
        "config.reserved_keys",
        "config.suggestions",
        "config.document",
        "config.cross_checks",
    ),
    *(
        "config.toml_lines",
        "config.reference",
        "config.tables",
        "config.spelling",
        "config.translation",
        "config.other_servers",
        "config.options",
    ),
    *(
        "master.supervision.lifecycle",
        "master.supervision.supervisor",
        "master.supervision.backoff",
        "master.supervision.generations",
        "master.status.exposition",
    ),
    *(
        "master.status.metrics",
        "master.workers.ledger",
        "master.supervision.steps",
        "master.supervision.state",
        "master.workers.process_state",
        "master.supervision.rollout",
        "master.supervision.upgrade",
        "master.replace.handover",
        "master.status.snapshot",
        "master.status.history",
        "master.net.listener_state",
        "master.supervision.recycling",
        "worker.http.request_limit",
        "worker.net.connection_limit",
        "worker.net.peers",
        "worker.http1.request_syntax",
        "worker.http1.framing",
        "worker.http1.chunked",
        "worker.http1.phases",
        "worker.http.fields",
        "worker.http.forwarded",
        "worker.net.proxy_header",
        "worker.http.scope",
        "worker.http1.response_head",
        "worker.asgi",
        "worker.http.response",
        "worker.websocket.handshake",
        "worker.websocket.deflate",
        "worker.websocket.fragments",
        "worker.websocket.decoder",
        "worker.websocket.frames",
    ),
)
IMPURE = {"os", "socket", "selectors", "time", "asyncio", "logging", "random", "subprocess"}
#: The only module that may import the library of an extra -> that library.
EXTRAS = {"asgid.gunicorn": "gunicorn", "asgid.worker.websocket.mask": "websockets"}
NOT_IN_THE_MASTER = {"asyncio", "threading", "concurrent", "multiprocessing"}


Node: TypeAlias = ast.stmt | ast.expr


def shown(module: str, node: Node) -> str:
    """Return the place and the text of a line, in the format of a compiler."""
    file = FILES[module]
    return f"{file.relative_to(ROOT)}:{node.lineno}: {file.read_text().splitlines()[node.lineno - 1].strip()}"


def imports(module: str) -> Iterator[tuple[Node, str]]:
    """Yield each import with its full name: a module, or a name in a module.

    Imports inside functions and those for type checkers count too: they show what a file depends on.
    """
    nodes: list[ast.AST] = [TREES[module]]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from ((node, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{shown(module, node)}: write the full name"
            yield from ((node, f"{node.module}.{name.name}") for name in node.names)
        else:
            nodes += ast.iter_child_nodes(node)


def ours(name: str) -> str | None:
    """Return the module of asgid that an import of `name` loads."""
    return next((each for each in (name, name.rpartition(".")[0]) if each in TREES), None)


def part(name: str) -> str:
    """Return the half of a module, "master" or "worker"; "" for all others."""
    words = [*name.split("."), ""]
    return words[1] if words[0] == "asgid" and words[1] in ("master", "worker") else ""


def mentions(module: str) -> Iterator[tuple[Node, str]]:
    """Yield each use of a name, dotted such as `os.fork` or bare, except exceptions that are only caught."""
    handlers = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.ExceptHandler) and node.type]
    caught = {id(part) for handler in handlers for part in ast.walk(handler.type or handler)}
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Attribute | ast.Name) and id(node) not in caught:
            yield node, ast.unparse(node)


def test_imports_make_no_cycle():
    graph = {name: {ours(brought) for _, brought in imports(name)} - {None, name} for name in TREES}

    def walk(path: tuple[str, ...]) -> None:
        if path[-1] in path[:-1]:
            pytest.fail("cycle: " + " -> ".join(path[path.index(path[-1]) :]))
        for following in graph[path[-1]] - done:
            walk((*path, str(following)))
        done.add(path[-1])

    done: set[str | None] = set()
    for name in graph:
        walk((name,))


#: The folders of each half, lowest first. A file imports from its own folder and from lower ones.
ORDER = {
    "worker": (
        {"asgi", "tracebacks", "forked"},
        {"net"},
        {"http"},
        {"http1"},
        {"websocket"},
        {"app"},
        {"process"},
        {"server"},
        {"main"},
    ),
    "master": (
        {"supervision", "system", "net"},
        {"listeners"},
        {"workers"},
        {"status"},
        {"replace"},
        {"resources"},
        {"reload"},
        {"loop"},
        {"main"},
    ),
}


def level(module: str) -> int | None:
    """Return the place of a module's folder in the order of its half."""
    words = module.split(".")
    if part(module) not in ORDER or len(words) == 2:
        return None
    return next(place for place, names in enumerate(ORDER[words[1]]) if words[2] in names)


@pytest.mark.parametrize("module", [name for name in TREES if level(name) is not None])
def test_a_folder_imports_only_from_lower_ones(module):
    """A reader of one folder needs no folder above it."""
    for node, name in imports(module):
        brought = ours(name)
        if brought and part(brought) == part(module) and (other := level(brought)) is not None:
            assert other <= (level(module) or 0), shown(module, node)


def test_only_the_command_line_imports_master_and_worker():
    """The halves never import each other. Under gunicorn, which is the master there, one module imports the worker."""
    for module in TREES:
        sides = {part(module)} | {part(name) for _, name in imports(module)} - {""}
        offending = [shown(module, node) for node, name in imports(module) if part(name) and part(name) != part(module)]

        assert module in ("asgid.cli", "asgid.gunicorn") or not offending, "\n".join(offending)
        assert ("master" in sides and "worker" in sides) == (module == "asgid.cli"), module


def test_an_imported_library_is_a_dependency():
    """The tests install more libraries, so an import of one of those would fail only for users."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {
        re.split(r"\W", each)[0]
        for extra in ("gunicorn", "speedups")
        for each in project["optional-dependencies"][extra]
    }
    assert extras == set(EXTRAS.values())
    listed = {re.split(r"\W", each.replace("-", "_"))[0] for each in project["dependencies"]}
    known = {"asgid", "pydantic_core", *listed, *sys.stdlib_module_names}  # pydantic_core comes with pydantic
    for module in TREES:
        for node, name in imports(module):
            assert name.partition(".")[0] in known | {EXTRAS.get(module)}, shown(module, node)


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_no_clock_descriptor_process_or_log(module):
    """Not directly, and not through another module of asgid: time and the outside world are arguments."""
    seen: set[str] = set()
    todo = {f"asgid.{module}"}
    while todo - seen:
        seen.add(name := (todo - seen).pop())
        for node, brought in imports(name):
            assert brought.partition(".")[0] not in IMPURE, shown(name, node)
            todo |= {found for found in [ours(brought)] if found}


def test_the_master_imports_no_threads_and_no_asyncio():
    """So fork is safe, no signal waits, and every stack is readable."""
    for module in (name for name in TREES if part(name) == "master"):
        for node, name in imports(module):
            assert name.partition(".")[0] not in NOT_IN_THE_MASTER, shown(module, node)


@pytest.mark.parametrize(
    ("names", "owners"),
    [
        ({"sys.exit", "exit", "quit"}, {"asgid.cli"}),
        ({"SystemExit"}, {"asgid.cli", "asgid.worker.forked"}),
        ({"os.fork", "os.forkpty"}, {"asgid.master.workers.spawn"}),
        ({"os._exit"}, {"asgid.master.workers.spawn", "asgid.worker.forked"}),
        ({"os.execvpe", "os.execve", "os.posix_spawn", "os.posix_spawnp"}, {"asgid.master.replace.new_program"}),
    ],
)
def test_only_owners_end_or_fork_a_process(names, owners):
    """This includes a function that is imported by its name."""
    for module in TREES:
        found = [shown(module, node) for node, name in (*mentions(module), *imports(module)) if name in names]

        assert module in owners or not found, found[0]
        assert module not in owners or found, f"{module} is an owner without a use"


@pytest.mark.parametrize("module", TREES)
def test_a_module_begins_with_its_purpose(module):
    """The first paragraph of its docstring is a sentence."""
    text = ast.get_docstring(TREES[module])

    assert text, f"{module} has no docstring"
    assert text.split("\n\n")[0].endswith((".", ":", "?")), f"{module}: {text.splitlines()[0]}"
