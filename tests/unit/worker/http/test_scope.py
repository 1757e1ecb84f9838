"""The scope of a request, as the ASGI specification describes it."""

from typing import Any

import pytest

from asgid.worker.asgi import Scope
from asgid.worker.http.scope import EXTENSIONS, FILES, request_scope, scope_template


def scope_of(target: bytes, *, method: str = "GET", root_path: str = "", **state: Any) -> Scope:
    common = scope_template(client=("192.0.2.1", 5000), server=("192.0.2.2", 80), root_path=root_path, scheme="http")
    return request_scope(common, state, method, target, 1, [(b"host", b"a")])


def test_a_scope_has_each_key_of_the_specification():
    expected: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"c=%20d?e",
        "root_path": "",
        "headers": [(b"host", b"a")],
        "client": ("192.0.2.1", 5000),
        "server": ("192.0.2.2", 80),
        "extensions": {"http.response.trailers": {}, "http.response.early_hint": {}},
        "state": {"pool": 7},
    }

    assert expected == scope_of(b"/a%20b?c=%20d?e", method="POST", pool=7)


# target, path, raw_path, query_string
TARGETS = [
    (b"/", "/", b"/", b""),
    (b"/?", "/", b"/", b""),
    (b"/a?b?c", "/a", b"/a", b"b?c"),
    (b"/%C3%A9", "/\u00e9", b"/%C3%A9", b""),
    (b"/a%2Fb", "/a/b", b"/a%2Fb", b""),
    (b"/%2", "/%2", b"/%2", b""),
    (b"/%FF", "/\ufffd", b"/%FF", b""),
    (b"/a%c3", "/a\ufffd", b"/a%c3", b""),
    (b"/%c0%ae", "/\ufffd\ufffd", b"/%c0%ae", b""),
    (b"/%ed%a0%80", "/\ufffd\ufffd\ufffd", b"/%ed%a0%80", b""),
    (b"/\xc3\xa9", "/\u00e9", b"/\xc3\xa9", b""),
    (b"//a", "//a", b"//a", b""),
    (b"/http://b/c", "/http://b/c", b"/http://b/c", b""),
    (b"*", "*", b"*", b""),
    (b"a:443", "a:443", b"a:443", b""),
    (b"http://a/b?c", "/b", b"/b", b"c"),
    (b"HTTPS://a:1/b", "/b", b"/b", b""),
    (b"http://a", "/", b"/", b""),
    (b"http://a?b", "/", b"/", b"b"),
]


@pytest.mark.parametrize(("target", "path", "raw_path", "query"), TARGETS)
def test_the_path_is_found_in_any_form_of_a_target(target, path, raw_path, query):
    """Origin, absolute, authority and asterisk form (RFC 9112 section 3.2). No UTF-8 becomes U+FFFD."""
    scope = scope_of(target)

    assert (path, raw_path, query) == (scope["path"], scope["raw_path"], scope["query_string"])


#: For the root path /api: target -> path. Some proxies strip the prefix, others do not.
ROOTED = {
    b"/a": "/api/a",
    b"/api/a": "/api/a",
    b"/api": "/api",
    b"/api/": "/api/",
    b"/": "/api/",
    b"/apis/a": "/api/apis/a",
    b"/%61pi/a": "/api/a",
    b"/a/api/b": "/api/a/api/b",
    b"//api/a": "/api//api/a",
    b"http://h/api/a": "/api/a",
    b"*": "*",
}


@pytest.mark.parametrize("target", ROOTED)
def test_the_path_begins_with_the_root_path_once(target):
    """As in ASGI since 2.3. `OPTIONS *` concerns the whole server, and has no path."""
    scope = scope_of(target, root_path="/api")

    assert (ROOTED[target], "/api") == (scope["path"], scope["root_path"])


def test_the_raw_path_is_the_path_that_the_client_sent():
    assert b"/a" == scope_of(b"/a", root_path="/api")["raw_path"]
    assert b"/api/a" == scope_of(b"/api/a", root_path="/api")["raw_path"]


def test_a_scope_has_no_state_without_a_lifespan():
    """The application then knows that nothing is shared."""
    common = scope_template(client=None, server=None, root_path="", scheme="http")

    assert "state" not in request_scope(common, None, "GET", b"/", 1, [])


def test_http_1_0_has_no_trailers_and_no_early_hints():
    """HTTP/1.0 has neither chunks nor informational responses."""
    common = scope_template(client=None, server=None, root_path="", scheme="http", extensions={**EXTENSIONS, **FILES})

    assert FILES == request_scope(common, None, "GET", b"/", 0, [])["extensions"]
    assert {**EXTENSIONS, **FILES} == request_scope(common, None, "GET", b"/", 1, [])["extensions"]


def test_changes_of_a_scope_stay_in_its_request():
    common = scope_template(client=None, server=None, root_path="", scheme="http")
    state = {"pool": 7}
    first = request_scope(common, state, "GET", b"/", 1, [])
    first["asgi"]["version"] = "4"
    first["state"]["pool"] = 8
    first["extensions"].clear()
    first["extra"] = True
    second = request_scope(common, state, "GET", b"/", 1, [])

    assert ("3.0", {"pool": 7}, False) == (second["asgi"]["version"], second["state"], "extra" in second)
    assert EXTENSIONS == second["extensions"]
