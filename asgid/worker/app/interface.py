"""Detects the interface of a callable, and adapts it to ASGI 3.

The detection uses the number of arguments, the name of the first one, and whether the callable is async; it calls
nothing. An ambiguous callable raises BootError with the settings to choose from.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from asgid.config import Config
from asgid.errors import BootError
from asgid.worker.app import asgi1, wsgi
from asgid.worker.asgi import Application, Message, Receive, Send

Interface: TypeAlias = Literal["asgi3", "asgi2", "consumer", "wsgi"]


@dataclass(frozen=True, slots=True)
class LoadedApp:
    """An application that can be served: `app` is ASGI 3, `interface` is that of the original."""

    app: Application
    interface: Interface

    @property
    def is_http_only(self) -> bool:
        """Whether its interface has neither lifespan nor WebSocket: it must not get such a scope."""
        return self.interface in ("consumer", "wsgi")


def _adapt_asgi2(app: Callable[[Message], Callable[[Receive, Send], Awaitable[None]]]) -> Application:
    """Return an ASGI 3 application that makes the two calls of ASGI 2."""

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        scope["asgi"]["version"] = "2.0"  # this dict belongs to the scope alone
        await app(scope)(receive, send)

    return application


#: The adapters to ASGI 3. An application has the type Any: only its signature was checked.
ADAPTERS: Mapping[Interface, Callable[[Any, Config], Application]] = {
    "asgi3": lambda app, _: cast("Application", app),
    "asgi2": lambda app, _: _adapt_asgi2(app),
    "consumer": lambda app, _: asgi1.adapt(app),
    "wsgi": lambda app, config: wsgi.adapt(app, config.workers.threads),
}


class _Kind(Enum):
    CLASS = auto()
    ASYNC_GENERATOR = auto()
    ASYNC = auto()
    PLAIN = auto()


_AT_ONCE, _ANY_TIME = (_Kind.PLAIN,), (_Kind.ASYNC, _Kind.PLAIN)


class _Form(NamedTuple):
    """The form of a callable with a certain interface: its arguments, and the object that it returns."""

    arguments: int
    takes: str  #: the arguments in messages
    kinds: tuple[_Kind, ...]  #: of a callable that is not a class
    method: str = ""  #: of the instances of a class; "" if a class never fits
    lack: str = ""  #: of instances without the method, in messages


#: The first one alone has three arguments; the others are in the order of their age.
_FORMS: Mapping[Interface, _Form] = {
    "asgi3": _Form(3, "scope, receive, send", _ANY_TIME, "__await__", "cannot be awaited"),
    "asgi2": _Form(
        1, "scope, and returns a callable of receive, send", _AT_ONCE, "__call__", "do not take receive, send"
    ),
    "consumer": _Form(1, "message", _ANY_TIME),
    "wsgi": _Form(2, "environ, start_response", _AT_ONCE, "__iter__", "cannot be iterated"),
}
#: The interfaces for a name of the first argument. Names are a habit, not a rule: with another name the rest decides.
_BY_FIRST_ARGUMENT: Mapping[str, tuple[Interface, ...]] = {
    "scope": ("asgi3", "asgi2"),
    "message": ("consumer",),
    "environ": ("wsgi",),
    "self": (),
}
#: If `__call__` of a class has one of these arguments, its instances are WSGI, and the class is not ASGI 2.
_WSGI_ARGUMENTS = frozenset({"environ", "start_response"})
#: The setting in hints, for a file and for the command line.
FACTORY_SETTING = "factory = true in [app] (--set app.factory=true)"
#: The max number of arguments in a message: classes of frameworks have dozens.
_MAX_SHOWN = 5


class _CallableShape:
    """The properties of a callable that are known without a call."""

    def __init__(self, found: Callable[..., object], signature: inspect.Signature) -> None:
        self._found, self._signature = found, signature
        self.kind = _kind(found)
        self.first = next(iter(signature.parameters), "")
        self.fits = [name for name, form in _FORMS.items() if self._fits(form)]  #: the possible interfaces

    def takes(self, count: int) -> bool:
        """Return whether a call with `count` arguments is possible."""
        return _binds(self._signature, count)

    @property
    def has_settings(self) -> bool:
        """Whether all arguments are optional and the first has a default, as in a factory; a request has no default."""
        first = next(iter(self._signature.parameters.values()), None)
        return first is not None and self.takes(0) and first.default is not first.empty

    def _fits(self, form: _Form) -> bool:
        if not self.takes(form.arguments):
            return False
        return self._instances_fit(form.method) if self.kind is _Kind.CLASS else self.kind in form.kinds

    def _instances_fit(self, name: str) -> bool:
        """Return whether instances of this class have a method, and `__call__` may take receive, send."""
        # Not getattr(), which could return the method of a metaclass.
        classes = map(vars, inspect.getmro(cast("type", self._found)))
        method = next((members[name] for members in classes if name in members), None)
        signature = _signature(method) if method and name == "__call__" else None
        if signature is None:
            return method is not None
        return _binds(signature, 3) and _WSGI_ARGUMENTS.isdisjoint(signature.parameters)  # with self

    def __str__(self) -> str:
        parameters = [each.replace(annotation=each.empty) for each in self._signature.parameters.values()]
        shown = str(inspect.Signature(parameters[:_MAX_SHOWN]))[1:-1]
        if len(parameters) > _MAX_SHOWN:
            shown += ", ..."
        takes = f"takes {' '.join(shown.split()) or 'no argument'}"
        match self.kind:
            case _Kind.CLASS:
                return f"is a class that {takes}{self._lack()}"
            case _Kind.ASYNC_GENERATOR:
                return f"is an async generator and {takes}"
            case _Kind.ASYNC:
                return f"is async and {takes}"
            case _Kind.PLAIN:
                return takes

    def _lack(self) -> str:
        """Return why instances of a class cannot be served, for the fewest arguments that the class takes."""
        forms = sorted(form for form in _FORMS.values() if form.lack and self.takes(form.arguments))
        return next((f", whose instances {form.lack}" for form in forms if not self._instances_fit(form.method)), "")


def _kind(found: Callable[..., object]) -> _Kind:
    if inspect.isclass(found):
        return _Kind.CLASS
    calls = (found, type(found).__call__)
    if any(map(inspect.isasyncgenfunction, calls)):
        return _Kind.ASYNC_GENERATOR
    return _Kind.ASYNC if any(map(inspect.iscoroutinefunction, calls)) else _Kind.PLAIN


def is_application(found: object, module: str) -> bool:
    """Return whether an object of a module is certainly an application, so that a hint may name it.

    A function must be defined in that module. A class is not served itself, and one argument is ambiguous.
    """
    try:
        if not callable(found) or inspect.isclass(found):
            return False
        signature = _signature(found)
        if signature is None or (getattr(found, "__module__", module) != module and inspect.isroutine(found)):
            return False
        shape = _CallableShape(found, signature)
        certain = _BY_FIRST_ARGUMENT.get(shape.first, ("asgi3",) if shape.kind is _Kind.ASYNC else ())
        return not set(shape.fits).isdisjoint(certain)
    except BaseException:  # noqa: BLE001 - the object is the application's, and may raise anything
        return False


def describe(target: str, config: Config) -> str:
    """Return the name of the application in messages."""
    return f'the result of the factory "{target}"' if config.app.factory else f'"{target}"'


def adapt(found: Callable[..., object], target: str, config: Config) -> LoadedApp:
    """Return `found` as an ASGI 3 application, with the interface of `app.interface` or the detected one.

    Raises BootError.
    """
    wanted = config.app.interface
    name = describe(target, config)
    signature = _signature(found)
    if signature is None:  # C code, mostly: there is nothing to check
        interface: Interface = "asgi3" if wanted == "auto" else wanted
    else:
        shape = _CallableShape(found, signature)
        is_made = config.app.factory
        interface = _detect(shape, name, is_made) if wanted == "auto" else wanted
        if interface not in shape.fits:
            raise BootError(
                f"app.interface: {wanted} takes {_FORMS[interface].takes}, and {name} {shape}{_hint(shape, is_made)}"
            )
    loaded = LoadedApp(ADAPTERS[interface](found, config), interface)
    if loaded.is_http_only and config.app.lifespan == "on":
        raise BootError(f"app.lifespan: {name} has the interface {interface}, without a lifespan; remove app.lifespan")
    return loaded


def _detect(shape: _CallableShape, name: str, is_made: bool) -> Interface:
    """Return the interface (1) of the name of the first argument, (2) with three arguments, which only one has, or (3)
    the first possible one, if a consumer is not possible. Raises BootError if none fits or one argument is ambiguous.
    """
    fits = [each for each in shape.fits if each in _BY_FIRST_ARGUMENT.get(shape.first, _FORMS)]
    if not fits:
        takes = "; ".join(f"{each} takes {form.takes}" for each, form in _FORMS.items())
        raise BootError(f"app.target: {name} {shape}: it is not an application ({takes}){_hint(shape, is_made)}")
    is_three = fits[0] == "asgi3" and not shape.has_settings
    if shape.first in _BY_FIRST_ARGUMENT or is_three or "consumer" not in fits:
        return fits[0]
    choices = [(f'interface = "{each}"', f"interface={each}", f"takes {_FORMS[each].takes}") for each in fits]
    if shape.takes(0) and shape.kind is not _Kind.ASYNC and not is_made:
        choices.append(("factory = true", "factory=true", "makes the application"))
    ways = ", or ".join(f"{line} (--set app.{option}) if it {meaning}" for line, option, meaning in choices)
    raise BootError(f"app.target: {name} {shape}, which is ambiguous; set one of these in [app]: {ways}")


def _hint(shape: _CallableShape, is_made: bool) -> str:
    if shape.first == "self":
        return "; it is a method without an object: name the method of an instance"
    is_class = shape.kind is _Kind.CLASS
    if is_made:
        return "; let the factory return an instance of it" if is_class else ""
    if is_class:
        factory = f", or write {FACTORY_SETTING} to create one" if shape.takes(0) else ", or a factory"
        return f"; name an instance of it{factory}"
    return f"; if it is a factory, write {FACTORY_SETTING}" if shape.takes(0) else ""


def _signature(found: Callable[..., object]) -> inspect.Signature | None:
    try:
        return inspect.signature(found)
    except (TypeError, ValueError):
        return None


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True
