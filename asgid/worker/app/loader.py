""" "module:attr" -> an application, ready to be served. BootError names the part that is missing.

A hint in a message works when it is typed as printed.
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
    """Import the target, call it if it is a factory, and make ASGI 3 of it. Raises BootError with one clear message.

    Before that, `env` is added to the environment, and the directory becomes the working directory and the first entry
    of sys.path.
    """
    settings = config.app
    os.environ.update(settings.env)
    try:
        os.chdir(settings.directory)
        sys.path.insert(0, os.getcwd())  # "." may be a directory that was removed since the start, and has no name
    except OSError as error:
        raise BootError(f"app.directory: {settings.directory!r}: {error.strerror}") from error
    home = AppFiles.from_target(settings.target)
    module_name, _, path = settings.target.partition(":")
    found = _attribute(_module(module_name, path, home), path, home)
    if settings.factory:
        found = _call_factory(found, settings.target, home)
    if not callable(found):
        name = describe(settings.target, config)
        raise BootError(
            f"app.target: {name} is {_describe_type(found)}, which cannot be called{_suggest_attribute(found)}"
        )
    return adapt(found, settings.target, config)


# The module


def _module(name: str, path: str, home: AppFiles) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = _missing(error)
        if not missing:
            raise BootError(f"app.target: {_failed(name, path, error, home)}") from error
        if name == missing or name.startswith(f"{missing}."):
            raise BootError(f"app.target: {_no_module(missing, name, path, error, home)}") from error
        raise BootError(f'app.target: "{name}" {_needs(name, missing, error, home)}') from error
    except BaseException as error:  # whatever an import may do
        raise BootError(f"app.target: {_failed(name, path, error, home)}") from error


def _failed(name: str, path: str, error: BaseException, home: AppFiles) -> str:
    place = _where(error, home, f'in "{_unfinished(name)}"')
    return f'importing "{name}" failed: {one_line(error)} ({place}){_package(name, path, error)}'


def _missing(error: ModuleNotFoundError) -> str:
    """Return the module that Python did not find, "" if the error has other words than Python's: those are shown."""
    with suppress(BaseException):  # it may be of the application's own class, and fail at anything
        if isinstance(error.name, str) and str(error).startswith(f"No module named {error.name!r}"):
            return error.name
    return ""


def _needs(name: str, missing: str, error: ModuleNotFoundError, home: AppFiles) -> str:
    """Describe a module that is imported by the application, or by a library: the name may be in its settings then."""
    is_own = name.partition(".")[0] == missing.partition(".")[0]
    fault = "does not exist" if is_own else "is not installed"
    hint = _unreadable_note(missing)
    importer, place = next(reversed(relevant_frames(error)), None), fault_frame(error, home)
    if importer is None or place is None or (importer.filename, importer.lineno) == (place.filename, place.lineno):
        return f'imports "{missing}", which {fault} ({_where(error, home)}){_near_module(missing) or hint}'
    if naming := _naming(missing, error, home):
        return f'needs "{missing}", which {fault} ({naming} names it){_near_module(missing) or hint}'
    way = f"{_at(importer)} imports it, called from {_at(place)}"
    return f'needs "{missing}", which {fault} ({way}){hint}'


def _naming(missing: str, error: BaseException, home: AppFiles) -> str:
    """Return the place that gives a library the name to import: a line of the application, or the environment."""
    files = [frame.filename for frame in relevant_frames(error)]
    files += [file for module in [*sys.modules.values()] if isinstance(file := _file(module), str)]
    quoted = re.compile(rf"""["']{re.escape(missing)}(?:[.:][\w.:]*)?["']""")
    for file in dict.fromkeys(filter(home.contains, files)):
        with suppress(OSError, UnicodeDecodeError):
            for number, line in enumerate(Path(file).read_text().splitlines(), 1):
                if quoted.search(line):
                    return f"{file}:{number}"
    variable = next((key for key, value in os.environ.items() if f"{value}.".startswith(f"{missing}.")), "")
    return f"{variable} in the environment" if variable else ""


def _file(module: object) -> object:
    return vars(module).get("__file__") if isinstance(module, ModuleType) else None


def _unfinished(name: str) -> str:
    """Return the module that failed, which may be a package around the one that was asked for."""
    parts = accumulate(name.split("."), "{}.{}".format)
    return next((each for each in parts if each not in sys.modules), name)


def _no_module(name: str, whole: str, path: str, error: ModuleNotFoundError, home: AppFiles) -> str:
    """Describe where it was looked for; a module that is not a package has nothing in it. `whole` is the module of the
    target, and `path` what the target names in it.
    """
    inner = whole.removeprefix(name)
    parent = name.rpartition(".")[0]
    if not parent:
        hint = _near_module(name, inner, path) or _unreadable_note(name)
        return f'there is no module "{name}" in {os.getcwd()} or on sys.path{hint}'
    package = sys.modules.get(parent)
    if package is None:  # it was the package itself that asked for it, and failed with it
        return f'there is no module "{name}" ({_where(error, home)})'
    if not hasattr(package, "__path__"):
        return f'there is no module "{name}": "{parent}" is {_place(package)}, not a package'
    hint = _near_module(name, inner, path) or _unreadable_note(name)
    return f'there is no module "{name}" in {", ".join(package.__path__)}{hint}'


def _near_module(name: str, inner: str = "", path: str = "") -> str:
    """Return a question for a module with a name like it, of the application's directory or of the same package.

    `inner` is the module that is wanted in it, and has to be there; `path` is what a target names in that.
    """
    parent, _, last = name.rpartition(".")
    places = getattr(sys.modules.get(parent), "__path__", None) if parent else [os.getcwd()]
    near = _near(last, (each.name for each in pkgutil.iter_modules(places)), 0.7) if places else ""
    if not near or (inner and not any(source_file(f"{near}{inner}", Path(place)) for place in places or ())):
        return ""
    whole = f"{parent}.{near}{inner}" if parent else f"{near}{inner}"
    return f'; did you mean "{f"{whole}:{path}" if path else whole}"?'


def _unreadable_note(name: str) -> str:
    """Name the directories that kept this user from looking for a module: Python passes over them in silence, as over
    an environment below /root once the worker has become `process.user`.
    """
    package = sys.modules.get(name.rpartition(".")[0])
    closed = dict.fromkeys(filter(None, map(_first_unreadable, getattr(package, "__path__", sys.path))))
    return f"; uid {os.geteuid()} may not look into {', '.join(closed)}" if closed else ""


def _first_unreadable(place: str) -> str:
    """Return what on the way to `place` is closed to this user, "" where nothing is, or where there is no such way."""
    way = Path(place).absolute()
    for each in (*reversed(way.parents), way):
        if not each.is_dir():
            return ""
        if not os.access(each, os.R_OK | os.X_OK if each == way else os.X_OK, effective_ids=True):
            return str(each)
    return ""


def _package(name: str, path: str, error: BaseException) -> str:
    """Return a hint where a module was taken out of its package: then its relative imports lead nowhere."""
    if not (isinstance(error, ImportError) and "no known parent package" in one_line(error)):
        return ""
    above, package = os.path.split(os.getcwd())
    return f'; it is part of a package: write target = "{package}.{name}:{path}" and directory = "{above}" in [app]'


# The attribute


def _attribute(module: ModuleType, path: str, home: AppFiles) -> object:
    found, known = module, module.__name__
    for number, name in enumerate(path.split(".")):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            rest = ".".join(path.split(".")[number + 1 :])
            raise BootError(f"app.target: {_no_attribute(found, known, name, rest)}") from error
        except BaseException as error:  # a property, or a module's own __getattr__, may do anything
            raise BootError(
                f'app.target: reading "{name}" failed: {one_line(error)} ({_where(error, home)})'
            ) from error
        known += f"{'.' if number else ':'}{name}"
    return found


def _no_attribute(found: object, known: str, name: str, rest: str) -> str:
    """Describe what there is instead: a module of that name, the only application, a name like it, or nothing at all in
    a plain directory. `rest` is what follows the name in the target.
    """
    if not isinstance(found, ModuleType):
        near = _near(name, dir(found))
        return f'there is no "{name}" in "{known}"' + (f'; did you mean "{known}.{near}"?' if near else "")
    spec = find_spec(f"{found.__name__}.{name}") if hasattr(found, "__path__") else None
    if spec:
        file = Path(spec.origin) if spec.origin else None
        return f'"{name}" is a module of the package "{known}"; {_written(f"{known}.{name}", file, rest)}'
    if hasattr(found, "__path__") and found.__file__ is None:
        folders = ", ".join(found.__path__)
        modules = [
            each.name for each in pkgutil.iter_modules(found.__path__) if each.name in ("asgi", "app", "main", name)
        ]
        guesses = [(each, _guess(folders, each)) for each in modules]
        meant = next((f'; did you mean "{known}.{each}:{guess}"?' for each, guess in guesses if guess), "")
        return f'there is no "{name}" in {folders}, a folder without __init__.py{meant or ": name a module in it"}'
    return f'there is no "{name}" in {_place(found)}{_other(found, name)}'


def _guess(folder: str, module: str) -> str:
    guess = find_application(Path(folder, f"{module}.py"))
    return guess.attribute if guess and not guess.is_factory else ""


def _written(module: str, file: Path | None, attribute: str = "") -> str:
    """Return how to name the application in a module that may not be imported yet."""
    guess = FoundApp(attribute) if attribute else find_application(file) if file else None
    if guess is None:
        return f'name what is in it, after "{module}:"'
    return f'write "{module}:{guess.attribute}"' + (f" and {FACTORY_SETTING}" if guess.is_factory else "")


def _other(module: ModuleType, name: str) -> str:
    """Return a question for what was meant in a module: (1) an application with a name like it, (2) its only
    application, (3) its only factory, (4) anything with a name like it.
    """
    there = {key: value for key, value in vars(module).items() if not key.startswith("_")}
    served = [key for key, value in there.items() if is_application(value, module.__name__)]
    made = [key for key, value in there.items() if is_factory_name(key) and inspect.isfunction(value)]
    if meant := _near(name, served) or (served[0] if len(served) == 1 else ""):
        return f'; did you mean "{module.__name__}:{meant}"?'
    if not served and len(made) == 1:
        return f'; did you mean "{module.__name__}:{made[0]}" and {FACTORY_SETTING}?'
    near = _near(name, (key for key, value in there.items() if callable(value)))
    return f'; did you mean "{module.__name__}:{near}"?' if near else ""


def _suggest_attribute(found: object) -> str:
    if not isinstance(found, ModuleType):
        return ""
    file = _file(found)
    name = next((each for each in ("application", "app") if callable(getattr(found, each, None))), "")
    return f"; {_written(found.__name__, Path(file) if isinstance(file, str) else None, name)}"


# The factory


def _call_factory(factory: object, target: str, home: AppFiles) -> object:
    if not callable(factory):
        raise BootError(
            f'app.target: "{target}" is {_describe_type(factory)}, which cannot be called, '
            "and app.factory says that it makes the application"
        )
    _check_factory(factory, target)
    try:
        return factory()
    except BaseException as error:
        raise BootError(
            f'app.target: the factory "{target}" failed: {one_line(error)} ({_where(error, home)})'
        ) from error


def _check_factory(factory: Callable[..., object], target: str) -> None:
    try:
        inspect.signature(factory).bind()
    except TypeError as error:  # async or not: an application is mostly async
        raise BootError(
            f'app.target: the factory "{target}" takes arguments, and is called without any ({error}); '
            "is it the application? then leave app.factory out"
        ) from error
    except ValueError:  # of C code
        return
    if inspect.iscoroutinefunction(factory):
        raise BootError(
            f'app.target: the factory "{target}" is async: it has to return the application itself; '
            "what must be awaited belongs into the application's lifespan startup"
        )


# Words


def _place(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or "a module of Python itself"


def _describe_type(found: object) -> str:
    return "None" if found is None else f"of type {type(found).__name__}"


def _near(name: str, there: Iterable[str], likeness: float = 0.6) -> str:
    """Return the name that is most like it, "" if there is none."""
    try:
        from difflib import get_close_matches  # noqa: PLC0415 - only mistakes need it
    except ImportError:  # it lies in a Python that `process.user` may not read
        return ""
    return next(iter(get_close_matches(name, there, 1, likeness)), "")


def _where(error: BaseException, home: AppFiles, unknown: str = "no place known") -> str:
    """Return the last line of the application's own that led to the error, or the line that is not Python."""
    if isinstance(error, SyntaxError) and isinstance(file := error.filename, str) and file and file[0] != "<":
        return f"{file}:{error.lineno}"
    place = fault_frame(error, home)
    return _at(place) if place else unknown


def _at(place: traceback.FrameSummary) -> str:
    return f"{place.filename}:{place.lineno}"
