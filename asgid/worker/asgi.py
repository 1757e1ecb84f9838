"""The types of the ASGI specification, once for the whole worker."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

#: A message of `receive()` or `send()`; also a scope, for code that serves any application.
Message: TypeAlias = MutableMapping[str, Any]
#: The scope that asgid builds. Keys and values are those of the specification.
Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
#: An ASGI 3 application.
Application: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
