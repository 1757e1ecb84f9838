"""An application is loaded, or the error names the part that is missing."""

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
    """A directory with modules; the process is restored afterwards."""
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
    "a function with any arguments": "site_of_tests:any_of",
    "in a package, with relative imports": "package.asgi:application",
    "in a plain directory within a package": "package.inner.asgi:application",
    "in a plain directory": "plain.asgi:application",
    "in a plain directory within another": "plain.deeper.asgi:application",
}


def test_a_removed_working_directory_is_an_error(directory, monkeypatch):
    """chdir(".") still works there, but the directory has no name."""
    gone = directory / "release"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    with pytest.raises(BootError, match=r"^app\.directory: '\.': No such file or directory$"):
        load(settings("site_of_tests:application", Path()))


@pytest.mark.parametrize("target", FOUND.values(), ids=FOUND.keys())
def test_load_finds_the_application(directory, target):
    found = load(settings(target, directory))
    module, _, path = target.partition(":")
    expected: object = sys.modules[module]
    for name in path.split("."):
        expected = getattr(expected, name)

    assert expected == found.app
    assert "asgi3" == found.interface


@pytest.mark.parametrize(
    "target", ["site_of_tests:factory", "site_of_tests:factory_with_defaults", "plain.deeper.asgi:create"]
)
def test_a_factory_is_called(directory, target):
    found = load(settings(target, directory, factory=True))

    assert sys.modules[target.partition(":")[0]].application is found.app


def test_directory_and_environment_are_set_before_the_import(directory, tmp_path_factory, monkeypatch):
    """The directory is the working directory and the first entry of sys.path."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    load(settings("site_of_tests:application", directory, env={"GREETING": "hello"}))

    assert directory == Path.cwd()
    assert str(directory) == sys.path[0]
    assert "hello" == sys.modules["site_of_tests"].greeting


FACTORY = {"factory": True}
#: A target, `:app` if it has no attribute -> the message.
MISSING = {
    "no module": ("no_such_module", r'no module "no_such_module" in /.* or on sys\.path$'),
    "no module, but a similar one": ("pakage", r'did you mean "package:app"\?$'),
    "no package, but a similar one": ("pakage.asgi", r'; did you mean "package\.asgi:app"\?$'),
    "no package, and no such module in a similar one": ("pakage.zzz", r'no module "pakage" in /.* or on sys\.path$'),
    "no attribute except those of Python": ("package:package", r'there is no "package" in /.*/package/__init__\.py$'),
    "no module in a package": (
        "package.agsi",
        r'no module "package\.agsi" in /.*/package; did you mean "package\.asgi:app"\?$',
    ),
    "no module in a plain directory": ("plain.xyz", r'no module "plain\.xyz" in /.*/plain$'),
    "no package": ("site_of_tests.sub", r'"site_of_tests" is /.*/site_of_tests\.py, not a package'),
    "a built-in module instead of a package": ("sys.sub", r'"sys" is a built-in module of Python, not a package$'),
    "a module that its own package imports": (
        "asks_for_itself.parts",
        r'no module "asks_for_itself\.parts" \(/.*/asks_for_itself/__init__\.py:1\)$',
    ),
    "a missing import": (
        "imports_what_is_missing",
        r'imports "not_installed_anywhere", which is not installed \(.*imports_what_is_missing\.py:2\)',
    ),
    "a missing import of another module": (
        "imports_by_the_way",
        r'"imports_by_the_way" imports "not_installed_anywhere", .* \(.*imports_what_is_missing\.py:2\)',
    ),
    "a message of the application": (
        "has_its_own_words",
        r'importing "has_its_own_words" failed: ModuleNotFoundError: pip install shop\[pdf\] \(.*_words\.py:1\)$',
    ),
    "a module without a name": (
        "has_no_name",
        r'importing "has_no_name" failed: ModuleNotFoundError: No module named shop \(.*/has_no_name\.py:1\)$',
    ),
    "a name in the settings that a library imports": (
        "reads_settings",
        r'"reads_settings" needs "pakage", which is not installed \(/.*/configured\.py:2 names it\); .* "package"\?$',
    ),
    "a name in the environment that a library imports": (
        "reads_the_environment",
        r'needs "shop", which is not installed \(SHOP_SETTINGS in the environment names it\)$',
    ),
    "a missing import of a library": (
        "uses_a_broken_library",
        r'needs "not_installed_anywhere", .* \(.*/needs_another\.py:1 imports it, called from /.*/uses_a_brok.*:3\)$',
    ),
    "the only object": (
        "one_of_a_kind",
        r'there is no "app" in /.*/one_of_a_kind\.py; did you mean "one_of_a_kind:server"\?$',
    ),
    "the only function": ("one_function", r'; did you mean "one_function:handler"\?$'),
    "the only WSGI function": ("one_of_wsgi", r'; did you mean "one_of_wsgi:server"\?$'),
    "the only factory": (
        "one_factory",
        r'; did you mean "one_factory:create_app" and factory = true in \[app\] \(--set app\.factory=true\)\?$',
    ),
    "one of two applications": ("two_of_a_kind", r'there is no "app" in /.*/two_of_a_kind\.py$'),
    "a name similar to one of two applications": ("two_of_a_kind:firs", r'did you mean "two_of_a_kind:first"\?$'),
    "an extension that cannot be loaded": (
        "uses_an_extension",
        r'importing "uses_an_extension" failed: ImportError: .*broken_extension.* \(/.*/uses_an_extension\.py:2\)$',
    ),
    "a module of its own package": (
        "package.wrong",
        r'"package\.wrong" imports "package\.part", which does not exist \(.*/package/wrong\.py:1\)',
    ),
    "a missing name in an import": (
        "imports_a_missing_name",
        r"failed: ImportError: cannot import name 'not_there' .*\(.*imports_a_missing_name\.py:1\)$",
    ),
    "an error in the module": ("raises_at_import", r"failed: RuntimeError: no database \(.*raises_at_import\.py:2\)$"),
    "SystemExit": ("leaves_at_import", r"failed: SystemExit: 3 \(.*leaves_at_import\.py:1\)"),
    "KeyboardInterrupt": ("is_interrupted", r"failed: KeyboardInterrupt \(.*is_interrupted\.py:2\)$"),
    "another BaseException": ("ends_its_own_way", r"failed: End: of it \(.*ends_its_own_way\.py:2\)$"),
    "an error without a message": ("says_nothing", r"failed: RuntimeError \(.*says_nothing\.py:1\)$"),
    "an error that cannot be shown": (
        "cannot_say",
        r"failed: Broken: it cannot be shown: SystemExit \(.*/cannot_say\.py:3\)$",
    ),
    "an import error that cannot be shown": (
        "cannot_say_what_it_imports",
        r"failed: Broken: it cannot be shown: TypeError \(.*/cannot_say_what_it_imports\.py:3\)$",
    ),
    "a syntax error without a file": ("cannot_say_where", r"failed: SyntaxError: no .*\(.*/cannot_say_where\.py:1\)$"),
    "a long message": ("says_too_much", r"failed: RuntimeError: (word ){60}\.\.\. \(.*py:1\)$"),
    "an error of a frozen module": (
        "asks_what_is_frozen",
        r"failed: TypeError: expected str, .* \(.*/asks_what_is_frozen\.py:3\)$",
    ),
    "a setting": (
        "needs_a_setting",
        r"failed: ValidationError: 1 .* for Settings address Field required .* \(.*/needs_a_setting\.py:5\)$",
    ),
    "a library within the directory": (
        "uses_a_library",
        r"failed: RuntimeError: of a library \(.*/uses_a_library\.py:4\)$",
    ),
    "null bytes": ("has_nulls", r'failed: SyntaxError: .*null bytes \(in "has_nulls"\)$'),
    "null bytes in an imported module": ("imports_nulls", r"failed: SyntaxError: .* \(.*/imports_nulls\.py:2\)$"),
    "null bytes in the package": ("begins_with_nulls.asgi", r'null bytes \(in "begins_with_nulls"\)$'),
    "a syntax error in exec": (
        "runs_what_is_no_python",
        r"failed: SyntaxError: .* \(.*/runs_what_is_no_python\.py:2\)$",
    ),
    "a syntax error": ("is_no_python", r"failed: SyntaxError: .* \(.*is_no_python\.py:1\)"),
    "no attribute": (
        "site_of_tests:aplication",
        r'no "aplication" in /.*/site_of_tests\.py; did you mean "site_of_tests:application"\?$',
    ),
    "no similar attribute": ("site_of_tests:xyz", r'there is no "xyz" in /.*/site_of_tests\.py$'),
    "no attribute of a built-in module": ("sys", r'there is no "app" in a built-in module of Python$'),
    "no attribute of an attribute": (
        "site_of_tests:holder.iner",
        r'no "iner" in "site_of_tests:holder"; did you mean "site_of_tests:holder\.inner"\?$',
    ),
    "a module instead of an attribute": ("package:asgi", r'"asgi" is a module .*; write "package\.asgi:application"$'),
    "a dot instead of a colon": ("package:asgi.application", r'write "package\.asgi:application"$'),
    "a plain directory": (
        "plain:application",
        r'/plain, a folder without __init__\.py; did you mean "plain\.asgi:application"\?$',
    ),
    "a property that fails": ("site_of_tests:instance.broken", r'reading "broken" failed: KeyError: .*:\d+\)$'),
    "a property that interrupts": (
        "site_of_tests:interrupted.reading",
        r'reading "reading" failed: KeyboardInterrupt \(.*:\d+\)$',
    ),
    "not callable": ("site_of_tests:number", r'"site_of_tests:number" is of type int, which cannot be called$'),
    "nothing": ("site_of_tests:nothing", r'"site_of_tests:nothing" is None, which cannot be called$'),
    "a module": (
        "package.asgi:parts",
        r'is of type module, which cannot be called; write the name of the application after "package\.parts:"$',
    ),
    "a method without an object": ("site_of_tests:Made.method", r"a method without an object: name the method"),
    "a class that makes applications": (
        "site_of_tests:Made",
        r"; name an instance of it, or write factory = true in \[app\] \(--set app\.factory=true\) to create one$",
    ),
    "a factory without the setting": (
        "site_of_tests:factory",
        r"if it is a factory, write factory = true in \[app\] \(--set app\.factory=true\)$",
    ),
}
#: An attribute of site_of_tests, with app.factory -> the message.
FACTORIES = {
    "a factory that fails": ("broken_factory", r"failed: ValueError: no settings \(.*:\d+\)"),
    "a factory that exits": ("leaving_factory", r"failed: SystemExit: 2"),
    "a factory that is interrupted": ("interrupted_factory", r"failed: KeyboardInterrupt \("),
    "a factory of a factory": (
        "factory_of_a_factory",
        r'the result of the factory "site_of_tests:factory_of_a_factory" takes no argument: it is not .*_response\)$',
    ),
    "a factory of a class": (
        "factory_of_a_class",
        r"result of the factory .* is a class that takes no argument: it is not .*; let the factory return an instance",
    ),
    "a factory of an ambiguous function": (
        "factory_in_doubt",
        r'factory_in_doubt" takes request=None, which is ambiguous; .* interface = "consumer" .* if it takes message$',
    ),
    "a factory of a number": ("strange_factory", r"the result of the factory .* is of type int, which can"),
    "a factory of nothing": ("empty_factory", r'the result of the factory "site_of_tests:empty_factory" is None'),
    "an async factory": ("async_factory", r"is async, but must return .* itself; .*lifespan"),
    "a factory with arguments": (
        "factory_with_arguments",
        r"takes arguments, but is called without any \(missing .*'settings'\)",
    ),
    "an application with the setting of a factory": (
        "application",
        r"takes arguments, .* \(missing .*'scope'\); if it is the application, remove app\.factory$",
    ),
    "an async factory with arguments": (
        "async_factory_with_arguments",
        r"takes arguments, but is called without any \(missing .*'settings'\)",
    ),
    "a number instead of a factory": ("number", r"is of type int, which cannot be called, but app\.factory is true$"),
}


@pytest.mark.parametrize(
    ("target", "message", "others"),
    [
        *((target if ":" in target else f"{target}:app", message, {}) for target, message in MISSING.values()),
        *((f"site_of_tests:{name}", message, FACTORY) for name, message in FACTORIES.values()),
    ],
    ids=[*MISSING, *FACTORIES],
)
def test_a_boot_error_names_the_missing_part(directory, target, message, others):
    with pytest.raises(BootError, match=message) as caught:
        load(settings(target, directory, env={"SHOP_SETTINGS": "shop.production"}, **others))

    assert str(caught.value).startswith("app.target: ")
    assert "\n" not in str(caught.value)


HINTS = [
    # target, other settings
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
    """The suggested target, with the suggested lines of [app], can be loaded."""
    with pytest.raises(BootError) as caught:
        load(settings(target, directory, **others))
    error = str(caught.value)
    suggestion = re.search(r'(?:did you mean|write) "([\w.]+:[\w.]+)"', error)
    changes = {} if "remove app.factory" in error else others
    if "factory = true in [app] (--set app.factory=true)" in error:
        changes = FACTORY

    assert suggestion or changes != others, error
    load(settings(suggestion[1] if suggestion else target, directory, **changes))


def test_an_error_for_a_missing_module_names_unreadable_directories(directory):
    """Python skips such a directory without an error, and its modules seem not to be installed."""
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

    assert re.search(rf"is not installed \(.*\); uid \d+ may not read .*{closed}$", str(imported.value))
    assert re.search(rf"or on sys\.path; uid \d+ may not read .*{closed}$", str(named.value))


def test_an_error_has_no_suggestion_if_difflib_cannot_be_read(directory, monkeypatch):
    """`process.user` may not read the standard library."""
    monkeypatch.setitem(sys.modules, "difflib", None)

    with pytest.raises(BootError, match=r'there is no "aplication" in .*site_of_tests\.py$'):
        load(settings("site_of_tests:aplication", directory))


def test_an_error_for_a_module_without_its_package_names_the_package(directory):
    """Its relative imports need the directory above."""
    with pytest.raises(BootError, match=r"failed: ImportError: .*no known parent package") as caught:
        load(settings("asgi:application", directory / "package"))

    assert str(caught.value).endswith(
        f'write target = "package.asgi:application" and directory = "{directory}" in [app]'
    )


@pytest.mark.parametrize("module", ["asks_what_is_frozen", "asks_the_standard_library"])
def test_the_place_of_an_error_may_be_outside_the_directory(directory, tmp_path_factory, module):
    """An application may be anywhere on sys.path, if it is not a library."""
    sys.path.insert(0, str(directory))

    with pytest.raises(BootError, match=rf"\(.*/{module}\.py:3\)$"):
        load(settings(f"{module}:app", tmp_path_factory.mktemp("elsewhere")))


def test_a_place_in_the_directory_comes_first(directory, tmp_path_factory):
    """An editable install of a library looks like the application, except for its place."""
    sys.path.insert(0, str(directory))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "uses_another.py").write_text("import raises_at_import\n")

    with pytest.raises(BootError, match=r"\(.*/uses_another\.py:1\)$"):
        load(settings("uses_another:app", elsewhere))


def test_the_place_of_an_error_may_be_in_an_installed_application(directory):
    """Its package is installed as a library."""
    sys.path.insert(0, str(directory / "environment/lib/site-packages"))

    with pytest.raises(BootError, match=r"of a library \(.*/site-packages/installed_for_tests\.py:1\)$"):
        load(settings("installed_for_tests:fail", directory, factory=True))


def test_a_missing_directory_is_an_error(directory):
    with pytest.raises(BootError, match=r"app\.directory: '.*/nowhere': No such file or directory"):
        load(settings("site_of_tests:application", directory / "nowhere"))
