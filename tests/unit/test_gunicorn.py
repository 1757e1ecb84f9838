"""The translation of gunicorn's settings into asgid's."""

from operator import attrgetter

import gunicorn
import pytest
from gunicorn.config import Config

from asgid.gunicorn import SETTINGS, settings_of

#: Settings that not every supported gunicorn has: `http_protocols` since 25, the other since 27.
NEW_SETTINGS = {"http_protocols", "websocket_max_message_size"}


def gunicorns(**settings: object) -> Config:
    found = Config()
    for name, value in settings.items():
        if name in NEW_SETTINGS - found.settings.keys():
            pytest.skip(f"gunicorn {gunicorn.__version__} has no {name}")
        found.set(name, value)
    return found


TRANSLATED = {
    # gunicorn's setting: (its value, our key, our value)
    "graceful_timeout": (30, "timeouts.graceful", 28.0),
    "graceful_timeout that is short": (2, "timeouts.graceful", 1.0),
    "keepalive": (7, "timeouts.keep_alive", 7.0),
    "keepalive off": (0, "timeouts.keep_alive", 0.001),
    "worker_connections": (12, "limits.connections", 12),
    "threads": (4, "workers.threads", 4),
    "limit_request_line": (1000, "limits.request_line", 1000),
    "limit_request_line off": (0, "limits.request_line", 2**20),
    "limit_request_fields": (50, "limits.header_count", 50),
    "limit_request_fields off": (0, "limits.header_count", 32768),
    "limit_request_field_size": (20_000, "limits.header_size", 80_000),
    "limit_request_field_size that is small": (100, "limits.header_size", 32768),
    "limit_request_field_size off": (0, "limits.header_size", 2**20),
    "forwarded_allow_ips": ("10.0.0.0/8,::1", "proxy.trusted", ("10.0.0.0/8", "::1", "unix")),
    "forwarded_allow_ips of every peer": ("*", "proxy.trusted", ("*", "unix")),
    "websocket_max_message_size": (100, "websocket.max_message", 100),
    "root_path": ("/api", "app.root_path", "/api"),
    "asgi_lifespan": ("off", "app.lifespan", "off"),
    "loglevel": ("critical", "log.level", "error"),
    "errorlog": ("/tmp/error.log", "log.output", "/tmp/error.log"),
    "errorlog on the terminal": ("-", "log.output", "stderr"),
    "accesslog": (None, "log.access.enabled", False),
    "accesslog on the terminal": ("-", "log.access.output", "stdout"),
    "accesslog in a file": ("/tmp/access.log", "log.access.output", "/tmp/access.log"),
    "proc_name": ("site", "process.name", "site"),
}


@pytest.mark.parametrize(
    ("name", "case"), [(name.split()[0], case) for name, case in TRANSLATED.items()], ids=TRANSLATED.keys()
)
def test_a_setting_of_gunicorn_sets_a_key_of_asgid(name, case):
    value, key, ours = case

    assert ours == attrgetter(key)(settings_of(gunicorns(**{name: value})))


def test_gunicorns_defaults_are_valid_settings():
    settings = settings_of(gunicorns())

    assert all(attrgetter(key)(settings) is not None for key in SETTINGS)
    assert (
        '{client} - - [{clf_time}] "{method} {target} HTTP/{version}" {status} {bytes} "{referer}" "{user_agent}"'
        == (settings.log.access.format)
    )


FORMATS = {
    "%(m)s %(U)s?%(q)s": "{method} {path}?{query}",
    "%({x-request-id}i)s": "{header[x-request-id]}",
    "{%(s)s}": "{{{status}}}",
}


@pytest.mark.parametrize("format_", FORMATS)
def test_an_access_format_is_translated(format_):
    """Each atom becomes a field; other text is unchanged."""
    assert FORMATS[format_] == settings_of(gunicorns(access_log_format=format_)).log.access.format


REFUSED = {
    "certfile": ("cert.pem", "does not support certfile .'cert.pem'.: let a proxy in front serve TLS"),
    "protocol": ("uwsgi", "does not support protocol"),
    "http_protocols": ("h2", "does not support http_protocols"),
    "statsd_host": ("localhost:8125", "does not support statsd_host"),
    "access_log_format": ("%(D)s", r"access_log_format: %\(D\)s is not supported; use h l u"),
    "root_path": ("api", "app.root_path: expected"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_setting_without_a_counterpart_is_refused(name):
    """The message names it and the fix. gunicorn shows a RuntimeError without a traceback."""
    value, message = REFUSED[name]

    with pytest.raises(RuntimeError, match=message):
        settings_of(gunicorns(**{name: value}))


def test_two_different_lists_of_proxies_are_refused():
    """asgid has one list for the PROXY protocol and for headers."""
    with pytest.raises(RuntimeError, match="proxy_allow_ips"):
        settings_of(gunicorns(proxy_protocol="v1", proxy_allow_ips="10.0.0.1"))

    both = gunicorns(proxy_protocol="v1", proxy_allow_ips="10.0.0.1", forwarded_allow_ips="10.0.0.1")
    assert ("10.0.0.1", "unix") == settings_of(both).proxy.trusted
