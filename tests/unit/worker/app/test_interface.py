"""The interface of a callable is detected, and an ambiguous callable is an error."""

import asyncio
import functools
from typing import Any

import pytest

from asgid import config
from asgid.errors import BootError
from asgid.worker.app.interface import ADAPTERS, Interface, LoadedApp, adapt

# -- callables ---------------------------------------------------------------------------------------------------------


async def asgi3(scope, receive, send): ...
async def other_names(request, read, write): ...
async def with_more(scope, receive, send, state=None): ...
def returns_a_coroutine(scope, receive, send): ...
def both_asgi(scope, receive=None, send=None): ...
def anything(*args, **kwargs): ...
def asgi2(scope): ...
def consumer(message): ...
def consumer_of_a_route(message, **captured): ...
async def coroutine_consumer(message): ...
def wsgi(environ, start_response): ...
def other_wsgi(env, respond): ...
def wsgi_with_more(environ, start_response, exc_info=None): ...


def decorated(function):
    @functools.wraps(function)
    def call(*args):
        return function(*args)

    return call


class Asgi3:
    async def __call__(self, scope, receive, send): ...
    async def method(self, scope, receive, send): ...

    @staticmethod
    async def static(scope, receive, send): ...


class Endpoint:
    def __init__(self, scope, receive, send): ...
    def __await__(self):
        yield


class Asgi2:
    def __init__(self, scope): ...
    async def __call__(self, receive, send): ...


class Asgi2Child(Asgi2): ...


class OtherAsgi2:
    def __init__(self, connection): ...
    async def __call__(self, read, write): ...


class Router:
    def __call__(self, scope): ...


class Consumer:
    def __call__(self, message): ...
    async def method(self, message): ...


class Wsgi:
    def __call__(self, environ, start_response): ...


class WsgiOfObjects:
    def __init__(self, environ, start_response): ...
    def __iter__(self): ...


class Unreadable:
    """A callable without a signature, like C code."""

    @property
    def __signature__(self):
        raise ValueError("no signature found")

    async def __call__(self): ...


SHAPES: dict[Interface, dict[str, Any]] = {
    "asgi3": {
        "a coroutine function": asgi3,
        "with other names of arguments": other_names,
        "with one more argument": with_more,
        "that returns a coroutine": returns_a_coroutine,
        "that is also ASGI 2": both_asgi,
        "with any arguments": anything,
        "an object": Asgi3(),
        "a method": Asgi3().method,
        "a static method": Asgi3.static,
        "a partial": functools.partial(with_more, state=1),
        "a decorated function": decorated(asgi3),
        "a class with __await__": Endpoint,
        "C code": Unreadable(),
    },
    "asgi2": {
        "a class": Asgi2,
        "a class that inherits": Asgi2Child,
        "a class with other names of arguments": OtherAsgi2,
        "a function": asgi2,
        "an object": Router(),
        "a decorated function": decorated(asgi2),
        "a lambda": lambda scope: functools.partial(asgi3, scope),
    },
    "consumer": {
        "a function": consumer,
        "with the arguments of a route": consumer_of_a_route,
        "a coroutine function": coroutine_consumer,
        "an object": Consumer(),
        "a method": Consumer().method,
        "a partial": functools.partial(consumer),
        "a decorated function": decorated(consumer),
    },
    "wsgi": {
        "a function": wsgi,
        "with other names of arguments": other_wsgi,
        "with one more argument": wsgi_with_more,
        "an object": Wsgi(),
        "a class with __iter__": WsgiOfObjects,
        "a decorated function": decorated(wsgi),
    },
}


@pytest.fixture(autouse=True)
def every_adapter(monkeypatch):
    """Replace the adapters by functions that return the callable itself."""
    monkeypatch.setattr("asgid.worker.app.interface.ADAPTERS", dict.fromkeys(ADAPTERS, lambda app, _: app))


def adapted(found: Any, interface: str = "auto", **settings: object) -> LoadedApp:
    app = {"target": "site:app", "interface": interface, **settings}
    return adapt(found, "site:app", config.Config.model_validate({"app": app}))


@pytest.mark.parametrize(
    ("interface", "found"),
    [
        pytest.param(interface, found, id=f"{interface}, {name}")
        for interface, shapes in SHAPES.items()
        for name, found in shapes.items()
    ],
)
def test_the_interface_is_detected(interface, found):
    assert interface == adapted(found).interface
    assert interface == adapted(found, interface).interface


@pytest.mark.parametrize("interface", SHAPES)
def test_any_interface_may_be_configured_for_c_code(interface):
    """Its signature cannot be checked."""
    assert interface == adapted(Unreadable(), interface).interface


# -- ambiguous callables -----------------------------------------------------------------------------------------------

AMBIGUOUS: dict[str, tuple[Any, tuple[Interface, ...]]] = {
    "one argument of any name": (lambda request: None, ("asgi2", "consumer")),
    "one argument and an optional one": (lambda a, b=None: None, ("asgi2", "consumer", "wsgi")),
    "one optional argument": (lambda config=None: None, ("asgi2", "consumer")),
    "three optional arguments": (lambda a=1, b=2, c=3: None, ("asgi3", "asgi2", "consumer", "wsgi")),
}


@pytest.mark.parametrize(("found", "choices"), AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_the_error_for_an_ambiguous_callable_has_the_lines_to_choose_from(found, choices):
    """Each of the lines works."""
    with pytest.raises(BootError, match=r'^app\.target: "site:app" takes .*, which is ambiguous') as caught:
        adapted(found)

    lines = [
        f'interface = "{interface}" (--set app.interface={interface}) if it takes '
        for interface in ("asgi3", "asgi2", "consumer", "wsgi")
    ]
    assert [line for line in lines if line in str(caught.value)] == [
        f'interface = "{choice}" (--set app.interface={choice}) if it takes ' for choice in choices
    ]
    assert list(choices) == [adapted(found, choice).interface for choice in choices]


def _create_app(test_config=None): ...
def _create_app_of_two(config=None, level=0): ...
async def _handler_of_any(request=None): ...


@pytest.mark.parametrize(
    ("found", "is_factory"),
    [(_create_app, True), (_create_app_of_two, True), (_handler_of_any, False), (lambda request: None, False)],
)
def test_a_callable_that_needs_no_argument_may_be_a_factory(found, is_factory):
    """As frameworks write factories; an async factory is rejected."""
    with pytest.raises(BootError, match="which is ambiguous") as caught:
        adapted(found)

    assert is_factory == str(caught.value).endswith(
        ", or factory = true (--set app.factory=true) if it makes the application"
    )


async def _handler(request): ...


def test_a_handler_of_a_framework_is_ambiguous():
    """As a consumer it would fail at each request. A consumer with such an argument needs the setting."""
    with pytest.raises(
        BootError,
        match=r'is async and takes request, .* interface = "consumer" \(--set app\.interface=consumer\) if it',
    ):
        adapted(_handler)

    assert "consumer" == adapted(_handler, "consumer").interface


class _ClassOfCalls:
    def __init__(self, scope): ...


class _Middleware:
    def __init__(self, app): ...
    async def __call__(self, scope, receive, send): ...


class _WsgiFramework:
    def __init__(self, name, level=0, config=None): ...
    def __call__(self, environ, start_response): ...


class _OtherWsgiMiddleware:
    def __init__(self, app): ...
    def __call__(self, env, start_response): ...


class _AsgiFramework:
    def __init__(self, level=0, routes=None): ...
    async def __call__(self, scope, receive, send): ...


class _Pair:
    def __init__(self, first, second): ...


class _Settings:
    def __init__(self, a=1, b=None, *, c="c", d=(), e=5, f=6, **others): ...


class _Unrelated:
    def __init__(self, scope, receive, send): ...


async def _generator(scope, receive, send):
    yield


async def _generator_of_one(message):
    yield


class _CalledGenerator:
    async def __call__(self, environ, start_response):
        yield


async def _async_scope(scope): ...
async def _async_two(receive, send): ...


WRONG = {
    "nothing": (lambda: None, r"takes no argument: it is not an application .*; if it is a factory"),
    "too many": (lambda a, b, c, d: None, r"takes a, b, c, d: it is not an application"),
    "by keyword only": (lambda *, scope: None, r"takes \*, scope: it is not an application"),
    "ASGI 3 without send": (lambda scope, receive: None, r"takes scope, receive: it is not an application"),
    "a consumer of two": (lambda message, channels: None, r"takes message, channels: it is not an application"),
    "ASGI 2 with an async first call": (_async_scope, r"is async and takes scope: it is not an application"),
    "the second call of ASGI 2": (_async_two, r"is async and takes receive, send: it is not an application"),
    "the second call of ASGI 2, as an object": (
        Asgi2({}),
        r"is async and takes receive, send: it is not an application",
    ),
    "a class without __call__": (
        _ClassOfCalls,
        r"class that takes scope, whose instances do not take receive, send: it is not an application",
    ),
    "the class of a middleware": (
        _Middleware,
        r"class that takes app, whose instances do not take .*: it is not .*; name an instance of it, or a factory$",
    ),
    "a class of WSGI applications": (
        _WsgiFramework,
        r"class that takes name, level=0, config=None, whose instances do not take receive, send: it is not",
    ),
    "the class of a WSGI middleware": (
        _OtherWsgiMiddleware,
        r"takes app, whose instances do not take receive, send: it",
    ),
    "a class of ASGI applications": (
        _AsgiFramework,
        r"; name an instance of it, or write factory = true in \[app\] \(--set app\.factory=true\) to create one$",
    ),
    "a class without __iter__": (_Pair, r"takes first, second, whose instances cannot be iterated: it is not"),
    "a class of many settings": (_Settings, r"class that takes a=1, b=None, \*, c='c', d=\(\), e=5, \.\.\., whose"),
    "an async generator": (
        _generator,
        r"is an async generator and takes scope, receive, send: it is not an application",
    ),
    "an async generator of one": (
        _generator_of_one,
        r"is an async generator and takes message: it is not an application",
    ),
    "an async generator, as an object": (
        _CalledGenerator(),
        r"is an async generator and takes environ, start_response: it is not an application",
    ),
    "a class without __await__": (
        _Unrelated,
        r"takes scope, receive, send, whose instances cannot be awaited: it is not",
    ),
    "ASGI 3 without an object": (Asgi3.__call__, r"takes self, scope, receive, send: .*; it is a method without an"),
    "ASGI 2 without an object": (Asgi2.__call__, r"takes self, receive, send: .*; it is a method without an object"),
    "a consumer without an object": (Consumer.__call__, r"takes self, message: .*; it is a method without an object"),
    "a method without an object": (Consumer.method, r"takes self, message: .*; it is a method without an object"),
}


@pytest.mark.parametrize(("found", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_callable_without_an_interface_is_rejected(found, message):
    with pytest.raises(BootError, match=message) as caught:
        adapted(found)

    assert "consumer takes message; wsgi takes environ, start_response" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("found", "interface"),
    [
        (wsgi, "asgi3"),
        (Asgi2, "asgi3"),
        (asgi3, "asgi2"),
        (coroutine_consumer, "asgi2"),
        (_ClassOfCalls, "asgi2"),
        (asgi3, "consumer"),
        (Asgi2, "consumer"),
        (asgi3, "wsgi"),
        (_async_two, "wsgi"),
        (_AsgiFramework, "wsgi"),
        (_WsgiFramework, "asgi2"),
        (_generator, "asgi3"),
    ],
)
def test_a_configured_interface_that_is_not_possible_is_rejected(found, interface):
    """A call with such arguments is not possible, or its result cannot be served."""
    with pytest.raises(BootError, match=rf'^app\.interface: {interface} takes .*, and "site:app" '):
        adapted(found, interface)


# -- lifespan ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("found", "is_http_only"), [(asgi3, False), (asgi2, False), (consumer, True), (wsgi, True)])
def test_only_asgi_2_and_3_have_more_than_http(found, is_http_only):
    """Other interfaces get no scope of a lifespan or a WebSocket."""
    assert is_http_only == adapted(found).is_http_only


@pytest.mark.parametrize("found", [consumer, wsgi])
def test_a_required_lifespan_is_rejected_for_an_interface_without_one(found):
    """With "auto" the application is served without."""
    with pytest.raises(BootError, match=r'^app\.lifespan: "site:app" has the interface \w+, without a lifespan'):
        adapted(found, lifespan="on")

    assert adapted(found, lifespan="auto").is_http_only


# -- ASGI 2 ------------------------------------------------------------------------------------------------------------


def test_asgi_2_is_called_twice_for_each_request():
    """First with the scope, which has its version, then with receive and send."""
    calls: list[Any] = []

    class App:
        def __init__(self, scope):
            self.scope = scope

        async def __call__(self, receive, send):
            calls.append((self.scope, await receive()))
            await send("sent")

    async def receive() -> Any:
        return "received"

    async def send(message: Any) -> None:
        calls.append(message)

    app: Any = ADAPTERS["asgi2"](App, config.Config.model_validate({"app": {"target": "site:app"}}))
    asyncio.run(app({"type": "http", "asgi": {"version": "3.0", "spec_version": "2.5"}}, receive, send))

    assert [({"type": "http", "asgi": {"version": "2.0", "spec_version": "2.5"}}, "received"), "sent"] == calls
