""" "module:attr" -> an application, ready to be served. What is missing is said by part, as BootError."""

import importlib
import inspect
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from types import ModuleType

from asgid.config import Config
from asgid.errors import BootError
from asgid.worker.failure import said
from asgid.worker.interface import Loaded, adapted, named

#: What stands in each traceback of an import, and is nobody's fault.
_MACHINERY = ("<frozen importlib", os.path.dirname(importlib.__file__), __file__)
_STANDARD_LIBRARY = os.path.join(os.path.dirname(os.__file__), "")


def load(config: Config) -> Loaded:
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
    module_name, _, path = settings.target.partition(":")
    found = _attribute(_module(module_name), path)
    if settings.factory:
        found = _made(found, settings.target)
    if not callable(found):
        name = named(settings.target, config)
        raise BootError(f"app.target: {name} is {_kind(found)}, which cannot be called{_inside(found)}")
    return adapted(found, settings.target, config)


# The module


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise BootError(f"app.target: {_no_module(error.name, error)}") from error
        is_own = name.partition(".")[0] == str(error.name).partition(".")[0]
        fault = "does not exist" if is_own else "is not installed"
        raise BootError(
            f'app.target: "{name}" imports "{error.name}", which {fault} ({_where(error)}){_unread(str(error.name))}'
        ) from error
    except BaseException as error:  # whatever an import may do
        place = _where(error, f'in "{_unfinished(name)}"')
        raise BootError(
            f'app.target: importing "{name}" failed: {said(error)} ({place}){_package(name, error)}'
        ) from error


def _unfinished(name: str) -> str:
    """Return the module that failed, which may be a package around the one that was asked for."""
    parts = accumulate(name.split("."), "{}.{}".format)
    return next((each for each in parts if each not in sys.modules), name)


def _no_module(name: str, error: ModuleNotFoundError) -> str:
    """Say where it was looked for; a module that is no package has nothing in it."""
    parent, _, last = name.rpartition(".")
    if not parent:
        near = _meant(last, (each.name for each in pkgutil.iter_modules([os.getcwd()])))
        return f'there is no module "{name}" in {os.getcwd()} or on sys.path{near or _unread(name)}'
    package = sys.modules.get(parent)
    if package is None:  # it was the package itself that asked for it, and failed with it
        return f'there is no module "{name}" ({_where(error)})'
    if not hasattr(package, "__path__"):
        return f'there is no module "{name}": "{parent}" is {_place(package)}, and no package'
    near = _meant(last, (each.name for each in pkgutil.iter_modules(package.__path__)), f"{parent}.")
    return f'there is no module "{name}" in {", ".join(package.__path__)}{near or _unread(name)}'


def _unread(name: str) -> str:
    """Name the directories that kept this user from looking for a module: Python passes over them in silence, as over
    an environment below /root once the worker has become `process.user`.
    """
    package = sys.modules.get(name.rpartition(".")[0])
    closed = dict.fromkeys(filter(None, map(_barrier, getattr(package, "__path__", sys.path))))
    return f"; uid {os.geteuid()} may not look into {', '.join(closed)}" if closed else ""


def _barrier(place: str) -> str:
    """Return what on the way to `place` is closed to this user, "" where nothing is, or where there is no such way."""
    way = Path(place).absolute()
    for each in (*reversed(way.parents), way):
        if not each.is_dir():
            return ""
        if not os.access(each, os.R_OK | os.X_OK if each == way else os.X_OK, effective_ids=True):
            return str(each)
    return ""


def _package(name: str, error: BaseException) -> str:
    """Return a hint where a module was taken out of its package: then its relative imports lead nowhere."""
    if not (isinstance(error, ImportError) and "no known parent package" in said(error)):
        return ""
    above, package = os.path.split(os.getcwd())
    return f'; it is part of a package: write target = "{package}.{name}:..." and directory = "{above}" in [app]'


# The attribute


def _attribute(module: ModuleType, path: str) -> object:
    found, known = module, module.__name__
    for number, name in enumerate(path.split(".")):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise BootError(f"app.target: {_no_attribute(found, known, name)}") from error
        except BaseException as error:  # a property, or a module's own __getattr__, may do anything
            raise BootError(f'app.target: reading "{name}" failed: {said(error)} ({_where(error)})') from error
        known += f"{'.' if number else ':'}{name}"
    return found


def _no_attribute(found: object, known: str, name: str) -> str:
    """Say what there is instead: a module of that name, a name like it, or nothing at all in a plain directory."""
    if not isinstance(found, ModuleType):
        return f'there is no "{name}" in "{known}"{_meant(name, dir(found))}'
    if hasattr(found, "__path__") and find_spec(f"{found.__name__}.{name}"):
        return f'"{name}" is a module of the package "{known}": write "{known}.{name}:..."'
    if hasattr(found, "__path__") and found.__file__ is None:
        return (
            f'there is no "{name}" in {", ".join(found.__path__)}, a folder without __init__.py: '
            f'name a module in it, as "{known}.module:{name}"'
        )
    return f'there is no "{name}" in {_place(found)}{_meant(name, dir(found))}'


def _inside(found: object) -> str:
    if not isinstance(found, ModuleType):
        return ""
    name = next((each for each in ("application", "app") if callable(getattr(found, each, None))), "...")
    return f': name what is in it, as "{found.__name__}:{name}"'


# The factory


def _made(factory: object, target: str) -> object:
    if not callable(factory):
        raise BootError(
            f'app.target: "{target}" is {_kind(factory)}, which cannot be called, '
            "and app.factory says that it makes the application"
        )
    _check_factory(factory, target)
    try:
        return factory()
    except BaseException as error:
        raise BootError(f'app.target: the factory "{target}" failed: {said(error)} ({_where(error)})') from error


def _check_factory(factory: Callable[..., object], target: str) -> None:
    try:
        inspect.signature(factory).bind()
    except TypeError as error:  # async or not: an application is mostly async
        raise BootError(
            f'app.target: the factory "{target}" takes arguments, and is called without any ({error}); '
            "is it the application? then remove app.factory"
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


def _kind(found: object) -> str:
    return "None" if found is None else f"of type {type(found).__name__}"


def _meant(name: str, there: Iterable[str], prefix: str = "") -> str:
    try:
        from difflib import get_close_matches  # noqa: PLC0415 - only mistakes need it
    except ImportError:  # it lies in a Python that `process.user` may not read
        return ""
    near = get_close_matches(name, there, n=1)
    return f'; did you mean "{prefix}{near[0]}"?' if near else ""


def _where(error: BaseException, unknown: str = "no place known") -> str:
    """Return the last line of the application's own that led to the error, which a library may have raised: (1) in the
    working directory, (2) in what is no library, (3) in anything.
    """
    if isinstance(error, SyntaxError) and isinstance(file := error.filename, str) and file and file[0] != "<":
        return f"{file}:{error.lineno}"
    frames = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith(_MACHINERY)]
    own = [each for each in frames if not _is_library(each.filename)]
    here = [each for each in own if each.filename.startswith(os.path.join(os.getcwd(), ""))]
    known = here or own or frames
    return f"{known[-1].filename}:{known[-1].lineno}" if known else unknown


def _is_library(file: str) -> bool:
    """Whether others wrote it. An environment may lie in the working directory, and a frozen module has no file."""
    is_installed = not {"site-packages", "dist-packages"}.isdisjoint(file.split(os.sep))
    return is_installed or file.startswith(("<", _STANDARD_LIBRARY))
