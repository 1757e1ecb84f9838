"""Writes the generated parts of docs/architecture.md: the table of files, and the states of a client's connection.

The text outside the markers is written by hand. The purpose of a file is the first sentence of its module, and its
purity is the list in tests/test_architecture.py.
"""

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

from asgid.worker.http1 import phases as http1
from asgid.worker.websocket import protocol
from tests.test_architecture import PURE, TREES, imports, ours

#: The folders of the package in reading order. Those of a half are in the order of their imports.
FOLDERS = (
    "asgid",
    "asgid.config",
    "asgid.master.supervision",
    "asgid.master.system",
    "asgid.master.net",
    "asgid.master.workers",
    "asgid.master.status",
    "asgid.master.replace",
    "asgid.master",
    "asgid.worker.net",
    "asgid.worker.http",
    "asgid.worker.http1",
    "asgid.worker.websocket",
    "asgid.worker.app",
    "asgid.worker.process",
    "asgid.worker",
)
PAGE = Path(__file__).with_name("architecture.md")
_PART = re.compile(r"(?<=<!-- )(\w+)(: `make docs` writes [^\n]* -->\n\n).*?(?=<!-- end -->)", re.DOTALL)


def page() -> str:
    """Return the page with current generated parts; all other text stays."""
    return _PART.sub(lambda part: f"{part[1]}{part[2]}{PARTS[part[1]]()}\n", PAGE.read_text(encoding="utf-8"))


def files() -> str:
    """Return a table for each folder, in the order of FOLDERS. A file comes after those that it imports."""
    folders: dict[str, list[str]] = {folder: [] for folder in FOLDERS}
    for module in TREES:
        if module not in folders:
            folders[module.rpartition(".")[0]].append(module)  # a KeyError here: add the folder to FOLDERS
    return "\n".join(_table(folder, _in_order(modules)) for folder, modules in folders.items())


def _in_order(modules: Iterable[str]) -> list[str]:
    known = sorted(modules)
    needed = {module: {ours(name) for _, name in imports(module)} for module in known}
    sorter = TopologicalSorter({module: sorted(needed[module] & set(known) - {module}) for module in known})
    sorter.prepare()
    found: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        sorter.done(*ready)
        found += ready
    return found


def _table(folder: str, modules: Iterable[str]) -> str:
    rows = [f"| `{_file(module)}` | {'P' if _is_pure(module) else ''} | {_purpose(module)} |" for module in modules]
    head = (f"**`{folder.replace('.', '/')}/`**: {_purpose(folder)}", "", "| file | | purpose |", "|---|---|---|")
    return "\n".join((*head, *rows, ""))


def _file(module: str) -> str:
    return f"{module.rpartition('.')[2]}.py"


def _is_pure(module: str) -> bool:
    return module.removeprefix("asgid.") in PURE


def _purpose(module: str) -> str:
    """Return the first sentence of a module's docstring, in one line."""
    first = (ast.get_docstring(TREES[module]) or "").split("\n\n")[0]
    return " ".join(first.split()).replace("|", "\\|")


def connection() -> str:
    """Return the table of the phases of an HTTP/1.1 connection."""
    return _states(
        (phase.name, wait.awaited, f"`timeouts.{wait.timeout}`" if wait.timeout else "none", wait.at_deadline)
        for phase, wait in http1.PHASES.items()
    )


def websocket() -> str:
    """Return the table of the phases of a WebSocket."""
    return _states(
        (phase.name, wait.awaited, wait.timeout or "none", wait.at_deadline or "-")
        for phase, wait in protocol.PHASES.items()
    )


def _states(rows: Iterable[tuple[str, str, str, str]]) -> str:
    lines = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join(("| phase | waits for | deadline | at the deadline |", "|---|---|---|---|", *lines, ""))


PARTS: Mapping[str, Callable[[], str]] = {"files": files, "connection": connection, "websocket": websocket}
