""" "module:attr" -> an ASGI 3 application. What is missing is said by part, as BootError."""

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from typing import NamedTuple, cast

from asgid.config import App
from asgid.errors import BootError
from asgid.worker.service import Application
from asgid.worker.wsgi import adapt


class Loaded(NamedTuple):
    """An application, and what it spoke before it was adapted: an `app.interface` other than auto."""

    app: Application
    interface: str


def load(settings: App, threads: int) -> Loaded:
    """Import the target, call it if it is a factory, and make an ASGI 3 application of it, in so many threads if need
    be. Raises BootError with one clear message.

    Before that, `env` is added to the environment, and the directory becomes the working directory and the first entry
    of sys.path.
    """
    os.environ.update(settings.env)
    try:
        os.chdir(settings.directory)
    except OSError as error:
        raise BootError(f"app.directory: {settings.directory!r}: {error.strerror}") from error
    sys.path.insert(0, os.getcwd())
    module_name, _, attribute = settings.target.partition(":")
    found = _attribute(_module(module_name), attribute, settings.target)
    if settings.factory:
        found = _made(found, settings.target)
    return adapted(found, settings, threads)


def _module(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise BootError(f'app.target: there is no module "{error.name}" in {os.getcwd()} or on sys.path') from error
        raise BootError(
            f'app.target: "{name}" imports "{error.name}", which is not installed ({_where(error)})'
        ) from error
    except (Exception, SystemExit) as error:  # whatever an import may do
        raise BootError(f'app.target: importing "{name}" failed: {_said(error)} ({_where(error)})') from error


def _attribute(module: object, path: str, target: str) -> object:
    found = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            from difflib import get_close_matches  # noqa: PLC0415 - only this mistake needs it

            near = get_close_matches(name, dir(found), n=1)
            meant = f'; did you mean "{near[0]}"?' if near else ""
            raise BootError(f'app.target: "{target}": there is no "{name}" in it{meant}') from error
    return found


def _made(factory: object, target: str) -> object:
    if not callable(factory):
        raise BootError(f'app.target: "{target}" is not callable, and app.factory says that it makes the application')
    try:
        return factory()
    except (Exception, SystemExit) as error:
        raise BootError(f'app.target: the factory "{target}" failed: {_said(error)} ({_where(error)})') from error


def adapted(found: object, settings: App, threads: int) -> Loaded:
    """Return what `load` does of an application that was found. Raises BootError where it is none."""
    if not callable(found):
        raise BootError(
            f'app.target: "{settings.target}" is {type(found).__name__} and not callable; '
            "an ASGI application is an async function of scope, receive, send"
        )
    if settings.interface == "wsgi" or (settings.interface == "auto" and _takes_environ(found)):
        return Loaded(adapt(found, threads), "wsgi")
    if settings.interface == "auto" and not _takes(found, 3):
        hint = " (is it a factory? then set app.factory = true)" if not _takes_some(found) else ""
        raise BootError(
            f'app.target: "{settings.target}" does not take scope, receive, send: it is no ASGI 3 application{hint}'
        )
    return Loaded(cast("Application", found), "asgi3")


def _takes_environ(found: Callable[..., object]) -> bool:
    """Whether it can be called with environ and start_response, and not with scope, receive, send; no coroutine can."""
    is_async = any(map(inspect.iscoroutinefunction, (found, type(found).__call__)))
    return _takes(found, 2) and not _takes(found, 3) and not is_async


def _takes(found: Callable[..., object], count: int) -> bool:
    """Whether it can be called with so many positional arguments; what cannot be looked into is believed."""
    if inspect.isclass(found):  # ASGI 2: the class takes the scope, its instance receive and send
        return False
    try:
        inspect.signature(found).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _takes_some(found: Callable[..., object]) -> bool:
    try:
        return bool(inspect.signature(found).parameters)
    except ValueError:
        return True


def _said(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _where(error: BaseException) -> str:
    """Return the place in the application's own code where the error came from."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else "no place known"
