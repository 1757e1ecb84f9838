"""What a callable speaks, found from its shape, and the ASGI 3 application that is made of it.

The shape is how many arguments a call takes, what the first one is called, and whether it is async; nothing is called
to find out. What is in doubt is never guessed: BootError says what to write. It does not know where the callable came
from.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from asgid.config import Config
from asgid.errors import BootError
from asgid.worker import consumer, wsgi
from asgid.worker.service import Application, Event, Receive, Send

Interface: TypeAlias = Literal["asgi3", "asgi2", "consumer", "wsgi"]


@dataclass(frozen=True, slots=True)
class Loaded:
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
    "consumer": lambda app, _: consumer.adapt(app),
    "wsgi": lambda app, config: wsgi.adapt(app, config.workers.threads),
}

_TAKES: Mapping[Interface, str] = {
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


class _Shape:
    """What can be seen of a callable without calling it."""

    def __init__(self, found: Callable[..., object], signature: inspect.Signature) -> None:
        self._signature = signature
        self._class = found if inspect.isclass(found) else None
        self.is_class = self._class is not None
        self.is_async = inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(type(found).__call__)
        self.first = next(iter(signature.parameters), "")

    def takes(self, count: int) -> bool:
        """Whether a call with so many arguments is possible."""
        return _binds(self._signature, count)

    @property
    def is_awaited(self) -> bool:
        """Whether what a call returns can be awaited, as far as that is known: of a class, its instances."""
        return self._class is None or hasattr(self._class, "__await__")

    @property
    def makes_callables(self) -> bool:
        """Whether what a call returns takes receive, send, as far as that is known: of a class, its instances."""
        if self._class is None:
            return not self.is_async
        # By name it would be found in the metaclass: that is how every class is called itself.
        called = next((vars(each)["__call__"] for each in self._class.__mro__ if "__call__" in vars(each)), None)
        signature = _signature(called) if called else None
        return called is not None and (signature is None or _binds(signature, 3))  # with self

    @property
    def fits(self) -> list[Interface]:
        """What it can speak. The only one that takes three arguments comes first, then in the order of age."""
        possible: Mapping[Interface, bool] = {
            "asgi3": self.takes(3) and self.is_awaited,
            "asgi2": self.takes(1) and self.makes_callables,
            "consumer": self.takes(1) and not self.is_class,
            "wsgi": self.takes(2) and not self.is_async,
        }
        return [name for name, is_possible in possible.items() if is_possible]

    def __str__(self) -> str:
        names = [str(each.replace(annotation=each.empty)) for each in self._signature.parameters.values()]
        takes = f"takes {', '.join(names) or 'no argument'}"
        if self._class is None:
            return f"is async and {takes}" if self.is_async else takes
        lacks = ""
        if self.takes(1) and not self.makes_callables:
            lacks = ", whose objects do not take receive, send"
        elif self.takes(3) and not self.is_awaited:
            lacks = ", whose objects cannot be awaited"
        return f"is a class that {takes}{lacks}"


def adapted(found: Callable[..., object], target: str, config: Config) -> Loaded:
    """Return the application that `found` is, or what `app.interface` says that it is; raises BootError."""
    wanted = config.app.interface
    signature = _signature(found)
    if signature is None:  # of C code, mostly: what cannot be looked into is believed
        interface: Interface = "asgi3" if wanted == "auto" else wanted
    elif wanted == "auto":
        interface = _spoken(_Shape(found, signature), target)
    else:
        interface = _believed(wanted, _Shape(found, signature), target)
    loaded = Loaded(ADAPTERS[interface](found, config), interface)
    if loaded.is_http_only and config.app.lifespan == "on":
        raise BootError(f'app.lifespan: "{target}" speaks {interface}, which has no lifespan; remove the line')
    return loaded


def _spoken(shape: _Shape, target: str) -> Interface:
    """Find the interface: (1) by the name of the first argument, (2) by three arguments, which only one takes, (3) by
    what is left where a consumer is not. One argument of any other name could be anything.
    """
    fits = [name for name in shape.fits if name in _NAMED.get(shape.first, _TAKES)]
    if not fits:
        takes = "; ".join(f"{name} takes {what}" for name, what in _TAKES.items())
        raise BootError(f'app.target: "{target}" {shape}: it is no application ({takes}){_hint(shape)}')
    if shape.first in _NAMED or fits[0] == "asgi3" or "consumer" not in fits:
        return fits[0]
    choices = ", or ".join(f'interface = "{name}" if it takes {_TAKES[name]}' for name in fits)
    raise BootError(f'app.target: "{target}" {shape}, which could mean anything: write in [app] {choices}')


def _believed(wanted: Interface, shape: _Shape, target: str) -> Interface:
    if wanted not in shape.fits:
        raise BootError(f'app.interface: {wanted} takes {_TAKES[wanted]}, and "{target}" {shape}{_hint(shape)}')
    return wanted


def _hint(shape: _Shape) -> str:
    if shape.first == "self":
        return "; it is a method without its object: name an instance's"
    if shape.takes(0):
        return "; is it a factory? then set app.factory = true"
    return ""


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
