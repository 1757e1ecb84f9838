"""Fixtures of all tests: a running asgid, and its log after a failure."""

import compileall
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from asgid import descriptors
from tests.daemon import Daemon

Start = Callable[..., Daemon]

ASGID = Path(__file__).parent.parent / "asgid"

# An example may take any time: by default more than 200 ms are a failure, and most of them may belong to other
# processes.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")


@pytest.fixture(scope="session", autouse=True)
def _compiled() -> None:
    """Compile asgid, as pip does when it installs: otherwise each worker of an editable installation compiles it during
    its boot.

    The daemons of these tests must not write bytecode (`tests.daemon.ENVIRONMENT`), so it must be there before they
    start. It halves the CPU time of a boot, to 20 ms.
    """
    compileall.compile_dir(ASGID, quiet=1)


@pytest.fixture(autouse=True)
def _nothing_held() -> Iterator[None]:
    """Close the logs, sockets and listeners of asgid that a test leaves open: one process runs thousands of tests."""
    kept = descriptors.listed()
    yield
    descriptors.close_all_but(kept)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start daemons: `start("module:attr", timeouts={...})`. They end with the test; their directory stays.

    `program` is the asgid of another environment, `prefix` a command that executes it; it inherits `descriptors` and
    `environment`.
    """
    with ExitStack() as stack:
        yield lambda *target, **tables: _new(stack, tmp_path, *target, **tables).start()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Start]:
    """As `start`, without waiting: for daemons that never become ready."""
    with ExitStack() as stack:
        yield lambda *target, **tables: _new(stack, tmp_path, *target, **tables).launch()


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """As `start`, for a whole module; its tests do not change the daemon."""
    with ExitStack() as stack:
        directory = tmp_path_factory.mktemp("shared")
        yield lambda *target, **tables: _new(stack, directory, *target, **tables).start()


def _new(stack: ExitStack, directory: Path, target: str = "hello:application", **tables: Any) -> Daemon:
    home = directory / f"asgid-{len(list(directory.iterdir()))}"
    home.mkdir()
    app = {"target": target} | tables.pop("app", {})
    program, prefix, descriptors = tables.pop("program", None), tables.pop("prefix", ()), tables.pop("descriptors", ())
    environment = tables.pop("environment", {})
    daemon = stack.enter_context(Daemon(home, {"app": app, **tables}))
    daemon.program, daemon.prefix = program, prefix
    daemon.descriptors, daemon.environment = descriptors, environment
    return daemon


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for daemon in Daemon.running:
            report.sections.append((f"asgid in {daemon.directory}", daemon.log_text()[-20_000:]))
    return report
