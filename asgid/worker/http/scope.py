"""Request head -> ASGI scope (ASGI HTTP specification, "HTTP Connection Scope").

What does not change within a connection stands in a template that is copied for each request; measured, a copy and six
stores are cheaper than one display of fourteen keys.
"""

from collections.abc import Mapping
from typing import Any, AnyStr, TypeAlias
from urllib.parse import unquote_to_bytes

Scope: TypeAlias = dict[str, Any]  # ASGI's own type: keys and values are the specification's
Address: TypeAlias = tuple[str, int] | tuple[str, None] | None

#: How an application may have the kernel send a file, if `http.sendfile` is on.
FILES: Scope = {"http.response.pathsend": {}, "http.response.zerocopysend": {}}
#: What a response may use beyond the specification. A client of HTTP/1.0 has neither chunks nor informational answers.
EXTENSIONS: Scope = {"http.response.trailers": {}, "http.response.early_hint": {}}
#: Of the HTTP specification. From 2.4 on Starlette's streams do not listen for http.disconnect, but wait for send() to
#: raise: a stream that has nothing to send would never end. Decision 32 has the evidence.
SPEC_VERSION = "2.3"

_PERCENT = ord("%")  # looking for a number in bytes takes 15 ns, looking for bytes 270


def scope_template(
    client: Address, server: Address, scheme: str, *, root_path: str, extensions: Scope = EXTENSIONS
) -> Scope:
    """Return what the scopes of one connection have in common. `extensions` may lose some while it is open."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": SPEC_VERSION},
        "http_version": "1.1",
        "server": server,
        "client": client,
        "scheme": scheme,
        "method": "",
        "root_path": root_path,
        "path": "",
        "raw_path": b"",
        "query_string": b"",
        "headers": (),
        "extensions": extensions,
    }


def request_scope(
    common: Scope,
    state: Mapping[str, Any] | None,
    method: str,
    target: bytes,
    minor: int,
    headers: list[tuple[bytes, bytes]],
) -> Scope:
    """Return the scope of one request; `target` is the request target as it was sent (RFC 9112 section 3.2).

    `state` is None where the application has no lifespan: by the key's absence it knows that nothing is kept for it.
    """
    raw_path, _, query = target.partition(b"?")
    if raw_path[:1] != b"/":
        raw_path = _path_of_absolute(raw_path)
    scope = common.copy()
    # An application may write to what it is given: what is not made for it alone is copied.
    scope["asgi"] = common["asgi"].copy()
    scope["extensions"] = common["extensions"].copy()
    if not minor:
        scope["http_version"] = "1.0"
        for name in EXTENSIONS:
            del scope["extensions"][name]
    scope["method"] = method
    # An octet that is not UTF-8 becomes U+FFFD, as with uvicorn, granian and hypercorn. A lone surrogate in its place
    # cannot be encoded: each such request to a Django project was a 500. `raw_path` has the octets.
    path = (unquote_to_bytes(raw_path) if _PERCENT in raw_path else raw_path).decode("utf-8", "replace")
    scope["path"] = full_path(common["root_path"], path) if common["root_path"] else path
    scope["raw_path"] = raw_path
    scope["query_string"] = query
    scope["headers"] = headers
    if state is not None:
        scope["state"] = {**state}
    return scope


def full_path(root_path: str, path: str) -> str:
    """Return the path that the client asked for, `root_path` at its beginning (ASGI HTTP specification, "path").

    Some proxies take the prefix away and others leave it, so a path that has it gets no second one. `*` is not a path.
    """
    return root_path + strip_root_path(root_path, path) if path.startswith("/") else path


def strip_root_path(root_path: AnyStr, path: AnyStr) -> AnyStr:
    """Return `path` without `root_path`, if it begins with these segments."""
    rest = path[len(root_path) :]
    return rest if path.startswith(root_path) and rest[:1] in ("", "/", b"", b"/") else path


def _path_of_absolute(target: bytes) -> bytes:
    """Return the path of an absolute-form target (`GET http://host/path`); `*` and an authority stay as they are."""
    scheme, found, rest = target.partition(b"://")
    if not found or not scheme.isalpha():
        return target
    _, slash, path = rest.partition(b"/")
    return slash + path or b"/"
