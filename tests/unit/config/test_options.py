"""Corrections of another server's command line; each suggestion works as it is printed."""

import re
import shlex
from pathlib import Path

import pytest

from asgid import cli, config
from asgid.config.options import correction
from asgid.config.other_servers import file_settings, load
from asgid.config.translation import translated_value
from asgid.errors import ConfigError
from tests.settings import APP

APPLICATION = "async def app(scope, receive, send): ...\n"
FILES = {
    "main.py": f"import os\nfrom site import main\n{APPLICATION}",
    "shop/asgi.py": "from django.core.asgi import get_asgi_application\napplication = get_asgi_application()\n",
    "src/server.py": "from fastapi import FastAPI\nserver = FastAPI()\nlimit = int('5')\n",
    "library/__init__.py": "",
    "library/web.py": f"try:\n    import uvloop\nexcept ImportError: pass\n{APPLICATION}",
    "factory.py": "def create_app(debug=False): ...\ndef helper(): ...\n",
    "two.py": "from flask import Flask\none = Flask('one')\nother = Flask('other')\n",
    "broken.py": "x = (\n",
}


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the files of applications into the working directory."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "asgid.toml").write_text('[app]\ntarget = "main:app"\n')
    monkeypatch.chdir(tmp_path)


def refused(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the error message for a command line, without the usage."""
    with pytest.raises(SystemExit):
        cli._parse(shlex.split(line)[1:])
    *_, last = capsys.readouterr().err.splitlines()
    return last.partition("error: ")[2]


def typed(line: str) -> config.Config | None:
    """Return the settings of a command as typed into a shell, None if it needs none; variables may come first."""
    words = shlex.split(line)
    while "=" in words[0]:
        del words[0]
    assert words[0] == "asgid"
    arguments = cli._parse(words[1:])
    return None if arguments.action is cli._version else cli._source(arguments).load()


CORRECTIONS = {
    "asgid main:app --env-file .env": (
        "there is no --env-file; asgid does not read such a file; for one variable write --set app.env.NAME=value, "
        "for all run first: set -a; . ./.env; set +a; write asgid main:app"
    ),
    "asgid main:app --access-logfile -": (
        "there is no --access-logfile; write asgid main:app --set log.access.output=stdout"
    ),
    "asgid --port 8000 main:app": "there is no --port; write asgid main:app -b 127.0.0.1:8000",
    "asgid main:app --host 0.0.0.0": "there is no --host; write asgid main:app -b 0.0.0.0:8000",
    "asgid main:app --host :: --port=80": "there is no --host, --port; write asgid main:app -b '[::]:80'",
    "asgid main:app --port shop": (
        'there is no --port; listen.bind does not accept "127.0.0.1:shop", so the command has an example; '
        "write asgid main:app -b 127.0.0.1:8000"
    ),
    "asgid main:app --host 0.0.0.0:9000": "there is no --host; write asgid main:app -b 0.0.0.0:9000",
    "asgid main:app --bind 0.0.0.0": "there is no --bind; write asgid main:app -b 0.0.0.0:8000",
    "asgid main:app --bind ::1 --port 80": "there is no --bind, --port; write asgid main:app -b '[::1]:80'",
    "asgid main:app --bind 127.0.0.1:8001,127.0.0.1:8002": (
        "there is no --bind; write asgid main:app -b 127.0.0.1:8001 -b 127.0.0.1:8002"
    ),
    "asgid main:app --bind 10.0.0.1,10.0.0.2,:80": (
        "there is no --bind; write asgid main:app -b 10.0.0.2:8000 -b :80 -b 10.0.0.1:8000"
    ),
    "asgid main:app --metrics-address :: --metrics-port 9000": (
        "there is no --metrics-address, --metrics-port; write asgid main:app --set 'metrics.bind=\"[::]:9000\"'"
    ),
    "asgid main:app --max-requests=-5": (
        'there is no --max-requests; workers.max_requests does not accept "-5", so the command has an example; '
        "write asgid main:app --set workers.max_requests=0"
    ),
    "asgid main:app --workers=0": (
        'there is no --workers; workers.count does not accept "0", so the command has an example; '
        "write asgid main:app -w 4"
    ),
    "asgid main:app --limit-concurrency 0 --workers-max-rss 0 --backlog 64": (
        "there is no --limit-concurrency, --workers-max-rss, --backlog; "
        "0 refuses every request in uvicorn, so the command leaves it out; "
        "granian does not accept 0, so the command leaves it out; write asgid main:app --set listen.backlog=64"
    ),
    "asgid main:app --read-timeout 0s": (
        "there is no --read-timeout; 0 ends every connection in hypercorn, so the command leaves it out; "
        "write asgid main:app"
    ),
    "asgid main:app --ws-per-message-deflate 0": (
        "there is no --ws-per-message-deflate; write asgid main:app --set websocket.compression=false"
    ),
    "asgid main:app --keep-alive 0": "there is no --keep-alive; write asgid main:app --set timeouts.keep_alive=0.001",
    "asgid main:app --timeout-keep-alive 5": (
        "there is no --timeout-keep-alive; write asgid main:app --set timeouts.keep_alive=5"
    ),
    "asgid main:app --limit-request-line 0 --limit-request-fields 0": (
        "there is no --limit-request-line, --limit-request-fields; "
        "write asgid main:app --set limits.request_line=1048576 --set limits.header_count=32768"
    ),
    "asgid main:app --limit-request-field_size 16380": (
        "there is no --limit-request-field_size; write asgid main:app --set limits.header_size=65520"
    ),
    "asgid main:app --access-logformat '%(h)s %(s)s'": (
        """there is no --access-logformat; write asgid main:app --set 'log.access.format="{client} {status}"'"""
    ),
    "asgid main:app --access-logformat '%(zzz)s'": (
        'there is no --access-logformat; log.access.format does not accept "%(zzz)s", so the command has an example; '
        "write asgid main:app --set log.access.format=combined"
    ),
    "asgid main:app --user 33 --group 33": (
        "there is no --user, --group; write asgid main:app --set process.user=33 --set process.group=33"
    ),
    "asgid main:app --check-config -w 2": (
        "there is no --check-config; asgid check -c FILE names every problem of a file; write asgid check main:app -w 2"
    ),
    "asgid --config asgid.toml --print-config": (
        "there is no --config, --print-config; asgid config -c FILE shows the settings in force; "
        "write asgid config -c asgid.toml"
    ),
    "asgid main:app --config asgid.toml": "there is no --config; write asgid -c asgid.toml --set app.target=main:app",
    "asgid -c asgid.toml main:app --port 80": (
        "there is no --port; write asgid -c asgid.toml --set app.target=main:app -b 127.0.0.1:80"
    ),
    "asgid -v": "there is no -v; write asgid --version",
    "asgid -V": "there is no -V; write asgid --version",
    "asgid main:app -v 2": "there is no -v; write asgid main:app --set log.level=debug",
    "asgid chekc main:app": (
        "'chekc' is not a command, and an application is written module:attribute; did you mean \"check\"?"
    ),
    "asgid main:app --wrokers 4": "there is no --wrokers (did you mean --workers?); write asgid main:app -w 4",
    "asgid main:app --bind :80 --timeout=30": (
        "there is no --bind, --timeout; write asgid main:app -b :80 --set timeouts.heartbeat=30"
    ),
    "asgid main.py": (
        "'main.py' is not a command, and an application is written module:attribute; write asgid main:app"
    ),
    "asgid main": "'main' is not a command, and an application is written module:attribute; write asgid main:app",
    "asgid main.app": (
        "'main.app' is not a command, and an application is written module:attribute; write asgid main:app"
    ),
    "asgid shop.asgi -w 2": (
        "'shop.asgi' is not a command, and an application is written module:attribute; "
        "write asgid shop.asgi:application -w 2"
    ),
    "asgid src/server.py --port 80": (
        "there is no --port; 'src/server.py' is not a command, and an application is written module:attribute; "
        "write asgid server:server --set app.directory=src -b 127.0.0.1:80"
    ),
    "asgid library/web.py": (
        "'library/web.py' is not a command, and an application is written module:attribute; write asgid library.web:app"
    ),
    "asgid factory": (
        "'factory' is not a command, and an application is written module:attribute; "
        "write asgid factory:create_app --set app.factory=true"
    ),
    "asgid two.py": "'two.py' is not a command, and an application is written module:attribute",
    "asgid broken.py": "'broken.py' is not a command, and an application is written module:attribute",
    "asgid nothing": "'nothing' is not a command, and an application is written module:attribute",
    "asgid not-a-module": "'not-a-module' is not a command, and an application is written module:attribute",
    "asgid check main.py": (
        "'main.py' is not a command, and an application is written module:attribute; write asgid check main:app"
    ),
    "asgid asgid.toml -w 2": "'asgid.toml' is a file; write asgid -c asgid.toml -w 2",
    "asgid serve main:app": "'serve' is not a command; write asgid main:app",
    "asgid run": "'run' is not a command; write asgid main:app",
    "asgid status": "'status' is not a command; ask the address at metrics.bind: curl -s 127.0.0.1:9464/status",
    "asgid reload": "'reload' is not a command; send HUP to the master: the line `running` of its log has the command",
    "asgid --config asgid.toml": "there is no --config; write asgid -c asgid.toml",
    "asgid --config gunicorn.conf.py main:app": (
        "there is no --config; asgid reads a file with -c FILE, and [app] in it names the application; "
        "write asgid main:app"
    ),
    "asgid --config python:conf main:app": (
        "there is no --config; asgid reads a file with -c FILE, and [app] in it names the application; "
        "write asgid main:app"
    ),
    "asgid main:app -k uvicorn.workers.UvicornWorker -t30": (
        "there is no -k, -t; there is one kind of worker; the application's interface is app.interface; "
        "write asgid main:app --set timeouts.heartbeat=30"
    ),
    "asgid main:app -p 8000": "there is no -p; write asgid main:app -b 127.0.0.1:8000",
    "asgid main:app -p /run/shop.pid": "there is no -p; write asgid main:app --set process.pid_file=/run/shop.pid",
    "asgid main:app --reload --no-access-log": (
        "there is no --reload, --no-access-log; asgid does not watch the code; a HUP to the master loads it, and a "
        "watcher can send that; "
        "write asgid main:app --set log.access.enabled=false"
    ),
    "asgid main:app --log-level critical": "there is no --log-level; write asgid main:app --set log.level=error",
    "asgid main:app --log-level loud": (
        'there is no --log-level; log.level does not accept "loud", so the command has an example; '
        "write asgid main:app --set log.level=info"
    ),
    "asgid main:app --log-level": "there is no --log-level; write asgid main:app --set log.level=debug",
    "asgid main:app --forwarded-allow-ips 10.0.0.1,10.0.0.2": (
        """there is no --forwarded-allow-ips; write asgid main:app --set 'proxy.trusted=["10.0.0.1", "10.0.0.2"]'"""
    ),
    "asgid main:app --env PORT=80 --env A=b": (
        """there is no --env; write asgid main:app --set 'app.env.PORT="80"' --set app.env.A=b"""
    ),
    "asgid main:app --uds /run/shop.sock --umask 22": (
        """there is no --uds, --umask; write asgid main:app -b unix:/run/shop.sock --set 'process.umask="0022"'"""
    ),
    "asgid main:app --uds-permissions 660": (
        "there is no --uds-permissions; only a socket file has permissions; write asgid main:app"
    ),
    "asgid server:server --app-dir src": "there is no --app-dir; write PYTHONPATH=src asgid server:server",
    "asgid main:app --no-server-header --factory --no-proxy-headers": (
        "there is no --no-server-header, --factory, --no-proxy-headers; write asgid main:app "
        """--set 'http.server_header=""' --set app.factory=true --set proxy.headers=none"""
    ),
    "asgid main:app --ssl-keyfile key.pem": (
        "there is no --ssl-keyfile; tls.NAME.key comes with a later version; write asgid main:app"
    ),
    "asgid main:app --zzz": "there is no --zzz; write asgid main:app",
    "asgid main:app echo:app": "only one application is allowed: echo:app",
    "asgid check": "name a file, -c FILE, or an application, module:attribute; write asgid check main:app",
    "asgid -c asgid.toml main:app": (
        "-c FILE and an application exclude each other; to override that of the file, "
        "write asgid -c asgid.toml --set app.target=main:app"
    ),
}


@pytest.mark.parametrize("line", CORRECTIONS)
def test_another_servers_command_is_corrected(line, capsys):
    """One message corrects the whole command, and the suggested command works."""
    message = refused(line, capsys)
    command = message.rpartition("; write ")[2] if "; write " in message else message.rpartition(", write ")[2]

    assert CORRECTIONS[line] == message
    if command != message:
        typed(command)


def test_without_an_application_only_the_options_are_corrected(tmp_path, monkeypatch, capsys):
    """A whole command without an application would be refused again."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")

    assert "there is no --port; write -b 127.0.0.1:80" == refused("asgid --port 80", capsys)
    assert refused("asgid check", capsys).endswith("; see asgid --help")


VALUES = ["4", "-", "/srv/shop", "127.0.0.1", "true", "shop=x", "no such value", ""]


@pytest.mark.parametrize("name", [name for name, row in file_settings().items() if row.key != "app.target"])
def test_every_option_of_another_server_is_corrected_to_a_command_that_works(name, capsys):
    """With any value, and without a value."""
    option = f"--{name.replace('_', '-')}"
    existing = {"app.directory": ["/"], "config_file": ["asgid.toml"]}
    row = file_settings()[name]
    values = existing.get(row.key or row.value, VALUES)
    for words in ([option], *([f"{option}={value}"] for value in values), [option.replace("--", "--no-", 1)]):
        message = correction(["main:app", *words], ["asgid"], lambda _: [], [])

        assert message.startswith(f"there is no {words[0].partition('=')[0]}"), words
        typed(message.rpartition("; write ")[2])


@pytest.mark.parametrize("name", file_settings())
def test_every_setting_of_another_server_is_corrected_to_a_line_that_works(name):
    """With any value: the suggested line is valid in the suggested table."""
    for value in ("4", '"30"', '"-"', '"/srv/shop"', "true", "[]", '["10.0.0.1"]'):
        try:
            config.parse(f"{APP}[workers]\n{name} = {value}\n", "f.toml")
        except ConfigError as error:
            message = str(error.problems[0])
            if found := re.search(r"; write ((\w+) = .*) in (\[.*\])$", message):
                line, key, table = found.groups()
                bind = 'bind = "unix:/run/asgid.sock"\n' if key == "mode" else ""
                app = "" if table == "[app]" else APP
                target = "" if key == "target" or app else 'target = "a:b"\n'
                config.parse(f"{app}{table}\n{bind}{target}{line}\n", "f.toml")


ADDRESSES = [
    "8000",
    "localhost",
    "::1",
    "fe80::1:80",
    "http://localhost",
    "http://0.0.0.0:80/x",
    "tcp://:80",
    "fd:0",
    "http://",
]


#: Key of asgid -> its value for 0 of another server, where 0 means the same. Names, paths and ids are not numbers.
ZEROS = {
    "limits.header_count": "32768",  # gunicorn's maximum
    "limits.header_size": "1048576",  # no limit
    "limits.request_line": "1048576",  # no limit
    "listen.bind": "127.0.0.1:0",  # the kernel chooses a port
    "log.level": "warning",  # daphne's verbosity
    "metrics.bind": "127.0.0.1:0",
    "timeouts.graceful": "0",  # at once
    "timeouts.header": "0",  # off
    "timeouts.heartbeat": "0",  # off
    "timeouts.keep_alive": "0.001",  # no keep-alive
    "timeouts.request": "0",  # off
    "websocket.ping_interval": "0",  # off
    "websocket.ping_timeout": "0",  # off
    "websocket.compression": "false",
    "workers.max_requests": "0",  # off
    "workers.max_requests_jitter": "0",
}
NUMBERS = [
    pytest.param(row, id=f"{server} {row.names[0]}")
    for server, rows in load().servers.items()
    for row in rows
    if row.key.split(".")[0] in ("limits", "metrics", "timeouts", "websocket", "workers") and not row.flag
]


@pytest.mark.parametrize("row", NUMBERS)
def test_zero_is_translated_to_its_meaning_or_refused(row):
    """In asgid 0 often disables a limit; in another server it may be the lowest limit."""
    word = translated_value(row, row.key, "0")

    assert word in ((None,) if row.zero else (ZEROS.get(row.key), None))


def test_zero_in_a_file_is_refused_if_it_means_something_else():
    with pytest.raises(ConfigError, match=r"there is no such key; 0 refuses every request in uvicorn, so leave it out"):
        config.parse(f"{APP}[limits]\nlimit_concurrency = 0\n", "test")


@pytest.mark.parametrize("word", ADDRESSES)
def test_a_wrong_address_is_corrected(word):
    with pytest.raises(ConfigError) as caught:
        config.parse(None, "", target="main:app", binds=[word])
    suggested = re.findall(r'"([^"]+)"', caught.value.problems[0].message)

    assert suggested
    for address in suggested:
        config.parse(None, "", target="main:app", binds=[address])


def test_a_list_of_addresses_is_corrected_to_one_option_for_each():
    """gunicorn accepts commas between addresses; the suggested options work as they are printed."""
    with pytest.raises(ConfigError) as caught:
        config.parse(None, "", target="main:app", binds=["127.0.0.1:8000,127.0.0.1:8001"])
    message = caught.value.problems[0].message
    words = message.partition("; write ")[2].partition(", or")[0]

    assert "-b 127.0.0.1:8000 -b 127.0.0.1:8001" == words
    settings = typed(f"asgid main:app {words}")
    assert settings is not None
    assert ["127.0.0.1:8000", "127.0.0.1:8001"] == [each.bind for each in settings.listen]


WITHOUT_QUOTES = {
    # word after the shell: the hint
    "proxy.trusted=[10.0.0.0/8]": """write --set 'proxy.trusted=["10.0.0.0/8"]'""",
    "proxy.trusted=[10.0.0.0/8, ::1]": """write --set 'proxy.trusted=["10.0.0.0/8", "::1"]'""",
    "app.env={A=b}": """write --set 'app.env={A = "b"}'""",
}


@pytest.mark.parametrize("word", WITHOUT_QUOTES)
def test_quotes_that_the_shell_has_removed_are_added(word):
    """The corrected option works as it is printed."""
    with pytest.raises(ConfigError) as caught:
        typed(f"asgid main:app --set '{word}'")
    message = str(caught.value.problems[0])

    assert message.endswith(WITHOUT_QUOTES[word])
    typed(f"asgid main:app {message.partition('; write ')[2]}")
