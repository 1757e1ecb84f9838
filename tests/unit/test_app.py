"""An application is found, or what is missing is said by part."""

import os
import sys
from pathlib import Path

import pytest

from asgid import config
from asgid.errors import BootError
from asgid.worker.app import load

MODULE = """
import os
async def application(scope, receive, send): ...
class Made:
    async def __call__(self, scope, receive, send): ...
class Old:
    def __init__(self, scope): ...
instance = Made()
class holder:
    inner = instance
number = 5
greeting = os.environ.get("GREETING", "")
def factory(): return application
def broken_factory(): raise ValueError("no\\nsettings")
def leaving_factory(): raise SystemExit(2)
def strange_factory(): return 5
async def two(scope, receive): ...
def any_of(*args): ...
"""


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """A directory with modules; the process is as before afterwards."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.chdir(tmp_path)
    files = {
        "site_of_tests.py": MODULE,
        "raises_at_import.py": "x = 1\nraise RuntimeError('no\\ndatabase')\n",
        "leaves_at_import.py": "raise SystemExit(3)\n",
        "imports_what_is_missing.py": "import os\nimport not_installed_anywhere\n",
        "is_no_python.py": "x = (\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def settings(target: str, directory: Path, **others: object) -> config.App:
    return config.App.model_validate({"target": target, "directory": str(directory), **others})


FOUND = ["application", "instance", "holder.inner", "any_of"]


@pytest.mark.parametrize("attribute", FOUND)
def test_an_application_is_found(directory, attribute):
    """A function, an object, a dotted name, and what takes anything."""
    found = load(settings(f"site_of_tests:{attribute}", directory), 1).app
    module = sys.modules["site_of_tests"]

    assert (module.holder.inner if "." in attribute else getattr(module, attribute)) is found


def test_a_factory_is_called(directory):
    """What it returns is the application."""
    found = load(settings("site_of_tests:factory", directory, factory=True), 1).app

    assert sys.modules["site_of_tests"].application is found


def test_the_directory_and_the_environment_are_there_before_the_import(directory, tmp_path_factory, monkeypatch):
    """The directory is the working directory and the first to be searched."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    load(settings("site_of_tests:application", directory, env={"GREETING": "hello"}), 1)

    assert directory == Path.cwd()
    assert str(directory) == sys.path[0]
    assert "hello" == sys.modules["site_of_tests"].greeting


MISSING = {
    "no module": ("no_such_module:app", {}, r'no module "no_such_module" in /.* or on sys\.path'),
    "no submodule": ("site_of_tests.sub:app", {}, r'no module "site_of_tests\.sub"'),
    "what it imports": (
        "imports_what_is_missing:app",
        {},
        r'imports "not_installed_anywhere", which is not installed \(.*imports_what_is_missing\.py:2\)',
    ),
    "an error in it": ("raises_at_import:app", {}, r"failed: RuntimeError: no \(.*raises_at_import\.py:2\)"),
    "it leaves": ("leaves_at_import:app", {}, r"failed: SystemExit: 3 \(.*leaves_at_import\.py:1\)"),
    "no Python": ("is_no_python:app", {}, r"failed: SyntaxError: .* \(.*is_no_python\.py:1\)"),
    "no attribute": ("site_of_tests:aplication", {}, r'no "aplication" in it; did you mean "application"\?'),
    "no attribute like it": ("site_of_tests:xyz", {}, r'there is no "xyz" in it$'),
    "no attribute of an attribute": ("site_of_tests:holder.outer", {}, r'there is no "outer" in it'),
    "not callable": ("site_of_tests:number", {}, r"is int and not callable; an ASGI application is"),
    "a factory not said to be one": ("site_of_tests:factory", {}, r"is it a factory\? then set app\.factory = true"),
    "too few arguments": ("site_of_tests:two", {}, r"does not take scope, receive, send: it is no ASGI 3 application$"),
    "an ASGI 2 class": ("site_of_tests:Old", {}, r"it is no ASGI 3 application"),
    "a factory that fails": ("site_of_tests:broken_factory", {"factory": True}, r"failed: ValueError: no \(.*:\d+\)"),
    "a factory that leaves": ("site_of_tests:leaving_factory", {"factory": True}, r"failed: SystemExit: 2"),
    "a factory of nothing": ("site_of_tests:strange_factory", {"factory": True}, r"is int and not callable"),
    "no factory": ("site_of_tests:number", {"factory": True}, r"not callable, and app\.factory says"),
}


@pytest.mark.parametrize(("target", "others", "why"), MISSING.values(), ids=MISSING.keys())
def test_what_is_missing_is_said(directory, target, others, why):
    """In one line, with the part of the target that is wrong and the place in the application."""
    with pytest.raises(BootError, match=why) as caught:
        load(settings(target, directory, **others), 1)

    assert str(caught.value).startswith("app.target: ")
    assert "\n" not in str(caught.value)


def test_a_directory_that_is_not_there_is_said(directory):
    """With its name and the system's reason."""
    with pytest.raises(BootError, match=r"app\.directory: '.*/nowhere': No such file or directory"):
        load(settings("site_of_tests:application", directory / "nowhere"), 1)
