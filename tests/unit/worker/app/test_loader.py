"""An application is found, or what is missing is said by part."""

import os
import re
import sys
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from asgid import config
from asgid.errors import BootError
from asgid.worker.app.loader import load
from tests.rights import without_rights

MODULE = """
import os
async def application(scope, receive, send): ...
class Made:
    async def __call__(self, scope, receive, send): ...
    async def method(self, scope, receive, send): ...
    @classmethod
    async def of_class(cls, scope, receive, send): ...
    @property
    def broken(self): raise KeyError("settings")
instance = Made()
class holder:
    inner = instance
number = 5
nothing = None
greeting = os.environ.get("GREETING", "")
def factory(): return application
def factory_with_defaults(debug=False): return application
def factory_with_arguments(settings): return application
async def async_factory(): return application
def empty_factory(): pass
def broken_factory(): raise ValueError("no\\nsettings")
def leaving_factory(): raise SystemExit(2)
def strange_factory(): return 5
def any_of(*args): ...
def factory_of_a_factory(): return factory
def factory_of_a_class(): return Made
def factory_in_doubt(): return lambda request=None: None
def interrupted_factory(): raise KeyboardInterrupt
async def async_factory_with_arguments(settings): return application
class Interrupted:
    @property
    def reading(self): raise KeyboardInterrupt
interrupted = Interrupted()
"""
APPLICATION = "async def application(scope, receive, send): ...\n"
FILES = {
    "site_of_tests.py": MODULE,
    "raises_at_import.py": "x = 1\nraise RuntimeError('no\\ndatabase')\n",
    "leaves_at_import.py": "raise SystemExit(3)\n",
    "imports_what_is_missing.py": "import os\nimport not_installed_anywhere\n",
    "imports_a_missing_name.py": "from os import not_there\n",
    "imports_by_the_way.py": "import imports_what_is_missing\n",
    "is_no_python.py": "x = (\n",
    "is_interrupted.py": "x = 1\nraise KeyboardInterrupt\n",
    "ends_its_own_way.py": "class End(BaseException): pass\nraise End('of it')\n",
    "says_nothing.py": "raise RuntimeError\n",
    "cannot_say.py": "class Broken(Exception):\n    def __str__(self): raise SystemExit\nraise Broken\n",
    "cannot_say_what_it_imports.py": (
        "class Broken(ModuleNotFoundError):\n    def __str__(self): return 5\nraise Broken(name=5)\n"
    ),
    "cannot_say_where.py": "raise SyntaxError('no', (5, 1, 1, ''))\n",
    "says_too_much.py": "raise RuntimeError('word ' * 100)\n",
    "asks_what_is_frozen.py": "import os\n\nos.fsdecode(5)\n",
    "asks_the_standard_library.py": "import json\n\njson.loads('{')\n",
    "needs_a_setting.py": (
        "import pydantic\nclass Settings(pydantic.BaseModel):\n    address: str\n\nsettings = Settings()\n"
    ),
    "has_nulls.py": "x = 1\0\n",
    "imports_nulls.py": "import os\nimport has_nulls\n",
    "runs_what_is_no_python.py": "x = 1\nexec('x = (')\n",
    "begins_with_nulls/__init__.py": "\0",
    "begins_with_nulls/asgi.py": APPLICATION,
    "environment/lib/site-packages/installed_for_tests.py": "def fail(): raise RuntimeError('of a library')\n",
    "uses_a_library.py": (
        "import sys\nsys.path.append('environment/lib/site-packages')\n"
        "import installed_for_tests\ninstalled_for_tests.fail()\n"
    ),
    "has_its_own_words.py": "raise ModuleNotFoundError('pip install shop[pdf]', name='weasyprint')\n",
    "has_no_name.py": "raise ModuleNotFoundError('No module named shop')\n",
    "reads_settings.py": "import configured, sys\nsys.path.append('environment/lib/site-packages')\n"
    "import imports_by_name\nimports_by_name.all_of(configured.PARTS)\n",
    "reads_the_environment.py": "import os, sys\nsys.path.append('environment/lib/site-packages')\n"
    "import imports_by_name\nimports_by_name.all_of([os.environ['SHOP_SETTINGS']])\n",
    "configured.py": "PARTS = [\n    'pakage.parts',\n]\n",
    "environment/lib/site-packages/imports_by_name.py": (
        "import importlib\ndef all_of(names): return [importlib.import_module(each) for each in names]\n"
    ),
    "environment/lib/site-packages/needs_another.py": "import not_installed_anywhere\n",
    "uses_a_broken_library.py": (
        "import sys\nsys.path.append('environment/lib/site-packages')\nimport needs_another\n"
    ),
    "one_of_a_kind.py": (
        "import os\nfrom site_of_tests import Made, factory\ndef add(a, b, c): ...\nserver = Made()\nlimit = 5\n"
    ),
    "one_function.py": "async def handler(scope, receive, send): ...\ndef add(a, b, c): ...\n",
    "one_of_wsgi.py": "def server(environ, start_response): ...\n",
    "one_factory.py": (
        "def create_app(debug=False):\n    async def made(scope, receive, send): ...\n"
        "    return made\ndef helper(): ...\n"
    ),
    "two_of_a_kind.py": "from site_of_tests import Made\nfirst = Made()\nsecond = Made()\n",
    f"broken_extension{EXTENSION_SUFFIXES[0]}": "not a shared object",
    "uses_an_extension.py": "import os\nimport broken_extension\n",
    "package/__init__.py": "",
    "package/asgi.py": f"from . import parts\nfrom .parts import name\n{APPLICATION}",
    "package/parts.py": "name = 'parts'\n",
    "package/wrong.py": "from .part import name\n",
    "package/inner/asgi.py": f"from ..parts import name\n{APPLICATION}",
    "asks_for_itself/__init__.py": "import asks_for_itself.parts\n",
    "plain/asgi.py": APPLICATION,
    "plain/deeper/asgi.py": f"def create(): return application\n{APPLICATION}",
}


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """A directory with modules; the process is as before afterwards."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def settings(target: str, directory: Path, **others: object) -> config.Config:
    return config.Config.model_validate({"app": {"target": target, "directory": str(directory), **others}})


FOUND = {
    "a function": "site_of_tests:application",
    "an object": "site_of_tests:instance",
    "a dotted name": "site_of_tests:holder.inner",
    "an object's method": "site_of_tests:instance.method",
    "a class's method": "site_of_tests:Made.of_class",
    "what takes anything": "site_of_tests:any_of",
    "in a package, with relative imports": "package.asgi:application",
    "in a plain directory within a package": "package.inner.asgi:application",
    "in a plain directory": "plain.asgi:application",
    "in a plain directory within another": "plain.deeper.asgi:application",
}


def test_a_working_directory_that_was_removed_is_said(directory, monkeypatch):
    """It can still be changed to as ".", and has no name any more."""
    gone = directory / "release"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    with pytest.raises(BootError, match=r"^app\.directory: '\.': No such file or directory$"):
        load(settings("site_of_tests:application", Path()))


@pytest.mark.parametrize("target", FOUND.values(), ids=FOUND.keys())
def test_an_application_is_found(directory, target):
    """Wherever it is: it is served as it is."""
    found = load(settings(target, directory))
    module, _, path = target.partition(":")
    there: object = sys.modules[module]
    for name in path.split("."):
        there = getattr(there, name)

    assert there == found.app
    assert "asgi3" == found.interface


@pytest.mark.parametrize(
    "target", ["site_of_tests:factory", "site_of_tests:factory_with_defaults", "plain.deeper.asgi:create"]
)
def test_a_factory_is_called(directory, target):
    """What it returns is the application."""
    found = load(settings(target, directory, factory=True))

    assert sys.modules[target.partition(":")[0]].application is found.app


def test_the_directory_and_the_environment_are_there_before_the_import(directory, tmp_path_factory, monkeypatch):
    """The directory is the working directory and the first to be searched."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    load(settings("site_of_tests:application", directory, env={"GREETING": "hello"}))

    assert directory == Path.cwd()
    assert str(directory) == sys.path[0]
    assert "hello" == sys.modules["site_of_tests"].greeting


FACTORY = {"factory": True}
MISSING = {
    "no module": ("no_such_module:app", {}, r'no module "no_such_module" in /.* or on sys\.path$'),
    "no module, but one like it": ("pakage:app", {}, r'did you mean "package:app"\?$'),
    "no package, but one like it": ("pakage.asgi:app", {}, r'; did you mean "package\.asgi:app"\?$'),
    "no package, and no module in one like it": ("pakage.zzz:app", {}, r'no module "pakage" in /.* or on sys\.path$'),
    "no attribute but what Python adds": ("package:package", {}, r'there is no "package" in /.*/package/__init__\.py$'),
    "no module in a package": (
        "package.agsi:app",
        {},
        r'no module "package\.agsi" in /.*/package; did you mean "package\.asgi:app"\?$',
    ),
    "no module in a plain directory": ("plain.xyz:app", {}, r'no module "plain\.xyz" in /.*/plain$'),
    "no package": ("site_of_tests.sub:app", {}, r'"site_of_tests" is /.*/site_of_tests\.py, not a package'),
    "no package, but Python itself": ("sys.sub:app", {}, r'"sys" is a module of Python itself, not a package$'),
    "a module that its own package asks for": (
        "asks_for_itself.parts:app",
        {},
        r'no module "asks_for_itself\.parts" \(/.*/asks_for_itself/__init__\.py:1\)$',
    ),
    "what it imports": (
        "imports_what_is_missing:app",
        {},
        r'imports "not_installed_anywhere", which is not installed \(.*imports_what_is_missing\.py:2\)',
    ),
    "what another imports": (
        "imports_by_the_way:app",
        {},
        r'"imports_by_the_way" imports "not_installed_anywhere", .* \(.*imports_what_is_missing\.py:2\)',
    ),
    "words of its own": (
        "has_its_own_words:app",
        {},
        r'importing "has_its_own_words" failed: ModuleNotFoundError: pip install shop\[pdf\] \(.*_words\.py:1\)$',
    ),
    "a module without a name": (
        "has_no_name:app",
        {},
        r'importing "has_no_name" failed: ModuleNotFoundError: No module named shop \(.*/has_no_name\.py:1\)$',
    ),
    "what a library imports by the application's settings": (
        "reads_settings:app",
        {},
        r'"reads_settings" needs "pakage", which is not installed \(/.*/configured\.py:2 names it\); .* "package"\?$',
    ),
    "what a library imports by the environment": (
        "reads_the_environment:app",
        {"env": {"SHOP_SETTINGS": "shop.production"}},
        r'needs "shop", which is not installed \(SHOP_SETTINGS in the environment names it\)$',
    ),
    "what a library imports": (
        "uses_a_broken_library:app",
        {},
        r'needs "not_installed_anywhere", .* \(.*/needs_another\.py:1 imports it, called from /.*/uses_a_brok.*:3\)$',
    ),
    "the only object that can be served": (
        "one_of_a_kind:app",
        {},
        r'there is no "app" in /.*/one_of_a_kind\.py; did you mean "one_of_a_kind:server"\?$',
    ),
    "the only function that can be served": ("one_function:app", {}, r'; did you mean "one_function:handler"\?$'),
    "the only function that can be served, of WSGI": (
        "one_of_wsgi:app",
        {},
        r'; did you mean "one_of_wsgi:server"\?$',
    ),
    "the only factory": (
        "one_factory:app",
        {},
        r'; did you mean "one_factory:create_app" and factory = true in \[app\] \(--set app\.factory=true\)\?$',
    ),
    "one of two that can be served": ("two_of_a_kind:app", {}, r'there is no "app" in /.*/two_of_a_kind\.py$'),
    "one of two that can be served, almost": ("two_of_a_kind:firs", {}, r'did you mean "two_of_a_kind:first"\?$'),
    "an extension that cannot be loaded": (
        "uses_an_extension:app",
        {},
        r'importing "uses_an_extension" failed: ImportError: .*broken_extension.* \(/.*/uses_an_extension\.py:2\)$',
    ),
    "a module of its own package": (
        "package.wrong:app",
        {},
        r'"package\.wrong" imports "package\.part", which does not exist \(.*/package/wrong\.py:1\)',
    ),
    "a name that it imports": (
        "imports_a_missing_name:app",
        {},
        r"failed: ImportError: cannot import name 'not_there' .*\(.*imports_a_missing_name\.py:1\)$",
    ),
    "an error in it": ("raises_at_import:app", {}, r"failed: RuntimeError: no database \(.*raises_at_import\.py:2\)$"),
    "it leaves": ("leaves_at_import:app", {}, r"failed: SystemExit: 3 \(.*leaves_at_import\.py:1\)"),
    "it is interrupted": ("is_interrupted:app", {}, r"failed: KeyboardInterrupt \(.*is_interrupted\.py:2\)$"),
    "it ends in its own way": ("ends_its_own_way:app", {}, r"failed: End: of it \(.*ends_its_own_way\.py:2\)$"),
    "an error without words": ("says_nothing:app", {}, r"failed: RuntimeError \(.*says_nothing\.py:1\)$"),
    "an error that cannot be shown": (
        "cannot_say:app",
        {},
        r"failed: Broken: it cannot be shown: SystemExit \(.*/cannot_say\.py:3\)$",
    ),
    "an error of an import that cannot be shown": (
        "cannot_say_what_it_imports:app",
        {},
        r"failed: Broken: it cannot be shown: TypeError \(.*/cannot_say_what_it_imports\.py:3\)$",
    ),
    "an error that cannot say where": (
        "cannot_say_where:app",
        {},
        r"failed: SyntaxError: no .*\(.*/cannot_say_where\.py:1\)$",
    ),
    "an error of too many words": ("says_too_much:app", {}, r"failed: RuntimeError: (word ){60}\.\.\. \(.*py:1\)$"),
    "an error of a frozen module": (
        "asks_what_is_frozen:app",
        {},
        r"failed: TypeError: expected str, .* \(.*/asks_what_is_frozen\.py:3\)$",
    ),
    "a setting": (
        "needs_a_setting:app",
        {},
        r"failed: ValidationError: 1 .* for Settings address Field required .* \(.*/needs_a_setting\.py:5\)$",
    ),
    "a library within the directory": (
        "uses_a_library:app",
        {},
        r"failed: RuntimeError: of a library \(.*/uses_a_library\.py:4\)$",
    ),
    "no text": ("has_nulls:app", {}, r'failed: SyntaxError: .*null bytes \(in "has_nulls"\)$'),
    "no text in what it imports": ("imports_nulls:app", {}, r"failed: SyntaxError: .* \(.*/imports_nulls\.py:2\)$"),
    "no text in its package": ("begins_with_nulls.asgi:app", {}, r'null bytes \(in "begins_with_nulls"\)$'),
    "no Python in what it runs": (
        "runs_what_is_no_python:app",
        {},
        r"failed: SyntaxError: .* \(.*/runs_what_is_no_python\.py:2\)$",
    ),
    "no Python": ("is_no_python:app", {}, r"failed: SyntaxError: .* \(.*is_no_python\.py:1\)"),
    "no attribute": (
        "site_of_tests:aplication",
        {},
        r'no "aplication" in /.*/site_of_tests\.py; did you mean "site_of_tests:application"\?$',
    ),
    "no attribute like it": ("site_of_tests:xyz", {}, r'there is no "xyz" in /.*/site_of_tests\.py$'),
    "no attribute of Python itself": ("sys:app", {}, r'there is no "app" in a module of Python itself$'),
    "no attribute of an attribute": (
        "site_of_tests:holder.iner",
        {},
        r'no "iner" in "site_of_tests:holder"; did you mean "site_of_tests:holder\.inner"\?$',
    ),
    "a module for an attribute": ("package:asgi", {}, r'"asgi" is a module .*; write "package\.asgi:application"$'),
    "a dot for a colon": ("package:asgi.application", {}, r'write "package\.asgi:application"$'),
    "a plain directory": (
        "plain:application",
        {},
        r'/plain, a folder without __init__\.py; did you mean "plain\.asgi:application"\?$',
    ),
    "a property that fails": ("site_of_tests:instance.broken", {}, r'reading "broken" failed: KeyError: .*:\d+\)$'),
    "a property that interrupts": (
        "site_of_tests:interrupted.reading",
        {},
        r'reading "reading" failed: KeyboardInterrupt \(.*:\d+\)$',
    ),
    "not callable": ("site_of_tests:number", {}, r'"site_of_tests:number" is of type int, which cannot be called$'),
    "nothing": ("site_of_tests:nothing", {}, r'"site_of_tests:nothing" is None, which cannot be called$'),
    "a module": (
        "package.asgi:parts",
        {},
        r'is of type module, which cannot be called; name what is in it, after "package\.parts:"$',
    ),
    "a method without its object": ("site_of_tests:Made.method", {}, r"a method without its object: name an instance"),
    "a class that makes applications": (
        "site_of_tests:Made",
        {},
        r"; name an object of it, or write factory = true in \[app\] \(--set app\.factory=true\) to have one made$",
    ),
    "a factory not said to be one": (
        "site_of_tests:factory",
        {},
        r"is it a factory\? then write factory = true in \[app\] \(--set app\.factory=true\)$",
    ),
    "a factory that fails": ("site_of_tests:broken_factory", FACTORY, r"failed: ValueError: no settings \(.*:\d+\)"),
    "a factory that leaves": ("site_of_tests:leaving_factory", FACTORY, r"failed: SystemExit: 2"),
    "a factory that is interrupted": ("site_of_tests:interrupted_factory", FACTORY, r"failed: KeyboardInterrupt \("),
    "a factory of a factory": (
        "site_of_tests:factory_of_a_factory",
        FACTORY,
        r'what the factory "site_of_tests:factory_of_a_factory" returned takes no argument: it is no .*_response\)$',
    ),
    "a factory of a class": (
        "site_of_tests:factory_of_a_class",
        FACTORY,
        r"returned is a class that takes no argument: it is no .*; let the factory return an object of it$",
    ),
    "a factory of what is in doubt": (
        "site_of_tests:factory_in_doubt",
        FACTORY,
        r'returned takes request=None, which could .* interface = "consumer" .* if it takes message$',
    ),
    "a factory of a number": (
        "site_of_tests:strange_factory",
        FACTORY,
        r"factory .* returned is of type int, which can",
    ),
    "a factory of nothing": ("site_of_tests:empty_factory", FACTORY, r'"site_of_tests:empty_factory" returned is None'),
    "a factory that waits": (
        "site_of_tests:async_factory",
        FACTORY,
        r"is async: it has to return .* itself; .*lifespan",
    ),
    "a factory of something": (
        "site_of_tests:factory_with_arguments",
        FACTORY,
        r"takes arguments, and is called without any \(missing .*'settings'\)",
    ),
    "an application said to be a factory": (
        "site_of_tests:application",
        FACTORY,
        r"takes arguments, .* \(missing .*'scope'\); is it the application\? then leave app\.factory out$",
    ),
    "an async factory of something": (
        "site_of_tests:async_factory_with_arguments",
        FACTORY,
        r"takes arguments, and is called without any \(missing .*'settings'\)",
    ),
    "no factory": ("site_of_tests:number", FACTORY, r"is of type int, which cannot be called, and app\.factory says"),
}


@pytest.mark.parametrize(("target", "others", "why"), MISSING.values(), ids=MISSING.keys())
def test_what_is_missing_is_said(directory, target, others, why):
    """In one line, with the part of the target that is wrong and the place in the application."""
    with pytest.raises(BootError, match=why) as caught:
        load(settings(target, directory, **others))

    assert str(caught.value).startswith("app.target: ")
    assert "\n" not in str(caught.value)


HINTS = [
    # target, and what else is set; what is asked or told to write in place of it
    ("pakage.asgi:application", {}),
    ("package.agsi:application", {}),
    ("site_of_tests:aplication", {}),
    ("site_of_tests:holder.iner", {}),
    ("package:asgi", {}),
    ("package:asgi.application", {}),
    ("plain:application", {}),
    ("one_of_a_kind:app", {}),
    ("one_function:app", {}),
    ("one_factory:app", {}),
    ("site_of_tests:factory", {}),
    ("site_of_tests:Made", {}),
    ("site_of_tests:application", FACTORY),
]


@pytest.mark.parametrize(("target", "others"), HINTS, ids=str)
def test_a_hint_works_as_it_is_printed(directory, target, others):
    """The target that is named, and the lines of [app] with it, are those of an application that is there."""
    with pytest.raises(BootError) as caught:
        load(settings(target, directory, **others))
    told = str(caught.value)
    meant = re.search(r'(?:did you mean|write) "([\w.]+:[\w.]+)"', told)
    changes = {} if "leave app.factory out" in told else others
    if "factory = true in [app] (--set app.factory=true)" in told:
        changes = FACTORY

    assert meant or changes != others, told
    load(settings(meant[1] if meant else target, directory, **changes))


def test_a_directory_that_may_not_be_read_is_said_where_a_module_is_missing(directory):
    """Python passes over it in silence, and what is in it seems not to be installed."""
    with tempfile.TemporaryDirectory(prefix="asgid-") as name:
        shared, closed = Path(name), Path(name, "closed")
        (closed / "inner").mkdir(parents=True)
        (shared / "needs_it.py").write_text("import inner.part\n")
        shared.chmod(0o755)
        closed.chmod(0)
        sys.path.append(str(closed / "inner"))
        with without_rights():
            with pytest.raises(BootError) as imported:
                load(settings("needs_it:app", shared))
            with pytest.raises(BootError) as named:
                load(settings("zzz:app", shared))
        closed.chmod(0o700)

    assert re.search(rf"is not installed \(.*\); uid \d+ may not look into .*{closed}$", str(imported.value))
    assert re.search(rf"or on sys\.path; uid \d+ may not look into .*{closed}$", str(named.value))


def test_what_is_missing_is_said_also_where_python_itself_may_not_be_read(directory, monkeypatch):
    """Without a guess then: the guesses are Python's."""
    monkeypatch.setitem(sys.modules, "difflib", None)

    with pytest.raises(BootError, match=r'there is no "aplication" in .*site_of_tests\.py$'):
        load(settings("site_of_tests:aplication", directory))


def test_a_module_taken_out_of_its_package_is_told_where_it_belongs(directory):
    """Its relative imports lead nowhere until the directory is the one above."""
    with pytest.raises(BootError, match=r"failed: ImportError: .*no known parent package") as caught:
        load(settings("asgi:application", directory / "package"))

    assert str(caught.value).endswith(
        f'write target = "package.asgi:application" and directory = "{directory}" in [app]'
    )


@pytest.mark.parametrize("module", ["asks_what_is_frozen", "asks_the_standard_library"])
def test_outside_the_directory_the_place_is_in_what_is_no_library(directory, tmp_path_factory, module):
    """An application may lie anywhere on sys.path."""
    sys.path.insert(0, str(directory))

    with pytest.raises(BootError, match=rf"\(.*/{module}\.py:3\)$"):
        load(settings(f"{module}:app", tmp_path_factory.mktemp("elsewhere")))


def test_the_directory_comes_before_what_else_may_be_a_library(directory, tmp_path_factory):
    """Such as what is installed to be edited: nothing but its place tells it from the application."""
    sys.path.insert(0, str(directory))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "uses_another.py").write_text("import raises_at_import\n")

    with pytest.raises(BootError, match=r"\(.*/uses_another\.py:1\)$"):
        load(settings("uses_another:app", elsewhere))


def test_where_only_a_library_is_the_place_is_in_it(directory):
    """As for an application that is installed, whose package is its home."""
    sys.path.insert(0, str(directory / "environment/lib/site-packages"))

    with pytest.raises(BootError, match=r"of a library \(.*/site-packages/installed_for_tests\.py:1\)$"):
        load(settings("installed_for_tests:fail", directory, factory=True))


def test_a_directory_that_is_not_there_is_said(directory):
    """With its name and the system's reason."""
    with pytest.raises(BootError, match=r"app\.directory: '.*/nowhere': No such file or directory"):
        load(settings("site_of_tests:application", directory / "nowhere"))
