"""Libraries that `pip install -U` replaced under a running master are found, and no others."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgid.master.system.libraries import Libraries


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An imported package with a module."""
    package = tmp_path / "asgid_tests_library"
    package.mkdir()
    (package / "__init__.py").write_text("from asgid_tests_library import part\n")
    (package / "part.py").write_text("VERSION = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    __import__(package.name)
    yield package
    for name in (package.name, f"{package.name}.part"):
        del sys.modules[name]


def test_an_unchanged_library_is_not_reported(library: Path) -> None:
    """A new file that was never imported does not count."""
    libraries = Libraries()
    (library / "new.py").touch()

    assert libraries.replaced() == []


@pytest.mark.parametrize("name", ["__init__.py", "part.py"])
def test_a_replaced_library_is_reported_once(library: Path, name: str) -> None:
    """If any of its files differs or is missing."""
    libraries = Libraries()
    (library / name).write_text("VERSION = 2  # longer\n")

    assert libraries.replaced() == ["asgid_tests_library"]

    (library / name).unlink()

    assert libraries.replaced() == ["asgid_tests_library"]


def test_a_library_that_was_replaced_before_the_import_is_not_reported(library: Path) -> None:
    """The program that USR2 executes has imported the new one."""
    os.utime(library / "part.py", (1, 1))

    assert Libraries().replaced() == []


def test_asgid_and_its_imports_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """One module stands for the standard library."""
    libraries = Libraries()
    monkeypatch.setattr("asgid.master.system.libraries._identity", lambda _: (0, 0))

    assert {"Python", "asgid", "pydantic", "pydantic_core"} <= set(libraries.replaced())
    assert "os" not in libraries.replaced()
