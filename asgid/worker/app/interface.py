"""Detects the interface of a callable, and adapts it to ASGI 3.

The detection uses the number of arguments, the name of the first one, and whether the callable is async; it calls
nothing. An ambiguous callable raises BootError with the settings to choose from.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

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

_SIGNATURES: Mapping[Interface, str] = {
    "asgi3": "scope, receive, send",
    "asgi2": "scope, and returns a callable of receive, send",
    "consumer": "message",
    "wsgi": "environ, start_response",
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
        self._signature = signature
        self._class = found if inspect.isclass(found) else None
        self.is_class = self._class is not None
        call = type(found).__call__
        self.is_async = inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(call)
        self.is_async_generator = inspect.isasyncgenfunction(found) or inspect.isasyncgenfunction(call)
        self.first = next(iter(signature.parameters), "")

    def takes(self, count: int) -> bool:
        """Return whether a call with `count` arguments is possible."""
        return _binds(self._signature, count)

    @property
    def has_settings(self) -> bool:
        """Whether all arguments are optional and the first has a default, as in a factory; a request has no default."""
        first = next(iter(self._signature.parameters.values()), None)
        return first is not None and self.takes(0) and first.default is not first.empty

    @property
    def is_awaited(self) -> bool:
        """Whether the result of a call can be awaited, as far as known; for a class, the result is an instance."""
        return self._of_instances("__await__") is not None if self.is_class else not self.is_async_generator

    @property
    def is_iterated(self) -> bool:
        """Whether the result of a call can be iterated, as PEP 3333 requires, as far as known."""
        if self.is_class:
            return self._of_instances("__iter__") is not None
        return not self.is_async and not self.is_async_generator

    @property
    def makes_callables(self) -> bool:
        """Whether the result of a call takes receive, send, as far as known."""
        if not self.is_class:
            return not self.is_async and not self.is_async_generator
        call = self._of_instances("__call__")
        signature = _signature(call) if call else None
        if signature is None:
            return call is not None
        return _binds(signature, 3) and _WSGI_ARGUMENTS.isdisjoint(signature.parameters)  # with self

    @property
    def fits(self) -> list[Interface]:
        """The possible interfaces: first the only one with three arguments, then the others by age."""
        possible: Mapping[Interface, bool] = {
            "asgi3": self.takes(3) and self.is_awaited,
            "asgi2": self.takes(1) and self.makes_callables,
            "consumer": self.takes(1) and not self.is_class and not self.is_async_generator,
            "wsgi": self.takes(2) and self.is_iterated,
        }
        return [name for name, is_possible in possible.items() if is_possible]

    def __str__(self) -> str:
        parameters = [each.replace(annotation=each.empty) for each in self._signature.parameters.values()]
        shown = str(inspect.Signature(parameters[:_MAX_SHOWN]))[1:-1]
        if len(parameters) > _MAX_SHOWN:
            shown += ", ..."
        takes = f"takes {' '.join(shown.split()) or 'no argument'}"
        if self.is_class:
            return f"is a class that {takes}{self._lacks}"
        if self.is_async_generator:
            return f"is an async generator and {takes}"
        return f"is async and {takes}" if self.is_async else takes

    @property
    def _lacks(self) -> str:
        """The reason why instances of a class cannot be served, for the fewest arguments that the class takes."""
        needs = (
            (1, self.makes_callables, "do not take receive, send"),
            (2, self.is_iterated, "cannot be iterated"),
            (3, self.is_awaited, "cannot be awaited"),
        )
        for count, fits, fault in needs:
            if self.takes(count) and not fits:
                return f", whose instances {fault}"
        return ""

    def _of_instances(self, name: str) -> Callable[..., object] | None:
        """Return the method `name` of a class's instances. getattr() on the class could return its metaclass's."""
        return next(
            (vars(each)[name] for each in inspect.getmro(cast("type", self._class)) if name in vars(each)), None
        )


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
        certain = _BY_FIRST_ARGUMENT.get(shape.first, ("asgi3",) if shape.is_async else ())
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
        interface = (
            _detect(shape, name, is_made) if wanted == "auto" else _check_configured(wanted, shape, name, is_made)
        )
    loaded = LoadedApp(ADAPTERS[interface](found, config), interface)
    if loaded.is_http_only and config.app.lifespan == "on":
        raise BootError(f"app.lifespan: {name} has the interface {interface}, without a lifespan; remove app.lifespan")
    return loaded


def _detect(shape: _CallableShape, name: str, is_made: bool) -> Interface:
    """Return the interface (1) of the name of the first argument, (2) with three arguments, which only one has, or (3)
    the first possible one, if a consumer is not possible. Raises BootError if none fits or one argument is ambiguous.
    """
    fits = [each for each in shape.fits if each in _BY_FIRST_ARGUMENT.get(shape.first, _SIGNATURES)]
    if not fits:
        takes = "; ".join(f"{each} takes {arguments}" for each, arguments in _SIGNATURES.items())
        raise BootError(f"app.target: {name} {shape}: it is not an application ({takes}){_hint(shape, is_made)}")
    is_three = fits[0] == "asgi3" and not shape.has_settings
    if shape.first in _BY_FIRST_ARGUMENT or is_three or "consumer" not in fits:
        return fits[0]
    choices = [(f'interface = "{each}"', f"interface={each}", f"takes {_SIGNATURES[each]}") for each in fits]
    if shape.takes(0) and not shape.is_async and not is_made:
        choices.append(("factory = true", "factory=true", "makes the application"))
    ways = ", or ".join(f"{line} (--set app.{option}) if it {meaning}" for line, option, meaning in choices)
    raise BootError(f"app.target: {name} {shape}, which is ambiguous; set one of these in [app]: {ways}")


def _check_configured(wanted: Interface, shape: _CallableShape, name: str, is_made: bool) -> Interface:
    if wanted not in shape.fits:
        raise BootError(
            f"app.interface: {wanted} takes {_SIGNATURES[wanted]}, and {name} {shape}{_hint(shape, is_made)}"
        )
    return wanted


def _hint(shape: _CallableShape, is_made: bool) -> str:
    if shape.first == "self":
        return "; it is a method without an object: name the method of an instance"
    if is_made:
        return "; let the factory return an instance of it" if shape.is_class else ""
    if shape.is_class:
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
