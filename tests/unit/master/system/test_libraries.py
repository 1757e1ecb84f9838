"""What `pip install -U` has changed under a running master is found, and nothing else."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgid.master.system.libraries import Libraries


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that is imported, with a module of its own."""
    package = tmp_path / "asgid_tests_library"
    package.mkdir()
    (package / "__init__.py").write_text("from asgid_tests_library import part\n")
    (package / "part.py").write_text("VERSION = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    __import__(package.name)
    yield package
    for name in (package.name, f"{package.name}.part"):
        del sys.modules[name]


def test_a_library_that_is_as_it_was_is_not_named(library: Path) -> None:
    """Nor is a file that no module was imported from."""
    libraries = Libraries()
    (library / "new.py").touch()

    assert libraries.replaced() == []


@pytest.mark.parametrize("name", ["__init__.py", "part.py"])
def test_a_library_is_named_once(library: Path, name: str) -> None:
    """Whichever of its files differs, or is gone."""
    libraries = Libraries()
    (library / name).write_text("VERSION = 2  # longer\n")

    assert libraries.replaced() == ["asgid_tests_library"]

    (library / name).unlink()

    assert libraries.replaced() == ["asgid_tests_library"]


def test_what_was_replaced_before_is_not_named(library: Path) -> None:
    """The program that USR2 executes has imported it."""
    os.utime(library / "part.py", (1, 1))

    assert Libraries().replaced() == []


def test_asgid_and_what_it_imports_are_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Python's own modules one is enough."""
    libraries = Libraries()
    monkeypatch.setattr("asgid.master.system.libraries._identity", lambda _: (0, 0))

    assert {"Python", "asgid", "pydantic", "pydantic_core"} <= set(libraries.replaced())
    assert "os" not in libraries.replaced()
