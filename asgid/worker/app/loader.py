"""Loads the application "module:attr"; a BootError names the part that is missing, and often the fix.

A user can type each hint of a message as it is printed.
"""

import importlib
import inspect
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from types import ModuleType

from asgid.app_finder import FoundApp, find_application, is_factory_name, source_file
from asgid.config import Config
from asgid.errors import BootError
from asgid.worker.app.interface import FACTORY_SETTING, LoadedApp, adapt, describe, is_application
from asgid.worker.tracebacks import AppFiles, fault_frame, one_line, relevant_frames


def load(config: Config) -> LoadedApp:
    """Import the target, call it if it is a factory, and return it as an ASGI 3 application. Raises BootError.

    Before the import, `env` is added to the environment, and `app.directory` becomes the working directory and the
    first entry of sys.path.
    """
    settings = config.app
    os.environ.update(settings.env)
    try:
        os.chdir(settings.directory)
        sys.path.insert(0, os.getcwd())  # "." may be a directory that was removed since the start, without a name
    except OSError as error:
        raise BootError(f"app.directory: {settings.directory!r}: {error.strerror}") from error
    files = AppFiles.from_target(settings.target)
    module_name, _, path = settings.target.partition(":")
    found = _get_attribute(_import_module(module_name, path, files), path, files)
    if settings.factory:
        found = _call_factory(found, settings.target, files)
    if not callable(found):
        name = describe(settings.target, config)
        raise BootError(
            f"app.target: {name} is {_describe_type(found)}, which cannot be called{_suggest_attribute(found)}"
        )
    return adapt(found, settings.target, config)


# The module


def _import_module(name: str, path: str, files: AppFiles) -> ModuleType:
    try:
        return importlib.import_module(name)
    except BaseException as error:  # an import may raise anything
        raise BootError(f"app.target: {_describe_failure(name, path, error, files)}") from error


def _describe_failure(name: str, path: str, error: BaseException, files: AppFiles) -> str:
    if missing := _missing_module(error):
        if name == missing or name.startswith(f"{missing}."):
            return _describe_missing_module(missing, name, path, error, files)
        return f'"{name}" {_describe_missing_import(name, missing, error, files)}'
    # The module that failed is `name`, or a package around it.
    names = accumulate(name.split("."), "{}.{}".format)
    failed = next((each for each in names if each not in sys.modules), name)
    place = _location_of(error, files, f'in "{failed}"')
    return f'importing "{name}" failed: {one_line(error)} ({place}){_package_hint(name, path, error)}'


def _missing_module(error: BaseException) -> str:
    """Return the module that Python did not find; "" if the message is not Python's: then the message is shown."""
    with suppress(BaseException):  # the class of the error may be the application's, and raise anything
        found = error.name if isinstance(error, ModuleNotFoundError) else None
        if isinstance(found, str) and str(error).startswith(f"No module named {found!r}"):
            return found
    return ""


def _describe_missing_import(name: str, missing: str, error: BaseException, files: AppFiles) -> str:
    """Describe a missing module that the application imports, or a library, perhaps by a name in the settings."""
    is_own = name.partition(".")[0] == missing.partition(".")[0]
    fault = "does not exist" if is_own else "is not installed"
    importer, place = next(reversed(relevant_frames(error)), None), fault_frame(error, files)
    if importer is None or place is None or (importer.filename, importer.lineno) == (place.filename, place.lineno):
        return f'imports "{missing}", which {fault} ({_location_of(error, files)}){_module_hint(missing)}'
    if naming := _origin_of_name(missing, error, files):
        return f'needs "{missing}", which {fault} ({naming} names it){_module_hint(missing)}'
    way = f"{_file_and_line(importer)} imports it, called from {_file_and_line(place)}"
    return f'needs "{missing}", which {fault} ({way}){_unreadable_note(missing)}'


def _origin_of_name(missing: str, error: BaseException, files: AppFiles) -> str:
    """Return the origin of a module name that a library imports: a line of the application, or a variable."""
    names = [frame.filename for frame in relevant_frames(error)]
    names += [file for module in [*sys.modules.values()] if isinstance(file := _file(module), str)]
    quoted = re.compile(rf"""["']{re.escape(missing)}(?:[.:][\w.:]*)?["']""")
    for file in dict.fromkeys(filter(files.contains, names)):
        with suppress(OSError, UnicodeDecodeError):
            for number, line in enumerate(Path(file).read_text().splitlines(), 1):
                if quoted.search(line):
                    return f"{file}:{number}"
    variable = next((key for key, value in os.environ.items() if f"{value}.".startswith(f"{missing}.")), "")
    return f"{variable} in the environment" if variable else ""


def _file(module: object) -> object:
    return vars(module).get("__file__") if isinstance(module, ModuleType) else None


def _describe_missing_module(name: str, whole: str, path: str, error: BaseException, files: AppFiles) -> str:
    """Describe where module `name` was searched; `whole` is the module of the target, `path` its attribute."""
    inner, parent = whole.removeprefix(name), name.rpartition(".")[0]
    if not parent:
        return f'there is no module "{name}" in {os.getcwd()} or on sys.path{_module_hint(name, inner, path)}'
    package = sys.modules.get(parent)
    if package is None:  # the package itself imports the module, and so its import failed
        return f'there is no module "{name}" ({_location_of(error, files)})'
    if not hasattr(package, "__path__"):
        return f'there is no module "{name}": "{parent}" is {_file_name(package)}, not a package'
    return f'there is no module "{name}" in {", ".join(package.__path__)}{_module_hint(name, inner, path)}'


def _module_hint(name: str, inner: str = "", path: str = "") -> str:
    """Return a suggestion of a module with a similar name, in the working directory or in the same package.

    `inner` is a submodule that the suggested module must have; `path` is the attribute of a target. Without such a
    module, return the note about unreadable directories.
    """
    parent, _, last = name.rpartition(".")
    places = getattr(sys.modules.get(parent), "__path__", None) if parent else [os.getcwd()]
    near = _nearest(last, (each.name for each in pkgutil.iter_modules(places)), 0.7) if places else ""
    if not near or (inner and not any(source_file(f"{near}{inner}", Path(place)) for place in places or ())):
        return _unreadable_note(name)
    whole = f"{parent}.{near}{inner}" if parent else f"{near}{inner}"
    return f'; did you mean "{f"{whole}:{path}" if path else whole}"?'


def _unreadable_note(name: str) -> str:
    """Return a note with the directories that this user may not search for a module.

    Python skips them without an error, for example a virtual environment below /root after the change to
    `process.user`.
    """
    package = sys.modules.get(name.rpartition(".")[0])
    unreadable = dict.fromkeys(filter(None, map(_first_unreadable, getattr(package, "__path__", sys.path))))
    return f"; uid {os.geteuid()} may not read {', '.join(unreadable)}" if unreadable else ""


def _first_unreadable(place: str) -> str:
    """Return the first directory of the path `place` that this user may not read, "" without one."""
    path = Path(place).absolute()
    for each in (*reversed(path.parents), path):
        if not each.is_dir():
            return ""
        if not os.access(each, os.R_OK | os.X_OK if each == path else os.X_OK, effective_ids=True):
            return str(each)
    return ""


def _package_hint(name: str, path: str, error: BaseException) -> str:
    """Return a hint if the module belongs to a package: its relative imports fail without it."""
    if not (isinstance(error, ImportError) and "no known parent package" in one_line(error)):
        return ""
    above, package = os.path.split(os.getcwd())
    return f'; it is part of a package: write target = "{package}.{name}:{path}" and directory = "{above}" in [app]'


# The attribute


def _get_attribute(module: ModuleType, path: str, files: AppFiles) -> object:
    found, known = module, module.__name__
    for number, name in enumerate(path.split(".")):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            rest = ".".join(path.split(".")[number + 1 :])
            raise BootError(f"app.target: {_describe_missing_attribute(found, known, name, rest)}") from error
        except BaseException as error:  # a property, or the __getattr__ of a module, may raise anything
            raise BootError(
                f'app.target: reading "{name}" failed: {one_line(error)} ({_location_of(error, files)})'
            ) from error
        known += f"{'.' if number else ':'}{name}"
    return found


def _describe_missing_attribute(found: object, known: str, name: str, rest: str) -> str:
    """Describe a missing attribute and suggest a submodule of that name, the only application, or a similar name.

    `rest` is the part of the target after `name`.
    """
    if not isinstance(found, ModuleType):
        near = _nearest(name, dir(found))
        return f'there is no "{name}" in "{known}"' + (f'; did you mean "{known}.{near}"?' if near else "")
    spec = find_spec(f"{found.__name__}.{name}") if hasattr(found, "__path__") else None
    if spec:
        file = Path(spec.origin) if spec.origin else None
        return f'"{name}" is a module of the package "{known}"; {_instruct(f"{known}.{name}", file, rest)}'
    if hasattr(found, "__path__") and found.__file__ is None:
        folders = ", ".join(found.__path__)
        modules = [
            each.name for each in pkgutil.iter_modules(found.__path__) if each.name in ("asgi", "app", "main", name)
        ]
        guesses = [(each, _application_name(folders, each)) for each in modules]
        suggestion = next((f'; did you mean "{known}.{each}:{guess}"?' for each, guess in guesses if guess), "")
        return f'there is no "{name}" in {folders}, a folder without __init__.py{suggestion or ": name a module in it"}'
    return f'there is no "{name}" in {_file_name(found)}{_suggest(found, name)}'


def _application_name(folder: str, module: str) -> str:
    guess = find_application(Path(folder, f"{module}.py"))
    return guess.attribute if guess and not guess.is_factory else ""


def _instruct(module: str, file: Path | None, attribute: str = "") -> str:
    """Return the instruction to name the application in a module, which may not be imported yet."""
    guess = FoundApp(attribute) if attribute else find_application(file) if file else None
    if guess is None:
        return f'write the name of the application after "{module}:"'
    return f'write "{module}:{guess.attribute}"' + (f" and {FACTORY_SETTING}" if guess.is_factory else "")


def _suggest(module: ModuleType, name: str) -> str:
    """Return a suggestion from a module: (1) an application with a similar name, (2) its only application, (3) its only
    factory, (4) any callable with a similar name.
    """
    there = {key: value for key, value in vars(module).items() if not key.startswith("_")}
    served = [key for key, value in there.items() if is_application(value, module.__name__)]
    made = [key for key, value in there.items() if is_factory_name(key) and inspect.isfunction(value)]
    if suggested := _nearest(name, served) or (served[0] if len(served) == 1 else ""):
        return f'; did you mean "{module.__name__}:{suggested}"?'
    if not served and len(made) == 1:
        return f'; did you mean "{module.__name__}:{made[0]}" and {FACTORY_SETTING}?'
    near = _nearest(name, (key for key, value in there.items() if callable(value)))
    return f'; did you mean "{module.__name__}:{near}"?' if near else ""


def _suggest_attribute(found: object) -> str:
    if not isinstance(found, ModuleType):
        return ""
    file = _file(found)
    name = next((each for each in ("application", "app") if callable(getattr(found, each, None))), "")
    return f"; {_instruct(found.__name__, Path(file) if isinstance(file, str) else None, name)}"


# The factory


def _call_factory(factory: object, target: str, files: AppFiles) -> object:
    if not callable(factory):
        raise BootError(
            f'app.target: "{target}" is {_describe_type(factory)}, which cannot be called, but app.factory is true'
        )
    _check_factory(factory, target)
    try:
        return factory()
    except BaseException as error:
        raise BootError(
            f'app.target: the factory "{target}" failed: {one_line(error)} ({_location_of(error, files)})'
        ) from error


def _check_factory(factory: Callable[..., object], target: str) -> None:
    try:
        inspect.signature(factory).bind()
    except TypeError as error:  # checked before async: an application, named by mistake, is mostly async
        raise BootError(
            f'app.target: the factory "{target}" takes arguments, but is called without any ({error}); '
            "if it is the application, remove app.factory"
        ) from error
    except ValueError:  # of C code
        return
    if inspect.iscoroutinefunction(factory):
        raise BootError(
            f'app.target: the factory "{target}" is async, but must return the application itself; '
            "await in the lifespan startup of the application instead"
        )


# Texts


def _file_name(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or "a built-in module of Python"


def _describe_type(found: object) -> str:
    return "None" if found is None else f"of type {type(found).__name__}"


def _nearest(name: str, names: Iterable[str], min_ratio: float = 0.6) -> str:
    """Return the name that is the most similar, "" without one."""
    try:
        from difflib import get_close_matches  # noqa: PLC0415 - only mistakes need it
    except ImportError:  # `process.user` may not read this Python
        return ""
    return next(iter(get_close_matches(name, names, 1, min_ratio)), "")


def _location_of(error: BaseException, files: AppFiles, unknown: str = "place unknown") -> str:
    """Return the last line of the application in the traceback, or the line with a syntax error."""
    if isinstance(error, SyntaxError) and isinstance(file := error.filename, str) and file and file[0] != "<":
        return f"{file}:{error.lineno}"
    place = fault_frame(error, files)
    return _file_and_line(place) if place else unknown


def _file_and_line(place: traceback.FrameSummary) -> str:
    return f"{place.filename}:{place.lineno}"
