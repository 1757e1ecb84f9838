"""Describes an error in a file, with the key or value that was probably meant.

The most certain suggestion wins: a setting of another server, then the key in another table, then a similar name.
"""

import json
import re
from collections.abc import Iterable, Mapping

from pydantic_core import ErrorDetails

from asgid.config.document import read_word
from asgid.config.reserved_keys import reserved_key
from asgid.config.spelling import did_you_mean, nearest
from asgid.config.tables import TABLES, header
from asgid.config.toml_lines import KeyPath, full_name
from asgid.config.translation import translated_value
from asgid.config.value_types import quoted

#: What programs that configure gunicorn may define.
_HOOKS = (
    *("on_starting", "on_reload", "on_exit", "when_ready", "nworkers_changed", "ssl_context"),
    *("pre_exec", "pre_fork", "post_fork", "post_worker_init", "pre_request", "post_request"),
    *("child_exit", "worker_abort", "worker_exit", "worker_int"),
)

#: Settings of other servers -> our key, or a sentence where we have none.
ELSEWHERE: Mapping[str, str] = {
    "access_log": "log.access.enabled",
    "access_log_fmt": "log.access.format",
    "access_log_format": "log.access.format",
    "access_logfile": "log.access.output",
    "access_logformat": "log.access.format",
    "accesslog": "log.access.output",
    "address": "listen.bind",
    "app": "app.target",
    "app_dir": "set PYTHONPATH where asgid is started, or directory in [app], which is the working directory too",
    "application": "app.target",
    "application_close_timeout": "an application whose client has left may take as long as it likes",
    "asgi_lifespan": "app.lifespan",
    "asgi_loop": "uvloop runs the event loop where it is installed, asyncio where it is not",
    "backpressure": "limits.connections",
    "blocking_threads": "workers.threads",
    "ca_certs": "client certificates are not checked",
    "capture_output": "what a program prints goes where its standard streams go",
    "certfile": "tls.NAME.cert",
    "chdir": "app.directory",
    "check_config": "asgid check -c FILE names what is wrong in a file",
    "control_socket": "control.socket",
    "control_socket_mode": "control.mode",
    "daemon": "asgid stays in the foreground; systemd or a container runtime puts it into the background",
    "debug": "log.level",
    "endpoint": "listen.bind",
    "env_file": "app.env",
    "env_files": "app.env",
    "error_log": "log.output",
    "error_logfile": "log.output",
    "errorlog": "log.output",
    "fd": "listen.bind",
    "forwarded_allow_ips": "proxy.trusted",
    "graceful_timeout": "timeouts.graceful",
    "h11_max_incomplete_event_size": "limits.header_size",
    "h11_max_incomplete_size": "limits.header_size",
    "header": "the application or a proxy in front adds headers; headers in [proxy] are those that name the client",
    "header_timeout": "timeouts.header",
    "headers": "the application or a proxy in front adds headers; headers in [proxy] are those that name the client",
    "host": 'an address is bind = "127.0.0.1:8000" in [[listen]]; whether a proxy may say the host is host in [proxy]',
    "http": "HTTP/1.1 is spoken, and read by asgid itself",
    "http_timeout": "timeouts.request",
    "include_date_header": "http.date_header",
    "include_server_header": "http.server_header",
    "insecure_bind": "listen.bind",
    "keep_alive_timeout": "timeouts.keep_alive",
    "keepalive": "timeouts.keep_alive",
    "keyfile": "tls.NAME.key",
    "limit_concurrency": "limits.requests",
    "limit_max_requests": "workers.max_requests",
    "limit_max_requests_jitter": "workers.max_requests_jitter",
    "limit_request_field_size": "limits.header_size",
    "limit_request_fields": "limits.header_count",
    "limit_request_line": "limits.request_line",
    "log_access": "log.access.enabled",
    "log_access_format": "log.access.format",
    "log_config": "the application's own logging is left alone; asgid's is [log]",
    "log_fmt": "log.format",
    "log_level": "log.level",
    "logconfig": "the application's own logging is left alone; asgid's is [log]",
    "logconfig_dict": "the application's own logging is left alone; asgid's is [log]",
    "logger_class": "the application's own logging is left alone; asgid's is [log]",
    "loglevel": "log.level",
    "loop": "uvloop runs the event loop where it is installed, asyncio where it is not",
    "max_app_queue_size": "reading pauses while 64 KiB of a body wait for the application",
    "max_requests": "workers.max_requests",
    "metrics": "metrics.enabled",
    "metrics_address": "metrics.bind",
    "metrics_enabled": "metrics.enabled",
    "metrics_port": "metrics.bind",
    "metrics_scrape_interval": "each scrape is current",
    "no_sendfile": "http.sendfile",
    "no_server_name": "http.server_header",
    "pid": "process.pid_file",
    "pidfile": "process.pid_file",
    "port": "listen.bind",
    "preload": "each worker imports the application itself, so that a reload brings its new code",
    "preload_app": "each worker imports the application itself, so that a reload brings its new code",
    "print_config": "asgid config -c FILE shows the settings in force",
    "proc_name": "process.name",
    "process_name": "process.name",
    "proxy_allow_from": "proxy.trusted",
    "proxy_allow_ips": "proxy.trusted",
    "proxy_headers": "proxy.headers",
    "proxy_headers_host": "proxy.headers",
    "proxy_headers_port": "proxy.headers",
    "pythonpath": "set PYTHONPATH where asgid is started, or directory in [app], which is the working directory too",
    "quic_bind": "HTTP/1.1 is spoken; HTTP/3 is for a proxy in front",
    "raw_env": "app.env",
    "read_timeout": "timeouts.body",
    "reload": "nothing watches the code; a HUP to the master brings it in, and a watcher can send that",
    "reset_contextvars": "each request begins with context variables of its own",
    "respawn_failed_workers": "a worker that fails is always replaced",
    "respawn_interval": "a worker is replaced at once, and with growing pauses where that fails",
    "reuse_port": "all workers accept from the same sockets",
    "runtime_mode": "each worker has one event loop",
    "runtime_threads": "each worker has one event loop",
    "secure_scheme_headers": "the scheme is X-Forwarded-Proto, or proto= of Forwarded, of who is in proxy.trusted",
    "server_name": "the Server header is server_header in [http]; the application or a proxy in front chooses by host",
    "server_names": "the Server header is server_header in [http]; the application or a proxy in front chooses by host",
    "shutdown_timeout": "timeouts.graceful",
    "ssl_ca_certs": "client certificates are not checked",
    "ssl_certfile": "tls.NAME.cert",
    "ssl_certificate": "tls.NAME.cert",
    "ssl_keyfile": "tls.NAME.key",
    "startup_timeout": "timeouts.boot",
    "static_path_mount": "files are served by the application, or by a proxy in front",
    "static_path_route": "files are served by the application, or by a proxy in front",
    "statsd_host": "metrics are read from the address at metrics.bind",
    "task_impl": "each worker has one event loop",
    "timeout": "timeouts.heartbeat",
    "timeout_graceful_shutdown": "timeouts.graceful",
    "timeout_keep_alive": "timeouts.keep_alive",
    "timeout_worker_healthcheck": "timeouts.heartbeat",
    "uds": "listen.bind",
    "uds_permissions": "listen.mode",
    "unix_socket": "listen.bind",
    "url_path_prefix": "app.root_path",
    "verbosity": "log.level",
    "websocket_connect_timeout": "timeouts.request",
    "websocket_max_frame_size": "websocket.max_message",
    "websocket_max_message_size": "websocket.max_message",
    "websocket_ping_interval": "websocket.ping_interval",
    "websocket_timeout": "a WebSocket may last as long as it likes",
    "websockets": "WebSockets are served",
    "worker_class": "there is one kind of worker; the application's interface is app.interface",
    "worker_connections": "limits.connections",
    "worker_tmp_dir": "workers tell that they live in memory that they share with the master, not in files",
    "workers": "workers.count",
    "workers_kill_timeout": "timeouts.kill",
    "workers_lifetime": "workers.max_lifetime",
    "workers_max_rss": "workers.max_memory",
    "working_dir": "app.directory",
    "ws": "WebSockets are served",
    "ws_max_queue": "websocket.queue",
    "ws_max_size": "websocket.max_message",
    "ws_per_message_deflate": "websocket.compression",
    "ws_ping_interval": "websocket.ping_interval",
    "ws_ping_timeout": "websocket.ping_timeout",
    "wsgi_app": "app.target",
    **dict.fromkeys(_HOOKS, "there are no hooks; what they do belongs into the lifespan of the application"),
}

#: What is a command elsewhere, or will be one -> how it is asked for here.
COMMANDS: Mapping[str, str] = {
    **dict.fromkeys(("reload", "restart"), "send HUP to the master: the line `running` of its log has the command"),
    **dict.fromkeys(("status", "top"), "ask the address at metrics.bind: curl -s 127.0.0.1:9464/status"),
    "help": "write asgid --help",
    "scale": "send TTIN to the master for one worker more, TTOU for one fewer",
    "stop": "send TERM to the master: the line `running` of its log has the command",
    "version": "write asgid --version",
}
#: What stands before the application elsewhere; here nothing does.
STARTS = frozenset({"run", "serve", "start"})


def describe_error(detail: ErrorDetails) -> str:
    """Return the message for an error of validation, in the words of the file."""
    path, value = detail["loc"], detail["input"]
    name = full_name(path)
    match detail["type"]:
        case "value_error":
            return str(detail["ctx"]["error"])
        case "extra_forbidden":
            return _unknown_key(path, value)
        case "missing":
            return 'is required: [app] and below it target = "module:attribute", such as "myapp.asgi:application"'
        case "literal_error":
            words = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
            question = did_you_mean(value.lower(), words) if isinstance(value, str) else ""
            return f"expected one of {', '.join(map(quoted, words))}, not {quoted(value)}{question}"
        case "bool_type":
            return f"expected true or false, without quotes, not {quoted(value)}"
        case "tuple_type" if name == "listen":
            return 'write [[listen]], in double brackets, for it may be repeated, then bind = "127.0.0.1:8000"'
        case "tuple_type":
            return f"expected a list in brackets, not {quoted(value)}"
        case "model_type" | "dict_type" if name in ELSEWHERE:
            return f"is a table; {_our_key(ELSEWHERE[name], name, value)}"
        case "model_type" | "dict_type":
            opening = header("tls.NAME" if path[0] == "tls" else name)
            return f"is a table: write {opening} on a line of its own and its keys below, not {quoted(value)}"
    return f"{detail['msg']}, not {quoted(value)}"


def _unknown_key(path: KeyPath, value: object) -> str:
    parent, key = full_name(path[:-1]), str(path[-1])
    known = {table: model.settings() for table, model in TABLES.items()}
    siblings = known["tls.NAME" if parent.startswith("tls.") else parent] if parent else known
    owners = [table for table, keys in known.items() if key in keys]
    plain = key.lower().replace("-", "_")
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, dict) for item in items):  # a table was meant
        return f"there is no such table{did_you_mean(full_name(path).lower(), known) or _all(known, 'they are')}"
    if plain in siblings:
        return f"there is no such key; did you mean {quoted(plain)}?"
    if plain in ELSEWHERE:  # before the owners: `host` is probably another server's address, though [proxy] has a host
        return f"there is no such key; {_our_key(ELSEWHERE[plain], plain, value)}"
    if owners:
        return f"there is no such key here; it belongs in {' or '.join(map(header, owners))}"
    if question := did_you_mean(plain, siblings):
        return f"there is no such key{question}"
    everywhere = {key: f"{table}.{key}" for table, keys in known.items() for key in keys} | dict(ELSEWHERE)
    if guess := nearest(plain, everywhere, 0.8):
        return f"there is no such key; {_our_key(everywhere[guess], guess, value)}"
    return f"there is no such key{_all(siblings, 'here are' if parent else 'every key stands in a table; they are')}"


def _our_key(ours: str, name: str, value: object) -> str:
    """Return how to write the setting `name` of another server, with its value, in asgid's file.

    `ours` is the full name of asgid's key, or the sentence to show if asgid has none.
    """
    if " " in ours:
        return ours
    table, _, key = ours.rpartition(".")
    if reserved_key(ours):
        return f"{key} in {header(table)} comes with a later version"
    word = translated_value(name, ours, value if isinstance(value, str) else json.dumps(value, default=str))
    text = json.dumps(word) if ours == "listen.bind" else word if ours == "app.env" else quoted(read_word(word))
    return f"write {key} = {text} in {header(table)}"


def _all(words: Iterable[str], introduction: str) -> str:
    return f"; {introduction}: {', '.join(dict.fromkeys(words))}"
