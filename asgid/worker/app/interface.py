"""What a callable speaks, found from its shape, and the ASGI 3 application that is made of it.

The shape is how many arguments a call takes, what the first one is called, and whether it is async; nothing is called
to find out. What is in doubt is never guessed: BootError says what to write. Where the callable came from matters only
to these words.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from asgid.config import Config
from asgid.errors import BootError
from asgid.worker.app import asgi1, wsgi
from asgid.worker.http.context import Application, Event, Receive, Send

Interface: TypeAlias = Literal["asgi3", "asgi2", "consumer", "wsgi"]


@dataclass(frozen=True, slots=True)
class LoadedApp:
    """An application, ready to be served: `app` is ASGI 3 whatever it was made of, `interface` is what it speaks."""

    app: Application
    interface: Interface

    @property
    def is_http_only(self) -> bool:
        """Whether its interface knows neither lifespan nor WebSocket: such a scope must never reach it."""
        return self.interface in ("consumer", "wsgi")


def _twice(app: Callable[[Event], Callable[[Receive, Send], Awaitable[None]]]) -> Application:
    """Make an ASGI 3 application of ASGI 2: two calls become one."""

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        scope["asgi"]["version"] = "2.0"  # the dictionary is this scope's own
        await app(scope)(receive, send)

    return application


#: What makes ASGI 3 of each interface. An application is what its author made it: only its shape was looked at.
ADAPTERS: Mapping[Interface, Callable[[Any, Config], Application]] = {
    "asgi3": lambda app, _: cast("Application", app),
    "asgi2": lambda app, _: _twice(app),
    "consumer": lambda app, _: asgi1.adapt(app),
    "wsgi": lambda app, config: wsgi.adapt(app, config.workers.threads),
}

_SIGNATURES: Mapping[Interface, str] = {
    "asgi3": "scope, receive, send",
    "asgi2": "scope, for what takes receive, send",
    "consumer": "message",
    "wsgi": "environ, start_response",
}
#: Whose first argument has such a name. It is a habit and no rule: what has another name is judged by the rest.
_NAMED: Mapping[str, tuple[Interface, ...]] = {
    "scope": ("asgi3", "asgi2"),
    "message": ("consumer",),
    "environ": ("wsgi",),
    "self": (),
}
#: A name of either in the call of a class's objects: they speak WSGI, and the class is none of an ASGI 2 application.
_OF_WSGI = frozenset({"environ", "start_response"})
#: How a hint names the setting, in a file and on the command line.
FACTORY_SETTING = "factory = true in [app] (--set app.factory=true)"
#: How many arguments a message shows: a framework's class takes dozens.
_SHOWN = 5


class _CallableShape:
    """What can be seen of a callable without calling it."""

    def __init__(self, found: Callable[..., object], signature: inspect.Signature) -> None:
        self._signature = signature
        self._class = found if inspect.isclass(found) else None
        self.is_class = self._class is not None
        call = type(found).__call__
        self.is_async = inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(call)
        self.is_async_generator = inspect.isasyncgenfunction(found) or inspect.isasyncgenfunction(call)
        self.first = next(iter(signature.parameters), "")

    def takes(self, count: int) -> bool:
        """Whether a call with so many arguments is possible."""
        return _binds(self._signature, count)

    @property
    def has_settings(self) -> bool:
        """Whether nothing need be given and the first argument has a default: a factory's have, a request has none."""
        first = next(iter(self._signature.parameters.values()), None)
        return first is not None and self.takes(0) and first.default is not first.empty

    @property
    def is_awaited(self) -> bool:
        """Whether what a call returns can be awaited, as far as that is known: of a class, its instances."""
        return self._of_objects("__await__") is not None if self.is_class else not self.is_async_generator

    @property
    def is_iterated(self) -> bool:
        """Whether what a call returns can be iterated, as PEP 3333 asks, as far as that is known: of a class, its
        instances.
        """
        if self.is_class:
            return self._of_objects("__iter__") is not None
        return not self.is_async and not self.is_async_generator

    @property
    def makes_callables(self) -> bool:
        """Whether what a call returns takes receive, send, as far as that is known: of a class, its instances."""
        if not self.is_class:
            return not self.is_async and not self.is_async_generator
        called = self._of_objects("__call__")
        signature = _signature(called) if called else None
        if signature is None:
            return called is not None
        return _binds(signature, 3) and _OF_WSGI.isdisjoint(signature.parameters)  # with self

    @property
    def fits(self) -> list[Interface]:
        """What it can speak. The only one that takes three arguments comes first, then in the order of age."""
        possible: Mapping[Interface, bool] = {
            "asgi3": self.takes(3) and self.is_awaited,
            "asgi2": self.takes(1) and self.makes_callables,
            "consumer": self.takes(1) and not self.is_class and not self.is_async_generator,
            "wsgi": self.takes(2) and self.is_iterated,
        }
        return [name for name, is_possible in possible.items() if is_possible]

    def __str__(self) -> str:
        parameters = [each.replace(annotation=each.empty) for each in self._signature.parameters.values()]
        shown = str(inspect.Signature(parameters[:_SHOWN]))[1:-1]
        if len(parameters) > _SHOWN:
            shown += ", ..."
        takes = f"takes {' '.join(shown.split()) or 'no argument'}"
        if self.is_class:
            return f"is a class that {takes}{self._lacks}"
        if self.is_async_generator:
            return f"is an async generator and {takes}"
        return f"is async and {takes}" if self.is_async else takes

    @property
    def _lacks(self) -> str:
        """Say why the objects of a class are of no use, for the fewest arguments that it takes."""
        fits = (
            (1, self.makes_callables, "do not take receive, send"),
            (2, self.is_iterated, "cannot be iterated"),
            (3, self.is_awaited, "cannot be awaited"),
        )
        return next((f", whose objects {why}" for count, is_so, why in fits if self.takes(count) and not is_so), "")

    def _of_objects(self, name: str) -> Callable[..., object] | None:
        """Return what a class gives its objects by that name: asked for it, the class may answer with its metaclass's,
        which is how every class is called itself.
        """
        return next(
            (vars(each)[name] for each in inspect.getmro(cast("type", self._class)) if name in vars(each)), None
        )


def is_application(found: object, module: str) -> bool:
    """Whether an object of a module is surely an application, so that a hint may name it.

    A function has to be defined in that module. A class is not served itself, and one argument could mean anything.
    """
    try:
        if not callable(found) or inspect.isclass(found):
            return False
        signature = _signature(found)
        if signature is None or (getattr(found, "__module__", module) != module and inspect.isroutine(found)):
            return False
        shape = _CallableShape(found, signature)
        fits = [each for each in shape.fits if each in _NAMED.get(shape.first, ("asgi3",) if shape.is_async else ())]
    except BaseException:  # noqa: BLE001 - the object is the application's, and may fail at anything
        return False
    return bool(fits)


def describe(target: str, config: Config) -> str:
    """Return what messages call that which is to be served."""
    return f'what the factory "{target}" returned' if config.app.factory else f'"{target}"'


def adapt(found: Callable[..., object], target: str, config: Config) -> LoadedApp:
    """Return the application that `found` is, or what `app.interface` says that it is; raises BootError."""
    wanted = config.app.interface
    name = describe(target, config)
    signature = _signature(found)
    if signature is None:  # of C code, mostly: what cannot be looked into is believed
        interface: Interface = "asgi3" if wanted == "auto" else wanted
    else:
        shape = _CallableShape(found, signature)
        is_made = config.app.factory
        interface = (
            _detect(shape, name, is_made) if wanted == "auto" else _check_configured(wanted, shape, name, is_made)
        )
    loaded = LoadedApp(ADAPTERS[interface](found, config), interface)
    if loaded.is_http_only and config.app.lifespan == "on":
        raise BootError(f"app.lifespan: {name} speaks {interface}, which has no lifespan; leave app.lifespan out")
    return loaded


def _detect(shape: _CallableShape, name: str, is_made: bool) -> Interface:
    """Find the interface: (1) by the name of the first argument, (2) by three arguments, which only one takes, (3) by
    what is left where a consumer is not. One argument of any other name could be anything, and what needs none may be a
    factory.
    """
    fits = [each for each in shape.fits if each in _NAMED.get(shape.first, _SIGNATURES)]
    if not fits:
        takes = "; ".join(f"{each} takes {what}" for each, what in _SIGNATURES.items())
        raise BootError(f"app.target: {name} {shape}: it is no application ({takes}){_hint(shape, is_made)}")
    is_three = fits[0] == "asgi3" and not shape.has_settings
    if shape.first in _NAMED or is_three or "consumer" not in fits:
        return fits[0]
    choices = [(f'interface = "{each}"', f"interface={each}", f"takes {_SIGNATURES[each]}") for each in fits]
    if shape.takes(0) and not shape.is_async and not is_made:
        choices.append(("factory = true", "factory=true", "makes the application"))
    ways = ", or ".join(f"{line} (--set app.{option}) if it {means}" for line, option, means in choices)
    raise BootError(f"app.target: {name} {shape}, which could mean anything: write in [app] {ways}")


def _check_configured(wanted: Interface, shape: _CallableShape, name: str, is_made: bool) -> Interface:
    if wanted not in shape.fits:
        raise BootError(
            f"app.interface: {wanted} takes {_SIGNATURES[wanted]}, and {name} {shape}{_hint(shape, is_made)}"
        )
    return wanted


def _hint(shape: _CallableShape, is_made: bool) -> str:
    if shape.first == "self":
        return "; it is a method without its object: name an instance's"
    if is_made:
        return "; let the factory return an object of it" if shape.is_class else ""
    if shape.is_class:
        made = f", or write {FACTORY_SETTING} to have one made" if shape.takes(0) else ", or a factory"
        return f"; name an object of it{made}"
    return f"; is it a factory? then write {FACTORY_SETTING}" if shape.takes(0) else ""


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
