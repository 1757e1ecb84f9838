"""What a callable speaks is found from its shape, and what is in doubt is not guessed."""

import asyncio
import functools
from typing import Any

import pytest

from asgid import config
from asgid.errors import BootError
from asgid.worker.app.interface import ADAPTERS, Interface, LoadedApp, adapt

# -- shapes ------------------------------------------------------------------------------------------------------------


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
    async def of_nobody(scope, receive, send): ...


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
    """As C code is."""

    @property
    def __signature__(self):
        raise ValueError("no signature found")

    async def __call__(self): ...


SHAPES: dict[Interface, dict[str, Any]] = {
    "asgi3": {
        "a coroutine function": asgi3,
        "whose arguments have other names": other_names,
        "with an argument of its own": with_more,
        "that returns a coroutine": returns_a_coroutine,
        "that also speaks ASGI 2": both_asgi,
        "that takes anything": anything,
        "an object": Asgi3(),
        "a method": Asgi3().method,
        "a static method": Asgi3.of_nobody,
        "a partial": functools.partial(with_more, state=1),
        "a decorated function": decorated(asgi3),
        "a class of what can be awaited": Endpoint,
        "C code": Unreadable(),
    },
    "asgi2": {
        "a class": Asgi2,
        "a class that inherits": Asgi2Child,
        "a class whose arguments have other names": OtherAsgi2,
        "a function": asgi2,
        "an object": Router(),
        "a decorated function": decorated(asgi2),
        "a lambda": lambda scope: functools.partial(asgi3, scope),
    },
    "consumer": {
        "a function": consumer,
        "with a route's arguments": consumer_of_a_route,
        "a coroutine function": coroutine_consumer,
        "an object": Consumer(),
        "a method": Consumer().method,
        "a partial": functools.partial(consumer),
        "a decorated function": decorated(consumer),
    },
    "wsgi": {
        "a function": wsgi,
        "whose arguments have other names": other_wsgi,
        "with an argument of its own": wsgi_with_more,
        "an object": Wsgi(),
        "a class of what can be iterated": WsgiOfObjects,
        "a decorated function": decorated(wsgi),
    },
}


@pytest.fixture(autouse=True)
def every_adapter(monkeypatch):
    """Has each interface served, by something that can be told from the others."""
    monkeypatch.setattr("asgid.worker.app.interface.ADAPTERS", dict.fromkeys(ADAPTERS, lambda app, _: app))


def spoken(found: Any, interface: str = "auto", **settings: object) -> LoadedApp:
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
def test_the_interface_is_found_from_the_shape(interface, found):
    """And what is found may be written, too."""
    assert interface == spoken(found).interface
    assert interface == spoken(found, interface).interface


@pytest.mark.parametrize("interface", SHAPES)
def test_who_says_what_c_code_speaks_is_believed(interface):
    """There is nothing to be seen that could be held against it."""
    assert interface == spoken(Unreadable(), interface).interface


# -- doubt -------------------------------------------------------------------------------------------------------------

DOUBTFUL: dict[str, tuple[Any, tuple[Interface, ...]]] = {
    "one argument of any name": (lambda request: None, ("asgi2", "consumer")),
    "a second one that may be left out": (lambda a, b=None: None, ("asgi2", "consumer", "wsgi")),
    "none that must be there": (lambda config=None: None, ("asgi2", "consumer")),
    "three that may be left out": (lambda a=1, b=2, c=3: None, ("asgi3", "asgi2", "consumer", "wsgi")),
}


@pytest.mark.parametrize(("found", "choices"), DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_what_is_in_doubt_says_which_lines_end_it(found, choices):
    """And each of these lines does."""
    with pytest.raises(BootError, match=r'^app\.target: "site:app" takes .*, which could mean anything') as caught:
        spoken(found)

    lines = [
        f'interface = "{interface}" (--set app.interface={interface}) if it takes '
        for interface in ("asgi3", "asgi2", "consumer", "wsgi")
    ]
    assert [line for line in lines if line in str(caught.value)] == [
        f'interface = "{choice}" (--set app.interface={choice}) if it takes ' for choice in choices
    ]
    assert list(choices) == [spoken(found, choice).interface for choice in choices]


def _create_app(test_config=None): ...
def _create_app_of_two(config=None, level=0): ...
async def _handler_of_any(request=None): ...


@pytest.mark.parametrize(
    ("found", "is_said"),
    [(_create_app, True), (_create_app_of_two, True), (_handler_of_any, False), (lambda request: None, False)],
)
def test_what_is_in_doubt_may_be_a_factory_where_it_needs_no_argument(found, is_said):
    """As frameworks write it; one that is async would be refused."""
    with pytest.raises(BootError, match="which could mean anything") as caught:
        spoken(found)

    assert is_said == str(caught.value).endswith(
        ", or factory = true (--set app.factory=true) if it makes the application"
    )


async def _handler(request): ...


def test_a_handler_of_a_framework_is_not_taken_for_a_consumer():
    """It would fail at each request; only a consumer that says so has an argument of such a name."""
    with pytest.raises(
        BootError,
        match=r'is async and takes request, .* interface = "consumer" \(--set app\.interface=consumer\) if it',
    ):
        spoken(_handler)

    assert "consumer" == spoken(_handler, "consumer").interface


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
    "nothing": (lambda: None, r"takes no argument: it is no application .*; is it a factory\?"),
    "too many": (lambda a, b, c, d: None, r"takes a, b, c, d: it is no application"),
    "by name alone": (lambda *, scope: None, r"takes \*, scope: it is no application"),
    "ASGI 3 without send": (lambda scope, receive: None, r"takes scope, receive: it is no application"),
    "a consumer of two": (lambda message, channels: None, r"takes message, channels: it is no application"),
    "ASGI 2 that is async too early": (_async_scope, r"is async and takes scope: it is no application"),
    "the second half of ASGI 2": (_async_two, r"is async and takes receive, send: it is no application"),
    "the second half of ASGI 2, as an object": (Asgi2({}), r"is async and takes receive, send: it is no application"),
    "a class of what cannot be called": (
        _ClassOfCalls,
        r"class that takes scope, whose objects do not take receive, send: it is no application",
    ),
    "a middleware's class": (
        _Middleware,
        r"class that takes app, whose objects do not take .*: it is no app.*; name an object of it, or a factory$",
    ),
    "a class of WSGI applications": (
        _WsgiFramework,
        r"class that takes name, level=0, config=None, whose objects do not take receive, send: it is no",
    ),
    "a middleware's class of WSGI": (_OtherWsgiMiddleware, r"takes app, whose objects do not take receive, send: it"),
    "a class of ASGI applications": (
        _AsgiFramework,
        r"; name an object of it, or write factory = true in \[app\] \(--set app\.factory=true\) to have one made$",
    ),
    "a class of what cannot be iterated": (_Pair, r"takes first, second, whose objects cannot be iterated: it is no"),
    "a class of many settings": (_Settings, r"class that takes a=1, b=None, \*, c='c', d=\(\), e=5, \.\.\., whose"),
    "an async generator": (_generator, r"is an async generator and takes scope, receive, send: it is no application"),
    "an async generator of one": (_generator_of_one, r"is an async generator and takes message: it is no application"),
    "an async generator, as an object": (
        _CalledGenerator(),
        r"is an async generator and takes environ, start_response: it is no application",
    ),
    "a class of what cannot be awaited": (
        _Unrelated,
        r"takes scope, receive, send, whose objects cannot be awaited: it is no",
    ),
    "ASGI 3 without its object": (Asgi3.__call__, r"takes self, scope, receive, send: .*; it is a method without its"),
    "ASGI 2 without its object": (Asgi2.__call__, r"takes self, receive, send: .*; it is a method without its object"),
    "a consumer without its object": (Consumer.__call__, r"takes self, message: .*; it is a method without its object"),
    "a method without its object": (Consumer.method, r"takes self, message: .*; it is a method without its object"),
}


@pytest.mark.parametrize(("found", "why"), WRONG.values(), ids=WRONG.keys())
def test_what_is_no_application_is_refused(found, why):
    """With what it takes, and what each interface takes."""
    with pytest.raises(BootError, match=why) as caught:
        spoken(found)

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
def test_what_is_written_is_refused_where_it_cannot_be(found, interface):
    """A call with such arguments is not possible, or gives what is of no use."""
    with pytest.raises(BootError, match=rf'^app\.interface: {interface} takes .*, and "site:app" '):
        spoken(found, interface)


# -- lifespan ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("found", "is_http_only"), [(asgi3, False), (asgi2, False), (consumer, True), (wsgi, True)])
def test_only_asgi_2_and_3_know_more_than_http(found, is_http_only):
    """To the others a scope of lifespan or of a WebSocket is never shown."""
    assert is_http_only == spoken(found).is_http_only


@pytest.mark.parametrize("found", [consumer, wsgi])
def test_a_lifespan_cannot_be_asked_of_what_has_none(found):
    """Where it is only looked for, there is none."""
    with pytest.raises(BootError, match=r'^app\.lifespan: "site:app" speaks \w+, which has no lifespan'):
        spoken(found, lifespan="on")

    assert spoken(found, lifespan="auto").is_http_only


# -- ASGI 2 ------------------------------------------------------------------------------------------------------------


def test_asgi_2_is_called_twice():
    """First with the scope, which names its version, then with receive and send, in one request."""
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
