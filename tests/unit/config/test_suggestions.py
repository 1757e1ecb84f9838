"""Messages for keys that do not exist."""

import pytest

from asgid import config
from asgid.errors import ConfigError
from tests.settings import APP, problem, problems

REFUSED = {
    # text below [app]: part of the message
    "[timeouts]\ngracefull = 1": 'did you mean "graceful"?',
    '[timeouts]\n"keep-alive" = 1': 'did you mean "keep_alive"?',
    "[limits]\nkeep_alive = 1": "belongs in [timeouts]",
    "[log]\nloglevel = 1": 'write level = "info" in [log]',
    "[workers]\nworker_connections = 1": "write connections = 1 in [limits]",
    "[workers]\ntimeout = 1": "write heartbeat = 1 in [timeouts]",
    "[workers]\nws_max_size = 1": "write max_message = 1 in [websocket]",
    "[workers]\npreload_app = true": "each worker imports the application itself",
    "[workers]\npost_fork = 1": "there are no hooks",
    "[workers]\nzzz = true": "here are: count, threads",
    "[workers]\nhost = 'x'": 'an address is bind = "127.0.0.1:8000" in [[listen]]',
    "[http]\nheaders = []": "the application or a proxy adds response headers",
    "[timeout]\nboot = 1": 'no such table; did you mean "timeouts"?',
    "[log.acess]\nenabled = true": 'no such table; did you mean "log.access"?',
    "[zzz]\na = 1": "no such table; they are: app, listen",
}


@pytest.mark.parametrize("text", REFUSED)
def test_an_unknown_name_is_refused_with_a_suggestion(text):
    """A similar key, the right table, or asgid's name for a setting of another server."""
    found = problem(text)

    assert found.startswith("f.toml:")
    assert REFUSED[text] in found


TOP_LEVEL = {
    "workers = 4": "f.toml:1: workers: is a table; write count = 4 in [workers]",
    'listen = ":80"': "f.toml:1: listen: write [[listen]]",
    "listen = []": "f.toml:1: listen: at least one address is needed",
    'bind = ":80"': "f.toml:1: bind: there is no such key here; it belongs in [[listen]] or [metrics]",
    "host = '127.0.0.1'": 'f.toml:1: host: there is no such key; an address is bind = "127.0.0.1:8000" in [[listen]]',
    "reload = true": "f.toml:1: reload: is a table; asgid does not watch the code",
    'http = "auto"': "f.toml:1: http: is a table; asgid serves HTTP/1.1",
    "keepalive = 0": "write keep_alive = 0.001 in [timeouts]",
    "limit_max_requests = -5": "max_requests does not accept -5, so this is an example; write max_requests = ",
    "insecure_bind = ['10.0.0.1', ':80']": 'write bind = "10.0.0.1:8000" and bind = ":80", each in its own [[listen]]',
    "keepalive = 5": "f.toml:1: keepalive: there is no such key; write keep_alive = 5 in [timeouts]",
    'accesslog = "-"': 'f.toml:1: accesslog: there is no such key; write output = "stdout" in [log.access]',
    'errorlog = "-"': 'f.toml:1: errorlog: there is no such key; write output = "stderr" in [log]',
    'accesslog = "/a"': 'write output = "/a" in [log.access]',
    "limit_request_feilds = 5": "write header_count = 5 in [limits]",
    "zzz = 5": "every key stands in a table; they are: app",
    "log = 5": "f.toml:1: log: is a table: write [log] on a line of its own",
}


@pytest.mark.parametrize("line", TOP_LEVEL)
def test_a_key_outside_its_table_is_refused_with_the_table(line):
    """The files of other servers have no tables."""
    (found,) = problems(f"{line}\n{APP}")

    assert TOP_LEVEL[line] in found


PROGRAMS = {
    # (text, name of the file)
    ("import multiprocessing\nbind = ':80'", "f.conf"),
    ("bind = ':80'\nfrom os import environ", "f.conf"),
    ("def post_fork(server, worker):\n    pass", "f.conf"),
    ("workers = 2 * 4 + 1", "gunicorn.conf.py"),
}


@pytest.mark.parametrize(("text", "name"), sorted(PROGRAMS))
def test_a_python_program_has_a_message_of_its_own(text, name):
    """For a gunicorn.conf.py the message names the example file instead of a column."""
    with pytest.raises(ConfigError, match=r"looks like a Python program.*write asgid config --defaults for a file"):
        config.parse(text, name)


def test_wrong_toml_is_not_taken_for_python():
    with pytest.raises(ConfigError, match="this is not TOML: "):
        config.parse("important = 1\n# import x\nfrom = def", "f.toml")
